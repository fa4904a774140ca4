package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/tools"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

// sharedKernel is what the nodes of a living lab have of their kernel: modules,
// and the tunnels that come with them.
type sharedKernel struct {
	load func(ctx context.Context, module string) (known bool, err error) // Host.Load
	// tunnels says that nodes get tunl0 and its like by being given one, and not
	// by themselves, so that each has it or has it not.
	tunnels bool
	control *control
	// prepare loads what is to be at hand, once, and returns when it is there.
	prepare func()

	mu     sync.Mutex
	wanted map[fallback]bool // what nodes have from their beginning
}

// fallbackTunnels decides whether each new network namespace gets tunl0, gre0
// and the like by itself. It is the initial namespace's
// (Documentation/admin-guide/sysctl/net.rst).
const fallbackTunnels = "/proc/sys/net/core/fb_tunnels_only_for_init_net"

// tunl0 is the device that unwraps IPIP, whoever sent it; module ipip brings it.
// gre0 is that of GRE.
const (
	tunl0 = "tunl0"
	gre0  = "gre0"
)

// givenFallbacks are the devices that nodes are given.
func givenFallbacks() []string { return []string{tunl0, gre0} }

// fallback is such a device in a node.
type fallback struct{ node, device string }

// otherFallbacks are the devices that modules of tunnels bring beside tunl0. A
// lab that comes up with one, or whose steps use one, has all of them in all its
// nodes, as its kernel makes them.
func otherFallbacks() []string {
	return []string{"gre0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"}
}

// atHand are features that a machine's kernel would load when a program asks for
// them. A guest's kernel asks nobody, so they are loaded before a program runs,
// those that it has. Together they take some 40 ms, for which a lab that comes up
// does not wait.
func atHand() []topology.Feature {
	list := []topology.Feature{"overlay", "ip_vs", filter.Feature}
	for _, s := range []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"} {
		list = append(list, topology.Feature("ip_vs_"+s))
	}
	return list
}

// loadAtHand loads the features that are to be at hand. What cannot be loaded is
// for the program that needs it to miss.
func (l *Live) loadAtHand() {
	for _, f := range atHand() {
		if _, err := l.host.Ensure(context.Background(), []topology.Feature{f}); err != nil {
			l.log.note("", "%v", err)
		}
	}
}

// newWorld is a world for a living lab.
func (l *Live) newWorld() (*world, error) {
	w := newWorld()
	k := &sharedKernel{load: l.host.Load, control: newControl(l), prepare: func() {}, wanted: make(map[fallback]bool)}
	w.kernel = k
	if k.load == nil {
		return w, nil
	}
	k.prepare = sync.OnceFunc(l.loadAtHand)
	k.tunnels = !slices.ContainsFunc(otherFallbacks(), func(d string) bool {
		return len(nodesWith(l.plan.Setup, d)) > 0 ||
			slices.ContainsFunc(l.plan.Steps, func(s scenarios.Step) bool { return len(nodesWith(s.State, d)) > 0 })
	})
	value := "0"
	if k.tunnels {
		value = "1"
	}
	if err := os.WriteFile(fallbackTunnels, []byte(value), 0); err != nil {
		return nil, fmt.Errorf("keep tunnels apart: %w", err)
	}
	return w, nil
}

// nodesWith are the nodes in which ops have to do with a device.
func nodesWith(ops []topology.Op, device string) []string {
	var nodes []string
	for _, op := range ops {
		about := op.About().Key
		if slices.Contains(nodes, about.Node) {
			continue
		}
		for _, line := range op.Shell(topology.Dialect{Arptables: "arptables"}) {
			if mentions(line, device) {
				nodes = append(nodes, about.Node)
				break
			}
		}
	}
	return nodes
}

// mentions reports whether a command line has a device's name in it, by itself
// or as a part of a sysctl's.
func mentions(line, device string) bool {
	return slices.Contains(strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" ./='\"", r) }), device)
}

// apply does ops. Nodes that they want tunl0 or its like in get it first.
func (w *world) apply(ctx context.Context, ops []topology.Op) error {
	if k := w.kernel; k != nil && k.tunnels {
		for _, device := range givenFallbacks() {
			for _, name := range nodesWith(ops, device) {
				k.mu.Lock()
				k.wanted[fallback{name, device}] = true
				k.mu.Unlock()
				n, err := w.live(name)
				if err != nil {
					continue // the ops make it, and AddNode the tunnel
				}
				if err := n.addFallback(device); err != nil {
					return err
				}
			}
		}
	}
	return topology.ApplyAll(ctx, w, ops)
}

