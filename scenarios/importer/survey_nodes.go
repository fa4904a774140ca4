package importer

import (
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// node is a machine that real servers' addresses are on.
type node struct {
	*machine
	hosts []*host
	// replies say, for each client, which way the node's replies to it go.
	replies map[int]way
}

// way is the way of a node's replies.
type way int

const (
	anyWay      way = iota
	byRouter        // straight to the client, as those of DR and TUN
	byDirector      // as those of NAT
	mostNodes   = 48
	mostInAPool = 16
)

// poolKey is what real servers have in common that may share a node.
type poolKey struct {
	seg         *segment
	family      int
	nat, direct bool
	sorry       bool
}

// pool are the nodes that real servers of a kind share.
type pool struct {
	nodes []*node
	// used are the nodes, by bits, that a service has real servers on.
	used map[int]uint32
	// size is how many real servers of one service it has at most.
	size  int
	count map[int]int
	base  string
}

// makeServers puts the real servers on nodes: each on its own, or, where there
// are too many of them for that, so that as far as can be those of one service
// are apart.
func (s *surveyor) makeServers() {
	s.pools = make(map[poolKey]*pool)
	share := len(s.hostList) > mostNodes
	if share {
		for _, h := range s.hostList {
			s.poolOf(h).add(h)
		}
	}
	for _, h := range s.hostList {
		if !share || h.solo {
			h.node = s.newNode(s.names.numbered(h.base, 1), h)
		} else {
			h.node = s.poolOf(h).choose(s, h)
		}
		s.addAddress(h)
	}
	for _, p := range s.w.services {
		s.nameServers(p)
	}
}

func (s *surveyor) poolOf(h *host) *pool {
	key := poolKey{seg: h.seg, family: family(h.addr), nat: h.nat, direct: h.direct, sorry: !h.listed}
	p := s.pools[key]
	if p == nil {
		p = &pool{used: make(map[int]uint32), count: make(map[int]int), base: h.base}
		s.pools[key] = p
	}
	return p
}

// add counts a real server that will be on one of the pool's nodes.
func (p *pool) add(h *host) {
	if p.base != h.base {
		p.base = "srv"
	}
	for _, i := range h.services {
		p.count[i]++
		p.size = min(max(p.size, p.count[i]), mostInAPool)
	}
}

// choose takes the node with the fewest addresses on which no other real server
// of the same services is, or else the one with the fewest.
func (p *pool) choose(s *surveyor, h *host) *node {
	var used uint32
	for _, i := range h.services {
		used |= p.used[i]
	}
	best := -1
	for j, n := range p.nodes {
		if used&(1<<j) == 0 && (best < 0 || len(n.hosts) < len(p.nodes[best].hosts)) {
			best = j
		}
	}
	if len(p.nodes) < p.size || best < 0 && len(p.nodes) < mostInAPool {
		best = len(p.nodes)
		p.nodes = append(p.nodes, s.newNode(s.names.numbered(p.base, 1), h))
	}
	for j, n := range p.nodes {
		if best < 0 || used == 1<<len(p.nodes)-1 && len(n.hosts) < len(p.nodes[best].hosts) {
			best = j
		}
	}
	for _, i := range h.services {
		p.used[i] |= 1 << best
	}
	return p.nodes[best]
}

// newNode makes the node of a real server.
func (s *surveyor) newNode(name string, h *host) *node {
	m := &machine{name: name, links: []link{{device: "eth0", network: h.seg.name}}, pos: h.pos}
	s.w.nodes = append(s.w.nodes, m)
	return &node{machine: m, replies: make(map[int]way)}
}

// addAddress gives a node the address of a real server, and one of the other
// family where a tunnel brings packets of that.
func (s *surveyor) addAddress(h *host) {
	n := h.node
	n.hosts = append(n.hosts, h)
	k := &n.links[0]
	p := netip.PrefixFrom(h.addr, h.addr.BitLen())
	for _, q := range h.seg.prefixes {
		if q.Contains(h.addr) {
			p = netip.PrefixFrom(h.addr, q.Bits())
		}
	}
	k.addresses = append(k.addresses, linkAddress{p, h.pos})
	f := 1 - family(h.addr)
	has := slices.ContainsFunc(k.addresses, func(a linkAddress) bool { return family(a.Addr()) == f })
	if q, ok := h.seg.prefix(f); ok && h.cross && !has {
		k.addresses = append(k.addresses, linkAddress{Prefix: netip.PrefixFrom(s.free(h.seg, f, true), q.Bits())})
	}
}

// nameServers fills in the nodes of a service's real servers.
func (s *surveyor) nameServers(p *placed) {
	seen := make(map[string]bool)
	for i := range p.servers {
		s.nameServer(&p.servers[i])
		seen[p.servers[i].node] = true
	}
	p.apart = len(seen) == len(p.servers)
	if p.sorry != nil {
		s.nameServer(p.sorry)
	}
}

func (s *surveyor) nameServer(d *server) {
	h := s.hosts[d.Addr.Addr()]
	d.node = h.node.name
	if len(h.node.links[0].addresses) > 1 {
		d.address = h.addr
	}
}

// wayOf is the way that replies go by a forwarding method.
func wayOf(f ipvs.Forward) way {
	if f == ipvs.NAT {
		return byDirector
	}
	return byRouter
}
