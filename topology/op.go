// Package topology holds what a lab is made of below LVS: networks, nodes,
// links, addresses, routes and sysctls as wished, and the Op, the one value by
// which lvslab changes a kernel.
//
// A plan is a list of ops made without touching a kernel. An op knows its key,
// the role it plays, why it is needed, where in the lab file it comes from, and
// the command line a person would type for it, so that the same list is
// applied, printed, compared and mutated.
//
// The package knows no LVS; rules of packet filters and of IPVS are ops of the
// packages above it.
package topology

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/topology/source"
)

// Key names the one thing that an op makes. Two ops with the same key are two
// wishes about the same thing.
type Key struct{ Node, Kind, ID string }

func (k Key) String() string { return k.Node + " " + k.Kind + " " + k.ID }

// Role says what an op is there for, in fine grain: leaving out all ops of one
// role is a mistake that a person could make ("arp-ignore", "tunnel-up").
type Role string

// Feature is something that a kernel must have for an op to be applied, named
// as its module is ("ip_vs_rr", "ipip", "sch_netem").
type Feature string

// Meta is what every op can say about itself.
type Meta struct {
	Key  Key
	Role Role
	// Why is a sentence for a reader of the plan, without its full stop.
	Why string
	Pos source.Pos
	// Needs are the kernel features without which the op cannot be applied.
	Needs []Feature
	// Group names an ordered chain on the node ("arp-rules"): when one member
	// changes, Diff rebuilds the whole chain. Empty for all others.
	Group string
}

// Dialect names the programs of a printed script where they differ between
// machines.
type Dialect struct {
	// Arptables is "arptables" or "arptables-legacy".
	Arptables string
	// Iptables is "iptables" or "iptables-legacy". Empty is the one that goes
	// with Arptables.
	Iptables string
}

// IptablesOf is the program for a family's rules: "iptables", "ip6tables",
// "iptables-legacy" or "ip6tables-legacy".
func (d Dialect) IptablesOf(ipv6 bool) string {
	name := d.Iptables
	if name == "" {
		name = "iptables"
		if strings.HasSuffix(d.Arptables, "-legacy") {
			name += "-legacy"
		}
	}
	if ipv6 {
		return "ip6" + strings.TrimPrefix(name, "ip")
	}
	return name
}

// Op is one change to one node's kernel.
type Op interface {
	About() Meta
	// Shell is the command lines a person would type, with the node's name as
	// the name of its network namespace. They say everything that the op
	// does: two ops with equal keys and equal Shell lines are the same.
	Shell(Dialect) []string
	// Apply brings the kernel to what the op wishes; applying twice is as
	// applying once.
	Apply(context.Context, World) error
	// Undo is the op that takes this one back. It is false where there is no
	// way back.
	Undo() (Op, bool)
}

// Batch is an op that is cheaper applied together with those of its kind and
// node that follow it than one by one: they share what each would pay for, the
// hand-over to the node's thread.
type Batch interface {
	Op
	// ApplyAll applies ops, the first of which is the receiver itself, in
	// their order.
	ApplyAll(ctx context.Context, w World, ops []Op) error
}

// ApplyAll applies ops in their order, batches together. The error is that of
// the first op that failed, at its place in the lab file.
func ApplyAll(ctx context.Context, w World, ops []Op) error {
	for len(ops) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := ops[0].About()
		n := 1
		var err error
		if b, ok := ops[0].(Batch); ok {
			for n < len(ops) && like(first.Key, ops[n]) {
				n++
			}
			err = b.ApplyAll(ctx, w, ops[:n])
		} else {
			err = ops[0].Apply(ctx, w)
		}
		if err != nil {
			if first.Pos.IsValid() {
				return fmt.Errorf("%s: %w", first.Pos, err)
			}
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func like(k Key, o Op) bool {
	_, batch := o.(Batch)
	other := o.About().Key
	return batch && other.Node == k.Node && other.Kind == k.Kind
}

// World is where ops are applied: the running nodes of one lab.
type World interface {
	// AddNode makes a node with a network namespace of its own.
	AddNode(ctx context.Context, name string) (Node, error)
	// RemoveNode ends the node's processes and lets its namespace go.
	RemoveNode(name string) error
	// Node finds a running node.
	Node(name string) (Node, error)
}

// Node is one running node.
type Node interface {
	Name() string
	// Do runs f on a thread that is in the node's network namespace. f must
	// not start goroutines that expect to be there too.
	Do(f func() error) error
	// Netlink is a route socket opened in the node's namespace; it can be used
	// from any thread.
	Netlink() *netlink.Handle
	// Index is the number of a device, ENODEV when it is not there. It is far
	// cheaper than to ask Netlink for all that is known of the device.
	Index(device string) (int, error)
	// NsFd is the node's network namespace, open for as long as the node runs.
	NsFd() int
	// StartDaemon starts a server in the node; one with the same name must not
	// be running.
	StartDaemon(ctx context.Context, d Daemon) error
	// StopDaemon stops it and returns when its sockets are closed. Stopping
	// one that does not run is no error.
	StopDaemon(name string) error
	// WriteFile makes or replaces a file in the node's own view of the files,
	// and the folders above it.
	WriteFile(name string, content []byte) error
	// RemoveFile takes it away. One that is not there is no error.
	RemoveFile(name string) error
	// Mount mounts a folder of another node in the node's own view.
	Mount(ctx context.Context, m Mount) error
	// Unmount takes it off, whether its server answers or not. A folder that
	// is not mounted is no error.
	Unmount(at string) error
}

// NetAddr is a node's interface found by its MAC address.
type NetAddr struct {
	Node, Device string
	MAC          net.HardwareAddr
}

// Same reports whether two ops with equal keys wish for the same thing.
func Same(a, b Op) bool {
	d := Dialect{Arptables: "arptables"}
	return slices.Equal(a.Shell(d), b.Shell(d))
}