// furnish gives a node that is made what a living lab's nodes have. The world is
// locked.
func (k *sharedKernel) furnish(w *world, n *liveNode) error {
	n.files.SetToolbox(func() node.Toolbox { return k.control.toolbox(w, n.name) })
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, device := range givenFallbacks() {
		if !k.wanted[fallback{n.name, device}] {
			continue
		}
		if err := n.addFallback(device); err != nil {
			return err
		}
	}
	return nil
}

// addFallback makes tunl0 or its like in a node, as its module does, unless it is
// there. It receives as that one does: a tunnel with neither end named takes what
// no other tunnel takes (net/ipv4/ip_tunnel.c, ip_tunnel_lookup).
func (n *liveNode) addFallback(device string) error {
	attrs := netlink.LinkAttrs{Name: device, TxQLen: -1}
	var dev netlink.Link = &netlink.Iptun{LinkAttrs: attrs}
	if device == gre0 {
		dev = &netlink.Gretun{LinkAttrs: attrs, Local: net.IPv4zero} // by which it is known for one of IPv4
	}
	err := n.Netlink().LinkAdd(dev)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("node %s: make %s: %w", n.name, device, err)
	}
	return nil
}

// toolbox is what a node has of lvslab's own programs. It is called on a thread
// in the node's network namespace.
func (c *control) toolbox(w *world, name string) node.Toolbox {
	w.kernel.prepare()
	// What these do is always the node's alone, as lvslab does it.
	first := []string{"modprobe", "systemctl", "service", "yum", "dnf"}
	if w.kernel.otherArptables(node.Lookup("arptables")) {
		first = append(first, "arptables", "arptables-save", "arptables-restore")
	}
	if inUserNamespace() {
		// IPVS takes generic netlink from the machine's first one alone.
		first = append(first, "ipvsadm", "ipvsadm-save", "ipvsadm-restore")
	}
	var last []string
	for _, tool := range tools.Names() {
		if !slices.Contains(first, tool) {
			last = append(last, tool)
		}
	}
	return node.Toolbox{
		First: first, Last: last, Argument: tools.Argument, Links: w.kernel.links(),
		Folders: []string{path.Dir(ipvsadmFile), path.Dir(indexFile)},
		Files:   map[string]string{ipvsadmConfig: "IPVS_SAVE_ON_STOP=\"no\"\nIPVS_SAVE_ON_RESTART=\"no\"\nIPVS_STATUS_NUMERIC=\"yes\"\n"},
		Instead: map[string]string{"/etc/hosts": hosts(c.lab)},
		Control: c.serve(w, name),
	}
}

// hosts is hosts(5) of every node: the lab's nodes by their names.
func hosts(l *Live) string {
	lab, _, _ := l.state()
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, n := range lab.Nodes {
		for _, k := range n.Value.Links {
			for _, a := range k.Value.Addresses {
				fmt.Fprintf(&b, "%s %s\n", a.Prefix.Addr(), n.Name)
			}
		}
	}
	return b.String()
}

// links are names by which programs of the machine are found in a node. The first
// is the one that a living guest's kernel.modprobe says: iptables(8) runs it.
func (k *sharedKernel) links() map[string]string {
	all := map[string]string{node.OwnFolder + "/modprobe": path.Join(node.FirstFolder, "modprobe")}
	if !k.otherArptables(node.Lookup("iptables")) {
		return all
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		family, rest, _ := strings.Cut(name, "-")
		legacy := family + "-legacy"
		if rest != "" {
			legacy += "-" + rest
		}
		if at := node.Lookup(legacy); at != "" {
			all[path.Join(node.FirstFolder, name)] = at
		}
	}
	return all
}

// otherArptables reports whether the machine's arptables, or iptables, goes
// another way into the kernel than lvslab, so that this kernel refuses it or
// neither sees the other's rules. program is where it lies, "" for none.
func (k *sharedKernel) otherArptables(program string) bool {
	if program == "" {
		return false
	}
	nft := strings.Contains(path.Base(program), "nft")
	if k.load != nil && !loaded("nf_tables") {
		return nft // to ask for it would make the guest's kernel look for it
	}
	backend, err := filter.Detect()
	return err == nil && nft != (backend == filter.NFTables)
}

// inUserNamespace reports whether this process is root of a user namespace of
// its own alone, user_namespaces(7).
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}
