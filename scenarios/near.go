package scenarios

import (
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/topology/source"
)

// near is what a lab says of each of its nodes, gathered once: while a lab is
// checked it does not change, and one with a thousand services would otherwise
// be searched through for each of its real servers.
type near struct {
	nodes    map[string]int
	clients  []string
	carriers map[string][]carrier
	pools    map[string][]pooled
	// holders are the links that have an address, in the order of the file.
	holders map[netip.Addr][]holder
	// ways are kept when they were asked for.
	ways map[string]ways
}

// holder is a link of a node that has an address of its own.
type holder struct {
	node, network string
	pos           source.Pos
}

// ways are where a node can send packets: the networks that it reaches directly,
// and its routes.
type ways struct {
	direct reached
	routes []Route
}

// reached is a set of prefixes, which a node with a thousand addresses is asked of
// as quickly as one with two.
type reached struct {
	held map[netip.Prefix]bool
	// lengths are those of the prefixes, in bits, longest first.
	lengths []int
}

func reach(prefixes []netip.Prefix) reached {
	r := reached{held: make(map[netip.Prefix]bool, len(prefixes))}
	for _, p := range prefixes {
		r.held[p.Masked()] = true
		if !slices.Contains(r.lengths, p.Bits()) {
			r.lengths = append(r.lengths, p.Bits())
		}
	}
	slices.SortFunc(r.lengths, func(a, b int) int { return b - a })
	return r
}

// longest is the length of the longest prefix that holds an address, -1 where
// none does.
func (r reached) longest(to netip.Addr) int {
	for _, bits := range r.lengths {
		if p, err := to.Prefix(bits); err == nil && to.Zone() == "" && r.held[p] {
			return bits
		}
	}
	return -1
}

// pooled is a real server's part in a virtual service.
type pooled struct {
	service *VirtualService
	server  RealServer
}

// gather makes the lab quick to ask, until forget. It must not change meanwhile.
func (l *Lab) gather() {
	n := &near{
		nodes: make(map[string]int, len(l.Nodes)),
		pools: l.pools(),

		holders: make(map[netip.Addr][]holder),
		ways:    make(map[string]ways),
	}
	for i := range l.Nodes {
		n.nodes[l.Nodes[i].Name] = i
		for _, k := range l.Nodes[i].Value.Links {
			for _, a := range k.Value.Addresses {
				ip := a.Prefix.Addr()
				n.holders[ip] = append(n.holders[ip], holder{l.Nodes[i].Name, k.Value.Network, a.Pos})
			}
		}
	}
	n.clients = l.Clients()
	l.near = n // what a carrier is, is asked of the nodes
	carriers := make(map[string][]carrier)
	for _, c := range l.carriers() {
		carriers[c.node] = append(carriers[c.node], c)
	}
	n.carriers = carriers
}

// forget ends what gather began.
func (l *Lab) forget() { l.near = nil }

// node is the node of a name.
func (l *Lab) node(name string) (Node, bool) {
	if l.near == nil {
		return l.Nodes.Get(name)
	}
	i, ok := l.near.nodes[name]
	if !ok {
		return Node{}, false
	}
	return l.Nodes[i].Value, true
}

// pools are the real servers of all services, by their nodes.
func (l *Lab) pools() map[string][]pooled {
	pools := make(map[string][]pooled)
	for _, e := range l.VirtualServices {
		for _, r := range e.Value.RealServers {
			pools[r.Node] = append(pools[r.Node], pooled{e.Value, r})
		}
	}
	return pools
}

// poolsOf are the parts that one node plays.
func (l *Lab) poolsOf(node string) []pooled {
	if l.near != nil {
		return l.near.pools[node]
	}
	var parts []pooled
	for _, e := range l.VirtualServices {
		for _, r := range e.Value.RealServers {
			if r.Node == node {
				parts = append(parts, pooled{e.Value, r})
			}
		}
	}
	return parts
}

// busy are the nodes that are director or real server of any service.
func (l *Lab) busy() map[string]bool {
	busy := make(map[string]bool)
	for _, e := range l.VirtualServices {
		for _, d := range e.Value.Directors {
			busy[d] = true
		}
		for _, r := range e.Value.RealServers {
			busy[r.Node] = true
		}
	}
	return busy
}

// idle are the nodes that are not busy, serve nothing and do not forward.
func (l *Lab) idle() []string {
	busy := l.busy()
	var names []string
	for i := range l.Nodes {
		e := &l.Nodes[i]
		if !busy[e.Name] && len(e.Value.Serve) == 0 && e.Value.Rules == nil && !e.Value.forwards() {
			names = append(names, e.Name)
		}
	}
	return names
}

// waysOf are those of a node.
func (l *Lab) waysOf(name string, n Node) ways {
	if l.near == nil || l.near.carriers == nil {
		return ways{reach(l.prefixes(name, n)), l.routes(name, n)}
	}
	w, known := l.near.ways[name]
	if !known {
		w = ways{reach(l.prefixes(name, n)), l.routes(name, n)}
		l.near.ways[name] = w
	}
	return w
}
