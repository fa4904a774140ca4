package netns

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Index is the number of a device, as if_nametoindex(3) finds it: one system
// call, on whatever thread it is called. A device that is not there is ENODEV.
func (n *Namespace) Index(device string) (int, error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("%q cannot be the name of a device", device)
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.fd < 0 {
		return 0, n.errorf("%w", ErrClosed)
	}
	if err := unix.IoctlIfreq(n.ask, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(int32(req.Uint32())), nil
}

// openAsk opens the socket of Index on the calling thread's namespace: any
// socket asks in the one that it was made in.
func openAsk() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	return fd, nil
}
