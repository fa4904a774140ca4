package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The part of the generic-netlink interface that is about sync daemons
// (linux/ip_vs.h).
const (
	cmdNewDaemon = 9  // IPVS_CMD_NEW_DAEMON
	cmdDelDaemon = 10 // IPVS_CMD_DEL_DAEMON
	cmdGetDaemon = 11 // IPVS_CMD_GET_DAEMON

	attrDaemon = 3 // IPVS_CMD_ATTR_DAEMON

	daemonState     = 1 // IPVS_DAEMON_ATTR_STATE
	daemonInterface = 2 // IPVS_DAEMON_ATTR_MCAST_IFN
	daemonSyncID    = 3 // IPVS_DAEMON_ATTR_SYNC_ID
	daemonMaxLength = 4 // IPVS_DAEMON_ATTR_SYNC_MAXLEN
	daemonGroup     = 5 // IPVS_DAEMON_ATTR_MCAST_GROUP
	daemonGroup6    = 6 // IPVS_DAEMON_ATTR_MCAST_GROUP6
	daemonPort      = 7 // IPVS_DAEMON_ATTR_MCAST_PORT, the machine's order
	daemonTTL       = 8 // IPVS_DAEMON_ATTR_MCAST_TTL
)

// Daemons lists the sync daemons that run, the master first.
func (c *Conn) Daemons(ctx context.Context) ([]SyncDaemon, error) {
	var out []SyncDaemon
	err := c.call(ctx, func() (err error) {
		out, err = c.door.daemons(ctx)
		return err
	})
	if err != nil {
		return nil, c.fail("-L --daemon", err, meaning{})
	}
	slices.SortFunc(out, func(a, b SyncDaemon) int { return int(a.State) - int(b.State) })
	return out, nil
}

// StartDaemon makes a daemon as d has it run: one of the same state that is
// set otherwise is stopped first. The interface must be up, and for an IPv4
// group have an IPv4 address.
func (c *Conn) StartDaemon(ctx context.Context, d SyncDaemon) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%s: %w", c.node, err)
	}
	rule := "--start-daemon " + d.String()
	have, err := c.daemon(ctx, d.State)
	if err != nil {
		return err
	}
	if have != nil {
		if have.Satisfies(d) {
			return nil
		}
		if err := c.StopDaemon(ctx, d.State); err != nil {
			return err
		}
	}
	err = c.call(ctx, func() error { return c.door.startDaemon(d) })
	if err != nil {
		return c.failDaemon(rule, d, err)
	}
	got, err := c.daemon(ctx, d.State)
	switch {
	case err != nil:
		return err
	case got == nil:
		return c.unbelieved(rule, "no such daemon runs")
	case !got.Satisfies(d):
		return c.unbelieved(rule, "it is now "+got.String())
	}
	return nil
}

// failDaemon says what an error number means when a daemon is started.
func (c *Conn) failDaemon(rule string, d SyncDaemon, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.ENODEV):
		hint = fmt.Sprintf(": there is no interface %s, or it is not up", d.Interface)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		hint = fmt.Sprintf(": %s has no address to send from; give it one first", d.Interface)
	case errors.Is(err, unix.EINVAL):
		hint = ": a real server is of another address family than its service, which sync messages cannot say"
	}
	return c.fail(rule, fmt.Errorf("%w%s", err, hint), meaning{})
}

// StopDaemon stops the daemon of that state; none running is no error.
func (c *Conn) StopDaemon(ctx context.Context, s SyncState) error {
	rule := "--stop-daemon " + s.String()
	err := c.call(ctx, func() error { return c.door.stopDaemon(s) })
	// A daemon that was stopped before it first ran is EINTR (kthread_stop in
	// kernel/kthread.c); reading back tells.
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINTR) {
		return c.fail(rule, err, meaning{})
	}
	got, err := c.daemon(ctx, s)
	if err == nil && got != nil {
		err = c.unbelieved(rule, "it still runs")
	}
	return err
}

// daemon is the running daemon of that state, or nil.
func (c *Conn) daemon(ctx context.Context, s SyncState) (*SyncDaemon, error) {
	all, err := c.Daemons(ctx)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(d SyncDaemon) bool { return d.State == s }); i >= 0 {
		return &all[i], nil
	}
	return nil, nil
}

func (g *genl) daemons(ctx context.Context) ([]SyncDaemon, error) {
	msgs, err := g.dump(ctx, cmdGetDaemon)
	if err != nil {
		return nil, err
	}
	var out []SyncDaemon
	for _, msg := range msgs {
		attrs, err := nestedAttrs(msg, attrDaemon)
		if err != nil {
			return nil, err
		}
		out = append(out, attrs.daemon())
	}
	return out, nil
}

func (g *genl) startDaemon(d SyncDaemon) error { return g.send(cmdNewDaemon, daemonAttr(d)) }

func (g *genl) stopDaemon(s SyncState) error {
	attr := nl.NewRtAttr(attrDaemon, nil)
	attr.AddRtAttr(daemonState, nl.Uint32Attr(uint32(s)))
	return g.send(cmdDelDaemon, attr)
}

func daemonAttr(d SyncDaemon) *nl.RtAttr {
	d = d.Normal()
	attr := nl.NewRtAttr(attrDaemon, nil)
	attr.AddRtAttr(daemonState, nl.Uint32Attr(uint32(d.State)))
	attr.AddRtAttr(daemonInterface, nl.ZeroTerminated(d.Interface))
	attr.AddRtAttr(daemonSyncID, nl.Uint32Attr(uint32(d.SyncID)))
	if d.MaxLength != 0 {
		attr.AddRtAttr(daemonMaxLength, nl.Uint16Attr(uint16(d.MaxLength))) //nolint:gosec // validated
	}
	group := uint16(daemonGroup)
	if d.Group.Is6() {
		group = daemonGroup6
	}
	attr.AddRtAttr(int(group), d.Group.AsSlice())
	port := make([]byte, 2)
	binary.NativeEndian.PutUint16(port, d.Port)
	attr.AddRtAttr(daemonPort, port)
	attr.AddRtAttr(daemonTTL, nl.Uint8Attr(d.TTL))
	return attr
}

func (a attrs) daemon() SyncDaemon {
	d := SyncDaemon{
		State:     SyncState(a.u32(daemonState)), //nolint:gosec // 1 or 2
		Interface: a.text(daemonInterface),
		SyncID:    uint8(a.u32(daemonSyncID)), //nolint:gosec // 0 to 255
		MaxLength: int(a.u16(daemonMaxLength)),
		Port:      a.u16(daemonPort),
		TTL:       a.u8(daemonTTL),
	}
	if raw := a[daemonGroup]; len(raw) >= 4 {
		d.Group = netip.AddrFrom4([4]byte(raw))
	}
	if raw := a[daemonGroup6]; len(raw) >= 16 {
		d.Group = netip.AddrFrom16([16]byte(raw))
	}
	return d
}
