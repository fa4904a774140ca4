package topology

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type delayOp struct {
	meta   Meta
	device string
	delay  time.Duration // 0 takes the delay away
}

// NewDelay is the op that delays all that a node sends out of a device, by
// tc-netem(8). It is how a lab decides a race.
func NewDelay(m Meta, node, device string, d time.Duration) Op {
	m.Key = Key{node, "qdisc", device}
	m.Role = "delay"
	m.Needs = []Feature{"sch_netem"}
	return delayOp{m, device, d}
}

func (o delayOp) About() Meta { return o.meta }
func (o delayOp) Shell(Dialect) []string {
	if o.delay == 0 {
		return []string{fmt.Sprintf("tc -n %s qdisc del dev %s root", o.meta.Key.Node, o.device)}
	}
	return []string{fmt.Sprintf("tc -n %s qdisc replace dev %s root handle 1: netem delay %dus", o.meta.Key.Node, o.device, o.delay.Microseconds())}
}

func (o delayOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	dev, err := LinkByName(n, o.device)
	if err != nil {
		return fail(o, err)
	}
	attrs := netlink.QdiscAttrs{LinkIndex: dev.Attrs().Index, Parent: netlink.HANDLE_ROOT}
	if o.delay == 0 {
		err = n.Netlink().QdiscDel(&netlink.GenericQdisc{QdiscAttrs: attrs})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			err = nil // none was there
		}
		return fail(o, err)
	}
	attrs.Handle = netlink.MakeHandle(1, 0)
	q := netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(o.delay.Microseconds())})
	return fail(o, n.Netlink().QdiscReplace(q))
}

func (o delayOp) Undo() (Op, bool) {
	o.delay = 0
	return o, true
}
