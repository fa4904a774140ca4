package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// roleFault is that of the ops by which something is broken.
const roleFault topology.Role = "fault"

// faulty is the ops of a plan's setup with faults laid over them. A fault whose
// link or daemon the plan has not breaks nothing.
func faulty(plan *scenarios.Plan, faults []live.Broken) ([]topology.Op, error) {
	if len(faults) == 0 {
		return plan.Setup, nil
	}
	o := &overlaid{lab: plan.Lab, ops: slices.Clone(plan.Setup)}
	o.netems(faults)
	for _, b := range faults {
		switch b.Kind {
		case live.Cut:
			o.cut(b)
		case live.Kill:
			o.omit(func(k topology.Key) bool { return k.Node == b.Node && k.Kind == "daemon" && k.ID == b.Daemon })
		case live.Hang:
			o.hang(b)
		case live.DropARP:
			if err := o.dropARP(b); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range stopped(faults) {
		o.omit(func(k topology.Key) bool { return k.Node == name })
	}
	return o.ops, nil
}

// overlaid is a list of ops in which faults are put.
type overlaid struct {
	lab *scenarios.Lab
	ops []topology.Op
}

func (o *overlaid) omit(which func(topology.Key) bool) {
	o.ops = slices.DeleteFunc(o.ops, func(op topology.Op) bool { return which(op.About().Key) })
}

func (o *overlaid) index(key topology.Key) int {
	return slices.IndexFunc(o.ops, func(op topology.Op) bool { return op.About().Key == key })
}

// put puts an op behind the last one that makes the link of its key's node, so
// that it is there from the link's first packet on. Without the link it is left
// out.
func (o *overlaid) put(op topology.Op, device string) {
	at := -1
	for i, other := range o.ops {
		k := other.About().Key
		if k.Node == op.About().Key.Node && k.ID == device && (k.Kind == "link" || k.Kind == "mtu" || k.Kind == "qdisc") {
			at = i
		}
	}
	if at >= 0 {
		o.ops = slices.Insert(o.ops, at+1, op)
	}
}

func because(b live.Broken) topology.Meta {
	return topology.Meta{Role: roleFault, Why: "broken on purpose: " + b.String()}
}

func (o *overlaid) cut(b live.Broken) {
	n, _ := o.lab.Nodes.Get(b.Node)
	link, ok := n.Links.Get(b.Device)
	if !ok || o.index(topology.Key{Node: b.Node, Kind: "cable", ID: b.Device}) >= 0 {
		return // gone, or pulled by a step
	}
	o.put(topology.NewCut(because(b), b.Node, topology.Link{Lab: o.lab.Name, Network: link.Network, Device: b.Device}), b.Device)
}

// netems puts what faults do to packets, and what the lab itself does, into one
// op for each link: a device has one such discipline.
func (o *overlaid) netems(faults []live.Broken) {
	var done []topology.Key
	for _, b := range faults {
		key := topology.Key{Node: b.Node, Kind: "qdisc", ID: b.Device}
		if b.Device == "" || b.Kind == live.Cut || slices.Contains(done, key) {
			continue
		}
		done = append(done, key)
		var own topology.Netem
		at := o.index(key)
		if at >= 0 {
			own, _ = topology.NetemOf(o.ops[at])
		}
		op := topology.NewNetem(because(b), b.Node, b.Device, combined(own, b, faults))
		if at >= 0 {
			o.ops[at] = op
		} else {
			o.put(op, b.Device)
		}
	}
}

// combined is what a lab and all faults of one's link do to it: the lab's delay
// and the fault's add up.
func combined(n topology.Netem, link live.Broken, faults []live.Broken) topology.Netem {
	late := n.Delay
	for _, b := range faults {
		if b.Node != link.Node || b.Device != link.Device {
			continue
		}
		switch b.Kind {
		case live.Delay:
			late += b.Delay
			n.Jitter = b.Jitter
		case live.Lose:
			n.Loss = b.Percent
		case live.Corrupt:
			n.Corrupt = b.Percent
		case live.Duplicate:
			n.Duplicate = b.Percent
		case live.Reorder:
			n.Reorder = b.Percent
			n.Delay = b.Delay // where nothing else delays the link
		}
	}
	if late > 0 {
		n.Delay = late
	}
	return n
}

// dropARP is the rule by which a node does not hear who asks for an address.
func dropARP(addr netip.Addr) (filter.ArpRule, error) {
	return filter.ParseArpRule(fmt.Sprintf("-A INPUT -d %s -j DROP", addr))
}

// dropARP puts the rule before all others of the node.
func (o *overlaid) dropARP(b live.Broken) error {
	addr, err := netip.ParseAddr(b.Address)
	if err != nil {
		return err
	}
	rule, err := dropARP(addr)
	if err != nil {
		return err
	}
	m := because(b)
	// No rule of the lab's has the number 0.
	op := filter.NewRule(b.Node, 0, rule, m.Role, m.Why, source.Pos{})
	at := slices.IndexFunc(o.ops, func(other topology.Op) bool {
		return other.About().Key.Node == b.Node && other.About().Group == filter.Group
	})
	if at < 0 {
		at = o.index(topology.Key{Node: b.Node, Kind: "node"}) + 1
	}
	if at > 0 {
		o.ops = slices.Insert(o.ops, at, topology.Op(op))
	}
	return nil
}

// hang puts the op before the daemon's own, so that one which is started anew
// never answers.
func (o *overlaid) hang(b live.Broken) {
	op := hangOp{meta: because(b), on: true}
	op.meta.Key = topology.Key{Node: b.Node, Kind: "hang", ID: b.Daemon}
	at := o.index(topology.Key{Node: b.Node, Kind: "daemon", ID: b.Daemon})
	if at < 0 {
		at = len(o.ops) // killed, or gone
	}
	o.ops = slices.Insert(o.ops, at, topology.Op(op))
}

// hangOp stops a daemon in its tracks, or lets it go on.
type hangOp struct {
	meta topology.Meta
	on   bool
}

// About implements topology.Op.
func (o hangOp) About() topology.Meta { return o.meta }

// Shell implements topology.Op. A daemon of the machine gets SIGSTOP, or SIGCONT;
// for one of lvslab's own there is no command.
func (o hangOp) Shell(topology.Dialect) []string {
	verb := "resume_daemon"
	if o.on {
		verb = "pause_daemon"
	}
	return []string{fmt.Sprintf("%s %s %s", verb, o.meta.Key.Node, o.meta.Key.ID)}
}

// Apply implements topology.Op.
func (o hangOp) Apply(_ context.Context, w topology.World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	hanger, ok := n.(interface {
		hang(name string, on bool) error
	})
	if !ok {
		return fmt.Errorf("node %s has no daemons that could hang", n.Name())
	}
	return hanger.hang(o.meta.Key.ID, o.on)
}

// Undo implements topology.Op.
func (o hangOp) Undo() (topology.Op, bool) {
	o.on = !o.on
	return o, true
}
