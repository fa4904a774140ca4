package topology

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge is the name of the bridge device inside a network's own namespace.
const Bridge = "br0"

// fail says which op failed on which node, in the words a person would type.
func fail(op Op, err error) error {
	if err == nil {
		return nil
	}
	cmd := strings.Join(op.Shell(Dialect{Arptables: "arptables"}), "; ")
	return fmt.Errorf("%s: %w (as by %q)", op.About().Key.Node, err, cmd)
}

// device is a device whose number is known, so that nobody need look it up.
func device(name string, index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}}
}

// indexOf is the number of a device in a node.
func indexOf(n Node, device string) (int, error) {
	i, err := n.Index(device)
	if errors.Is(err, unix.ENODEV) {
		return 0, fmt.Errorf("no device %s in node %s", device, n.Name())
	}
	if err != nil {
		return 0, fmt.Errorf("device %s in node %s: %w", device, n.Name(), err)
	}
	return i, nil
}

// dumpTries is how often a dump that the kernel interrupted is asked for again.
const dumpTries = 5

// LinkByName finds a device in a node, asking again where the kernel says that
// the answer was cut short by a change (netlink's NLM_F_DUMP_INTR).
func LinkByName(n Node, device string) (netlink.Link, error) {
	var err error
	for range dumpTries {
		var l netlink.Link
		l, err = n.Netlink().LinkByName(device)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("no device %s in node %s", device, n.Name())
	}
	return nil, fmt.Errorf("device %s in node %s: %w", device, n.Name(), err)
}

type nodeOp struct{ meta Meta }

// NewNode is the op that makes a node: a network namespace with lo up.
func NewNode(m Meta, name string) Op {
	m.Key = Key{name, "node", ""}
	m.Role = "node"
	return nodeOp{m}
}

func (o nodeOp) About() Meta { return o.meta }
func (o nodeOp) Shell(Dialect) []string {
	return []string{"ip netns add " + o.meta.Key.Node, "ip -n " + o.meta.Key.Node + " link set lo up"}
}

func (o nodeOp) Apply(ctx context.Context, w World) error {
	if _, err := w.Node(o.meta.Key.Node); err == nil {
		return nil
	}
	n, err := w.AddNode(ctx, o.meta.Key.Node)
	if err != nil {
		return err
	}
	const lo = 1 // in every namespace (include/net/flow.h, LOOPBACK_IFINDEX)
	return fail(o, n.Netlink().LinkSetUp(device("lo", lo)))
}
func (o nodeOp) Undo() (Op, bool) { return removal(o), true }

type removal struct{ meta Meta }

func (o removal) About() Meta                            { return o.meta }
func (o removal) Shell(Dialect) []string                 { return []string{"ip netns del " + o.meta.Key.Node} }
func (o removal) Apply(_ context.Context, w World) error { return w.RemoveNode(o.meta.Key.Node) }
func (o removal) Undo() (Op, bool)                       { return nodeOp(o), true }

type networkOp struct {
	meta Meta
	mac  net.HardwareAddr
}

// NewNetwork is the op that makes a network: a namespace of its own with one
// bridge in it, so that no bridge, and none of its ports, is ever seen in the
// machine's own namespace.
func NewNetwork(m Meta, name string, mac net.HardwareAddr) Op {
	m.Key = Key{name, "network", ""}
	m.Role = "network"
	m.Needs = []Feature{"bridge"}
	return networkOp{m, mac}
}

func (o networkOp) About() Meta { return o.meta }
func (o networkOp) Shell(Dialect) []string {
	name := o.meta.Key.Node
	return []string{
		"ip netns add " + name,
		fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true", name),
		fmt.Sprintf("ip -n %s link add %s up address %s type bridge mcast_snooping 0", name, Bridge, o.mac),
	}
}

func (o networkOp) Apply(ctx context.Context, w World) error {
	name := o.meta.Key.Node
	n, err := w.Node(name)
	if err != nil {
		if n, err = w.AddNode(ctx, name); err != nil {
			return err
		}
	}
	// A kernel without IPv6 has no such key, and needs none.
	if err := n.Do(func() error {
		return writeSysctl("net.ipv6.conf.default.disable_ipv6", "1", true)
	}); err != nil {
		return fail(o, err)
	}
	snooping := false
	br := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: Bridge, HardwareAddr: o.mac, Flags: net.FlagUp, TxQLen: -1},
		MulticastSnooping: &snooping,
	}
	if err := n.Netlink().LinkAdd(br); err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(o, err)
	}
	return nil
}
func (o networkOp) Undo() (Op, bool) { return networkRemoval{o}, true }

type networkRemoval struct{ networkOp }

func (o networkRemoval) Shell(Dialect) []string {
	return []string{"ip netns del " + o.meta.Key.Node}
}

func (o networkRemoval) Apply(_ context.Context, w World) error {
	return w.RemoveNode(o.meta.Key.Node)
}
func (o networkRemoval) Undo() (Op, bool) { return o.networkOp, true }
