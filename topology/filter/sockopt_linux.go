package filter

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getsockopt is getsockopt(2) at IPPROTO_IP with a buffer that is read and
// written, which x/sys has for no bytes of one's own: arp_tables wants a
// table's name in it. It returns how many bytes are filled.
func getsockopt(fd, opt int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(opt),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, errno
	}
	return min(int(n), len(buf)), nil
}

// setReplace is setsockopt(2) with a struct arpt_replace, whose pointer
// counters is set here: the kernel writes the old table's counters there and
// warns on the console when it cannot. They are not wanted and let go.
func setReplace(fd, opt int, replace []byte, oldEntries uint32) error {
	counters := make([]byte, max(1, oldEntries)*countersSize)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(unsafe.SliceData(counters))
	native.PutUint64(replace[offReplaceCounters:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(counters)))))
	return unix.SetsockoptString(fd, unix.IPPROTO_IP, opt, string(replace))
}
