package ipvs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

// ErrNoIPVS means that this kernel has no IPVS: ip_vs is neither built in nor
// loaded.
var ErrNoIPVS = errors.New("this kernel has no IPVS; as root of the machine: modprobe ip_vs")

// callTimeout bounds one request to the kernel, which answers in microseconds.
// A context may bound it tighter.
const callTimeout = 5 * time.Second

// Conn is the IPVS table of one node. Its sockets belong to the node's
// namespace, so it can be used from any thread, by one goroutine at a time.
type Conn struct {
	node string
	// door goes when a call does not end in time, and every later call fails.
	door door
	dead error
}

// Open opens the door to n's table. It fails with ErrNoIPVS where the kernel
// has none. In a user namespace of one's own the table is reached by an older
// interface that knows less: what it cannot do fails with ErrLegacy. Close it.
func Open(n topology.Node) (*Conn, error) { return openBy(n, openDoor) }

// openBy opens a door of n's. A test chooses which.
func openBy(n topology.Node, open func() (door, error)) (*Conn, error) {
	c := &Conn{node: n.Name()}
	err := n.Do(func() (err error) {
		c.door, err = open()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: IPVS: %w", n.Name(), err)
	}
	return c, nil
}

// Close closes the sockets.
func (c *Conn) Close() { c.door.close() }

// primeMoby is done once a process: moby/ipvs, at its first use, runs modprobe
// and looks for the generic-netlink family, and keeps what it found for ever.
//
//nolint:gochecknoglobals // it guards a global of another package
var primeMoby sync.Once

// openMoby opens moby's handle in the calling thread's namespace. The kernel is
// known to have IPVS by now, so modprobe has nothing to load, and its absence
// (in a guest) is nothing to complain of: moby's complaint goes to the logger
// that logrus shares with the whole program, which is silent for that one call.
func openMoby() (*moby.Handle, error) {
	primeMoby.Do(func() {
		level := logrus.GetLevel()
		logrus.SetLevel(logrus.PanicLevel)
		defer logrus.SetLevel(level)
		if h, err := moby.New(""); err == nil {
			h.Close()
		}
	})
	return moby.New("")
}

// Table reads the whole table: services in canonical order, their real servers
// in the order in which they were added, with their counts of connections.
func (c *Conn) Table(ctx context.Context) (Table, error) {
	var t Table
	err := c.call(ctx, func() error {
		services, err := c.door.services(ctx)
		if err != nil {
			return err
		}
		for _, s := range services {
			ds, err := c.door.destinations(ctx, s)
			if err != nil {
				return err
			}
			t = append(t, Entry{Service: s, Destinations: ds})
		}
		return nil
	})
	if err != nil {
		return nil, c.fail("-S -n", err, meaning{})
	}
	slices.SortFunc(t, func(a, b Entry) int { return compareServices(a.Service, b.Service) })
	return t, nil
}

// Only reads what the table has of one service: its entry alone, or nothing.
func (c *Conn) Only(ctx context.Context, s Service) (Table, error) {
	found, err := c.service(ctx, s)
	if err != nil || found == nil {
		return nil, err
	}
	e := Entry{Service: *found}
	err = c.call(ctx, func() (err error) {
		e.Destinations, err = c.door.destinations(ctx, e.Service)
		return err
	})
	if err != nil {
		return nil, c.fail("-S -n", err, meaning{})
	}
	return Table{e}, nil
}

// AddService adds a service that is not there.
func (c *Conn) AddService(ctx context.Context, s Service) error {
	return c.setService(ctx, add, s)
}

// EditService sets a service that is there as s has it.
func (c *Conn) EditService(ctx context.Context, s Service) error {
	return c.setService(ctx, edit, s)
}

// PutService adds a service, or edits it when it is there.
func (c *Conn) PutService(ctx context.Context, s Service) error {
	err := c.AddService(ctx, s)
	if errors.Is(err, unix.EEXIST) {
		return c.EditService(ctx, s)
	}
	return err
}

func (c *Conn) setService(ctx context.Context, v verb, s Service) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("%s: %w", c.node, err)
	}
	s = s.Normal()
	rule := "-" + v.option() + " " + serviceRule(s) + " " + serviceOptions(s)
	err := c.call(ctx, func() error { return c.door.changeService(v, s) })
	if err != nil {
		return c.fail(rule, err, meaning{service: s})
	}
	got, err := c.service(ctx, s)
	switch {
	case err != nil:
		return err
	case got == nil:
		return c.unbelieved(rule, "the service is not there")
	case !got.Equal(s):
		return c.unbelieved(rule, "it is now "+serviceOptions(*got))
	}
	return nil
}

// DelService takes a service away, and its real servers with it.
func (c *Conn) DelService(ctx context.Context, s Service) error {
	s = s.Normal()
	rule := "-D " + serviceRule(s)
	err := c.call(ctx, func() error { return c.door.changeService(remove, s) })
	if err != nil {
		return c.fail(rule, err, meaning{service: s})
	}
	got, err := c.service(ctx, s)
	if err == nil && got != nil {
		err = c.unbelieved(rule, "the service is still there")
	}
	return err
}

