package netns

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// HangUp closes a connection, and tells the other end so at once. A process that
// is being started has a copy of every descriptor until it becomes another
// program, and a connection that is only closed would stay open for that while:
// tens of milliseconds in User-Mode Linux, in which a balancer counts it as
// active.
func HangUp(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // one that is broken is closed all the same
	} else if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_STREAM {
					_ = unix.Shutdown(int(fd), unix.SHUT_WR)
				}
			})
		}
	}
	return c.Close()
}
