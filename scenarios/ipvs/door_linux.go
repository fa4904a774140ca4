package ipvs

import (
	"context"
	"fmt"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// door is one of the two ways to the kernel's IPVS. Both speak of the same
// table, and each is a socket of the namespace in which it was opened.
//
// Generic netlink takes all that IPVS can do, and takes orders only in the
// machine's first user namespace. The older socket options ask for CAP_NET_ADMIN
// in the user namespace that owns the network namespace, and know less
// (ErrLegacy).
type door interface {
	services(ctx context.Context) ([]Service, error)
	// destinations are in the order in which they were added.
	destinations(ctx context.Context, s Service) ([]Destination, error)
	changeService(v verb, s Service) error
	changeDestination(v verb, s Service, d Destination) error
	flush() error
	info() (Info, error)
	timeouts() (Timeouts, error)
	setTimeouts(t Timeouts) error
	daemons(ctx context.Context) ([]SyncDaemon, error)
	startDaemon(d SyncDaemon) error
	stopDaemon(s SyncState) error
	// zero is of one service, or of all when s is nil.
	zero(s *Service) error
	traffic(ctx context.Context) ([]Traffic, error)
	close()
}

// verb is what to do with a service or a real server.
type verb uint8

const (
	add verb = iota
	edit
	remove
)

// option is ipvsadm's for a service, and in lower case for a real server.
func (v verb) option() string { return [...]string{"A", "E", "D"}[v] }

// firstUserNamespace is the inode of the machine's first user namespace
// (PROC_USER_INIT_INO in linux/proc_ns.h, USER_NS_INIT_INO in linux/nsfs.h).
const firstUserNamespace = 0xEFFFFFFD

// openDoor opens the better way of those that are allowed, in the calling
// thread's network namespace.
func openDoor() (door, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &st); err == nil && st.Ino != firstUserNamespace {
		return openSockopt()
	}
	return openNetlink()
}

// netlinkDoor is the way by generic netlink: moby/ipvs where it knows all that
// is said, a client of our own for the rest.
type netlinkDoor struct {
	*genl
	write *moby.Handle
}

func openNetlink() (door, error) {
	g, err := openGenl()
	if err != nil {
		return nil, err
	}
	h, err := openMoby()
	if err != nil {
		g.close()
		return nil, err
	}
	return &netlinkDoor{g, h}, nil
}

func (n *netlinkDoor) close() {
	n.genl.close()
	n.write.Close()
}

func (n *netlinkDoor) changeService(v verb, s Service) error {
	m := mobyService(s)
	switch v {
	case add:
		return n.write.NewService(m)
	case edit:
		return n.write.UpdateService(m)
	case remove:
		return n.write.DelService(m)
	}
	return fmt.Errorf("no such verb: %d", v)
}

func (n *netlinkDoor) changeDestination(v verb, s Service, d Destination) error {
	if d.TunType != IPIP || familyOf(d.Addr.Addr()) != s.AddrFamily() {
		return n.change([...]uint8{cmdNewDest, cmdSetDest, cmdDelDest}[v], s, d)
	}
	ms, md := mobyService(s), mobyDestination(d)
	switch v {
	case add:
		return n.write.NewDestination(ms, md)
	case edit:
		return n.write.UpdateDestination(ms, md)
	case remove:
		return n.write.DelDestination(ms, md)
	}
	return fmt.Errorf("no such verb: %d", v)
}

func (n *netlinkDoor) flush() error { return n.write.Flush() }