// dropService is DelService of a service that may be gone already.
func (c *Conn) dropService(ctx context.Context, s Service) error {
	if err := c.DelService(ctx, s); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// service reads one service back; nil when it is not there.
func (c *Conn) service(ctx context.Context, s Service) (*Service, error) {
	var all []Service
	err := c.call(ctx, func() (err error) {
		all, err = c.door.services(ctx)
		return err
	})
	if err != nil {
		return nil, c.fail("-S -n", err, meaning{})
	}
	if i := slices.IndexFunc(all, s.Same); i >= 0 {
		return &all[i], nil
	}
	return nil, nil
}

// AddDestination adds a real server that is not there to a service that is.
func (c *Conn) AddDestination(ctx context.Context, s Service, d Destination) error {
	return c.setDestination(ctx, add, s, d)
}

// EditDestination sets a real server that is there as d has it.
func (c *Conn) EditDestination(ctx context.Context, s Service, d Destination) error {
	return c.setDestination(ctx, edit, s, d)
}

// PutDestination adds a real server, or edits it when it is there.
func (c *Conn) PutDestination(ctx context.Context, s Service, d Destination) error {
	err := c.AddDestination(ctx, s, d)
	if errors.Is(err, unix.EEXIST) {
		return c.EditDestination(ctx, s, d)
	}
	return err
}

func (c *Conn) setDestination(ctx context.Context, v verb, s Service, d Destination) error {
	s = s.Normal()
	d = d.For(s)
	if err := d.Validate(s); err != nil {
		return fmt.Errorf("%s: %w", c.node, err)
	}
	rule := fmt.Sprintf("-%s %s -r %v %s", strings.ToLower(v.option()), serviceRule(s), d.Addr, destinationOptions(d))
	if err := c.call(ctx, func() error { return c.door.changeDestination(v, s, d) }); err != nil {
		return c.fail(rule, err, meaning{service: s, destination: &d})
	}
	got, err := c.destination(ctx, s, d)
	switch {
	case err != nil:
		return err
	case got == nil:
		return c.unbelieved(rule, "the real server is not there")
	case !got.Equal(d):
		return c.unbelieved(rule, "it is now "+destinationOptions(*got))
	}
	return nil
}

// DelDestination takes a real server away. Of d, its address counts; where the
// service has no real server with d's port, and d is no NAT one, it is the one
// with the service's port.
func (c *Conn) DelDestination(ctx context.Context, s Service, d Destination) error {
	s = s.Normal()
	if there, err := c.destination(ctx, s, d); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	} else if there == nil {
		d = d.For(s)
	}
	rule := delDestinationRule(s, d)
	if err := c.call(ctx, func() error { return c.door.changeDestination(remove, s, d) }); err != nil {
		return c.fail(rule, err, meaning{service: s, destination: &d})
	}
	got, err := c.destination(ctx, s, d)
	if err == nil && got != nil {
		err = c.unbelieved(rule, "the real server is still there")
	}
	return err
}

// dropDestination is DelDestination of a real server that may be gone already.
func (c *Conn) dropDestination(ctx context.Context, s Service, d Destination) error {
	err := c.DelDestination(ctx, s, d)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// destination reads one real server back; nil when it is not there.
func (c *Conn) destination(ctx context.Context, s Service, d Destination) (*Destination, error) {
	e := Entry{Service: s}
	err := c.call(ctx, func() (err error) {
		e.Destinations, err = c.door.destinations(ctx, s)
		return err
	})
	if err != nil {
		return nil, c.fail("-S -n", err, meaning{service: s})
	}
	got, _ := e.Find(d)
	return got, nil
}

// Flush empties the table.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.call(ctx, c.door.flush); err != nil {
		return c.fail("-C", err, meaning{})
	}
	t, err := c.Table(ctx)
	if err == nil && len(t) > 0 {
		err = c.unbelieved("-C", fmt.Sprintf("%d services are still there", len(t)))
	}
	return err
}

// call runs f, which speaks to the kernel, until the context ends or
// callTimeout is over. Then the sockets are closed, which ends f: moby/ipvs
// alone would try a receive that times out again for ever.
func (c *Conn) call(ctx context.Context, f func() error) error {
	if c.dead != nil {
		return c.dead
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	inTime := context.AfterFunc(ctx, c.Close)
	err := f()
	if inTime() {
		return err
	}
	c.dead = fmt.Errorf("closed, for an earlier call did not end: %w", ctx.Err())
	return fmt.Errorf("the kernel did not answer in time: %w", ctx.Err())
}

func mobyService(s Service) *moby.Service {
	m := &moby.Service{
		FWMark:        s.FWMark,
		AddressFamily: rawFamily(s.AddrFamily()),
		SchedName:     s.Scheduler,
		Netmask:       rawNetmask(s),
		PEName:        s.PE,
	}
	if s.FWMark == 0 {
		m.Protocol = uint16(s.Protocol)
		m.Address = s.Addr.Addr().AsSlice()
		m.Port = s.Addr.Port()
	}
	m.Flags, _ = flagBits(s.Scheduler, s.Flags) // validated
	if s.OnePacket {
		m.Flags |= flagOnePacket
	}
	if s.Persistent() {
		m.Flags |= flagPersistent
		m.Timeout = uint32(s.Timeout / time.Second) //nolint:gosec // validated, at most 31 days
	}
	return m
}

func mobyDestination(d Destination) *moby.Destination {
	return &moby.Destination{
		Address:         d.Addr.Addr().AsSlice(),
		Port:            d.Addr.Port(),
		AddressFamily:   rawFamily(familyOf(d.Addr.Addr())),
		Weight:          d.Weight,
		ConnectionFlags: d.Forward.raw(),
		UpperThreshold:  d.Upper,
		LowerThreshold:  d.Lower,
	}
}
