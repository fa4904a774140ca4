package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is one veth pair between a node and a network.
type Link struct {
	Lab, Network, Device string
}

type linkOp struct {
	meta Meta
	link Link
}

// NewLink is the op that connects a node's device to a network. The pair is
// made directly in the two namespaces where its ends belong.
func NewLink(m Meta, node string, l Link) Op {
	m.Key = Key{node, "link", l.Device}
	m.Role = "link"
	m.Needs = []Feature{"veth"}
	return linkOp{m, l}
}

func (o linkOp) About() Meta { return o.meta }

func (o linkOp) macs() (node, port net.HardwareAddr) {
	name := o.meta.Key.Node
	return MAC(o.link.Lab, name, o.link.Device), MAC(o.link.Lab, o.link.Network, PortName(name, o.link.Device))
}

func (o linkOp) Shell(Dialect) []string {
	node, port := o.macs()
	name := o.meta.Key.Node
	return []string{
		fmt.Sprintf("ip -n %s link add %s address %s master %s up type veth peer name %s address %s netns %s",
			o.link.Network, PortName(name, o.link.Device), port, Bridge, o.link.Device, node, name),
		fmt.Sprintf("ip -n %s link set %s up", name, o.link.Device),
	}
}

func (o linkOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	sw, err := w.Node(o.link.Network)
	if err != nil {
		return err
	}
	bridge, err := indexOf(sw, Bridge)
	if err != nil {
		return fail(o, err)
	}
	node, port := o.macs()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{
			Name: PortName(n.Name(), o.link.Device), HardwareAddr: port,
			MasterIndex: bridge, Flags: net.FlagUp, TxQLen: -1,
			Index: portIndex(port),
		},
		PeerName: o.link.Device, PeerHardwareAddr: node, PeerTxQLen: -1,
		PeerNamespace: netlink.NsFd(n.NsFd()),
	}
	err = sw.Netlink().LinkAdd(veth)
	if errors.Is(err, unix.EBUSY) { // another port has the number
		veth.Index = 0
		err = sw.Netlink().LinkAdd(veth)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(o, err)
	}
	// The other end can come up only when there are two (veth_open in
	// drivers/net/veth.c), so not by the same request.
	index, err := indexOf(n, o.link.Device)
	if err != nil {
		return fail(o, err)
	}
	return fail(o, n.Netlink().LinkSetUp(device(o.link.Device, index)))
}

// portIndex is a number for the switch's end of a link that its other end never
// has. A kernel takes a device with the number of its peer, though that is in
// another namespace, for one without a peer, and lets up to a second go by before
// it notices the carrier (linkwatch_urgent_event in net/core/link_watch.c). By
// themselves namespaces count from 1, so that the numbers meet often.
func portIndex(port net.HardwareAddr) int {
	const above = 1 << 24
	return above | int(port[3])<<16 | int(port[4])<<8 | int(port[5])
}

func (o linkOp) Undo() (Op, bool) { return linkRemoval{o}, true }

type linkRemoval struct{ linkOp }

func (o linkRemoval) Shell(Dialect) []string {
	return []string{fmt.Sprintf("ip -n %s link del %s", o.meta.Key.Node, o.link.Device)}
}

func (o linkRemoval) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	dev, err := LinkByName(n, o.link.Device)
	if err != nil {
		return fail(o, err)
	}
	return fail(o, n.Netlink().LinkDel(dev))
}
func (o linkRemoval) Undo() (Op, bool) { return o.linkOp, true }

// setOp sets something with two states on a device: up or down, a cable in or
// pulled.
type setOp struct {
	meta         Meta
	node, device string // where the device is
	up           bool
}

// NewCut is the op that pulls the cable of a node's link: the switch's end goes
// down, so the node keeps its addresses and routes and loses its carrier.
func NewCut(m Meta, node string, l Link) Op {
	m.Key = Key{node, "cable", l.Device}
	m.Role = "cut-link"
	return setOp{m, l.Network, PortName(node, l.Device), false}
}

// NewDeviceUp is the op that brings up a device which the node has by itself
// (tunl0).
func NewDeviceUp(m Meta, node, device string) Op {
	m.Key = Key{node, "device", device}
	return setOp{m, node, device, true}
}

func (o setOp) About() Meta { return o.meta }
func (o setOp) Shell(Dialect) []string {
	state := "down"
	if o.up {
		state = "up"
	}
	return []string{fmt.Sprintf("ip -n %s link set %s %s", o.node, o.device, state)}
}

func (o setOp) Apply(ctx context.Context, w World) error {
	n, err := w.Node(o.node)
	if err != nil {
		return err
	}
	dev, err := LinkByName(n, o.device)
	if err != nil {
		return fail(o, err)
	}
	if o.up {
		err = n.Netlink().LinkSetUp(dev)
	} else {
		err = n.Netlink().LinkSetDown(dev)
	}
	if err != nil {
		return fail(o, err)
	}
	if o.node != o.meta.Key.Node {
		return fail(o, o.awaitCarrier(ctx, w))
	}
	return nil
}

// carrierWait is how long the other end of a veth pair may take to notice that
// its cable was pulled or put in; the kernel does it by a work item
// (net/core/link_watch.c fires urgent events at once, others within a second).
const carrierWait = 5 * time.Second

func (o setOp) awaitCarrier(ctx context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	sw, err := w.Node(o.node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, carrierWait)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		dev, err := LinkByName(n, o.meta.Key.ID)
		if err != nil {
			return err
		}
		up := dev.Attrs().OperState == netlink.OperUp
		if up && o.up {
			// The switch's end notices by itself, too, and passes nothing on
			// before that.
			port, err := LinkByName(sw, o.device)
			if err != nil {
				return err
			}
			up = port.Attrs().OperState == netlink.OperUp
		}
		if up == o.up {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("device %s did not notice its cable within %s", o.meta.Key.ID, carrierWait)
		}
	}
}

func (o setOp) Undo() (Op, bool) {
	o.up = !o.up
	return o, true
}
