package filter

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getsockoptAt is getsockopt at another level than IPPROTO_IP.
func getsockoptAt(fd, level, opt int, buf []byte) (int, error) {
	n := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, errno
	}
	return min(int(n), len(buf)), nil
}

// replaceWithCounters is setsockopt(2) with a struct ipt_replace, whose pointer
// counters is at an offset. It returns what the old entries had counted when
// they were replaced, as an array of struct xt_counters.
func replaceWithCounters(fd, level, opt int, replace []byte, offCounters int, oldEntries uint32) ([]byte, error) {
	counters := make([]byte, max(1, oldEntries)*countersSize)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(unsafe.SliceData(counters))
	native.PutUint64(replace[offCounters:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(counters)))))
	err := unix.SetsockoptString(fd, level, opt, string(replace))
	return counters, err
}
