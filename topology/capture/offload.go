package capture

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of ethtool's ioctl that take one value (linux/ethtool.h).
const (
	ethtoolSTXCSUM = 0x17 // ETHTOOL_STXCSUM
	ethtoolSGRO    = 0x2c // ETHTOOL_SGRO
)

// stopOffloads makes a device's packets those that a cable would carry: each
// with its checksum and none larger than the MTU. It is what
//
//	ethtool -K DEVICE tx off gro off
//
// does; the kernel drops segmentation (TSO) by itself where it may not leave
// the checksum to the device (netdev_fix_features in net/core/dev.c).
func stopOffloads(fd int, device string) error {
	for _, command := range []uint32{ethtoolSTXCSUM, ethtoolSGRO} {
		value := struct{ command, data uint32 }{command, 0} // struct ethtool_value
		var req struct {                                    // struct ifreq, with its pointer
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [24 - unsafe.Sizeof(uintptr(0))]byte
		}
		copy(req.name[:unix.IFNAMSIZ-1], device)
		req.data = unsafe.Pointer(&value)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		runtime.KeepAlive(&value)
		if errno != 0 && !errors.Is(errno, unix.EOPNOTSUPP) { // nothing to turn off
			return fmt.Errorf("turn off the device's offloads: %w", errno)
		}
	}
	return nil
}
