package ipvs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The part of the generic-netlink interface that is about IPVS as a whole
// (linux/ip_vs.h).
const (
	cmdSetConfig = 12 // IPVS_CMD_SET_CONFIG
	cmdGetConfig = 13 // IPVS_CMD_GET_CONFIG
	cmdGetInfo   = 15 // IPVS_CMD_GET_INFO
	cmdZero      = 16 // IPVS_CMD_ZERO

	attrTimeoutTCP    = 4 // IPVS_CMD_ATTR_TIMEOUT_TCP, seconds
	attrTimeoutTCPFin = 5 // IPVS_CMD_ATTR_TIMEOUT_TCP_FIN
	attrTimeoutUDP    = 6 // IPVS_CMD_ATTR_TIMEOUT_UDP

	infoVersion   = 1 // IPVS_INFO_ATTR_VERSION
	infoTableSize = 2 // IPVS_INFO_ATTR_CONN_TAB_SIZE
)

// Info asks which IPVS this is.
func (c *Conn) Info(ctx context.Context) (Info, error) {
	var i Info
	err := c.call(ctx, func() (err error) {
		i, err = c.door.info()
		return err
	})
	if err != nil {
		return i, c.fail("-v", err, meaning{})
	}
	return i, nil
}

// Timeouts reads how long connections are remembered.
func (c *Conn) Timeouts(ctx context.Context) (Timeouts, error) {
	var t Timeouts
	err := c.call(ctx, func() (err error) {
		t, err = c.door.timeouts()
		return err
	})
	if err != nil {
		return t, c.fail("-L --timeout", err, meaning{})
	}
	return t, nil
}

// SetTimeouts sets those of t that are not 0. Connections that are there keep
// the timer that they have until their next packet.
func (c *Conn) SetTimeouts(ctx context.Context, t Timeouts) error {
	if err := t.Validate(); err != nil {
		return fmt.Errorf("%s: %w", c.node, err)
	}
	rule := "--set " + t.String()
	if err := c.call(ctx, func() error { return c.door.setTimeouts(t) }); err != nil {
		return c.fail(rule, err, meaning{})
	}
	got, err := c.Timeouts(ctx)
	if err != nil {
		return err
	}
	for _, p := range [][2]time.Duration{{t.TCP, got.TCP}, {t.TCPFin, got.TCPFin}, {t.UDP, got.UDP}} {
		if p[0] != 0 && p[0] != p[1] {
			return c.unbelieved(rule, "the timeouts are "+got.String())
		}
	}
	return nil
}

// Zero sets the counters of s and its real servers to zero, of all services and
// the total when s is nil. The counts of connections stay, and so do those that
// Stats reads, which the kernel never resets.
func (c *Conn) Zero(ctx context.Context, s *Service) error {
	rule := "-Z"
	var about meaning
	if s != nil {
		n := s.Normal()
		s = &n
		rule += " " + serviceRule(n)
		about.service = n
	}
	if err := c.call(ctx, func() error { return c.door.zero(s) }); err != nil {
		return c.fail(rule, err, about)
	}
	return nil
}

func (g *genl) info() (Info, error) {
	a, err := g.ask(cmdGetInfo)
	return Info{Version: a.u32(infoVersion), TableSize: int(a.u32(infoTableSize))}, err
}

func (g *genl) timeouts() (Timeouts, error) {
	a, err := g.ask(cmdGetConfig)
	seconds := func(attr uint16) time.Duration { return time.Duration(a.u32(attr)) * time.Second }
	return Timeouts{TCP: seconds(attrTimeoutTCP), TCPFin: seconds(attrTimeoutTCPFin), UDP: seconds(attrTimeoutUDP)}, err
}

func (g *genl) setTimeouts(t Timeouts) error {
	attr := func(kind int, d time.Duration) *nl.RtAttr {
		return nl.NewRtAttr(kind, nl.Uint32Attr(uint32(d/time.Second))) //nolint:gosec // validated
	}
	return g.send(cmdSetConfig, attr(attrTimeoutTCP, t.TCP), attr(attrTimeoutTCPFin, t.TCPFin), attr(attrTimeoutUDP, t.UDP))
}

func (g *genl) zero(s *Service) error {
	if s == nil {
		return g.send(cmdZero)
	}
	return g.send(cmdZero, serviceAttr(*s))
}

// send sends a command that is answered by success or an error number alone.
func (g *genl) send(cmd uint8, data ...nl.NetlinkRequestData) error {
	req := g.request(g.family, cmd, genlVersion, unix.NLM_F_ACK)
	for _, d := range data {
		req.AddData(d)
	}
	_, err := req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

// ask sends a command that is answered by one message.
func (g *genl) ask(cmd uint8) (attrs, error) {
	msgs, err := g.request(g.family, cmd, genlVersion, unix.NLM_F_ACK).Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, errors.New("IPVS answered nothing")
	}
	return parseAttrs(msgs[0], nl.SizeofGenlmsg)
}
