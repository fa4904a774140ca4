package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// chooseClients finds out how many clients it takes, makes them, and gives the
// real servers their routes back. One is enough unless a real server answers
// one service by NAT, and so by the director, and another by DR or TUN, and so
// past it: such a server tells them apart by the client.
func (s *surveyor) chooseClients() {
	count := 1
	by := make([]int, len(s.w.services))
	for i, p := range s.w.services {
		for by[i] < count && !s.fits(p, by[i]) {
			by[i]++
		}
		count = max(count, by[i]+1)
		s.each(p, func(h *host, d *server) { h.node.replies[by[i]] = wayOf(d.Forward) })
	}
	sources := make([][2][]netip.Addr, count)
	machines := make([]*machine, count)
	for n := range count {
		machines[n], sources[n] = s.makeClient(n)
	}
	s.w.nodes = append(machines, s.w.nodes...)
	s.w.client = s.w.clients[0]
	s.w.sources4, s.w.sources6 = sources[0][0], sources[0][1]
	for i, p := range s.w.services {
		p.from = s.w.clients[by[i]]
		p.sources = sources[by[i]][p.AddrFamily()]
	}
	seen := make(map[*node]bool)
	for _, h := range s.hostList {
		if !seen[h.node] {
			seen[h.node] = true
			s.routeBack(h.node)
		}
	}
}

// each calls f for each real server of a service, its sorry server too.
func (s *surveyor) each(p *placed, f func(h *host, d *server)) {
	for i := range p.servers {
		f(s.hosts[p.servers[i].Addr.Addr()], &p.servers[i])
	}
	if p.sorry != nil {
		f(s.hosts[p.sorry.Addr.Addr()], p.sorry)
	}
}

// fits reports whether a client may ask a service: its real servers' replies to
// it go the same way in all that it asks.
func (s *surveyor) fits(p *placed, client int) bool {
	fits := true
	s.each(p, func(h *host, d *server) {
		if w := h.node.replies[client]; w != anyWay && w != wayOf(d.Forward) {
			fits = false
		}
	})
	return fits
}

// makeClient makes a client with its addresses.
func (s *surveyor) makeClient(n int) (*machine, [2][]netip.Addr) {
	name := "client"
	if n > 0 {
		name = s.names.unique("client")
	}
	s.w.clients = append(s.w.clients, name)
	m := &machine{name: name}
	var sources [2][]netip.Addr
	var asker *segment
	for f, asked := range s.asked() {
		if !asked {
			continue
		}
		seg, gateway := s.home[f], netip.Addr{}
		if s.shape == routed {
			if asker == nil {
				asker = s.newAsker()
			}
			asker.prefixes = append(asker.prefixes, s.documentation(f))
			asker.routerAddr[f] = s.free(asker, f, true)
			seg, gateway = asker, asker.routerAddr[f]
		} else if slices.ContainsFunc(s.vips(), func(a netip.Addr) bool { return family(a) == f && !seg.firstContains(a) }) {
			m.routes = append(m.routes, s.routesBeside(f, seg)...)
		}
		k := linkOn(m, seg.name)
		p, _ := seg.prefix(f)
		for range clientAddresses {
			// Beside others a client stays at the end, as a guest does.
			a := s.free(seg, f, s.shape != routed)
			sources[f] = append(sources[f], a)
			k.addresses = append(k.addresses, linkAddress{Prefix: netip.PrefixFrom(a, p.Bits())})
		}
		if gateway.IsValid() {
			m.routes = append(m.routes, "default via "+gateway.String())
		}
	}
	return m, sources
}

// routesBeside are the routes of a client on the director's own network to the
// virtual IPs that are on another or on none. They are no default route: that a
// lab has a way to an address must be said.
func (s *surveyor) routesBeside(f int, home *segment) []string {
	var routes []string
	for _, to := range s.farVIPs(home.firstContains) {
		if family(to.Addr()) != f {
			continue
		}
		route := fmt.Sprintf("%s via %s", strings.TrimSuffix(strings.TrimSuffix(to.String(), "/32"), "/128"), home.directorAddr[f])
		if !slices.Contains(routes, route) {
			routes = append(routes, route)
		}
	}
	return routes
}

// newAsker is a network of a client's own, behind the router.
func (s *surveyor) newAsker() *segment {
	seg := &segment{network: &network{name: s.names.unique("clients")}, made: true, router: true}
	seg.comment = "Made up: the client's side, of which the file says nothing."
	s.askers = append(s.askers, seg)
	return seg
}

// linkOn is a machine's link on a network, made if there is none.
func linkOn(m *machine, network string) *link {
	for i := range m.links {
		if m.links[i].network == network {
			return &m.links[i]
		}
	}
	m.links = append(m.links, link{device: fmt.Sprintf("eth%d", len(m.links)), network: network})
	return &m.links[len(m.links)-1]
}

// routeBack gives a node the routes that its replies go by. Where all go by the
// director, it has its default route from the forwarding method, as any real
// server of NAT in a lab file.
func (s *surveyor) routeBack(n *node) {
	if s.shape == oneLAN {
		return
	}
	seg := n.hosts[0].seg
	main := n.replies[0]
	for i := 1; main == anyWay && i < len(s.w.clients); i++ {
		main = n.replies[i]
	}
	listed := slices.ContainsFunc(n.hosts, func(h *host) bool { return h.listed && h.nat })
	for f := range 2 {
		at := slices.IndexFunc(n.links[0].addresses, func(a linkAddress) bool { return family(a.Addr()) == f })
		if at < 0 {
			continue
		}
		on := n.links[0].addresses[at].Prefix
		alone := true
		for i := range s.w.clients {
			w := n.replies[i]
			if w == anyWay || w == main {
				continue
			}
			alone = false
			if p, ok := s.askers[i].prefix(f); ok {
				n.routes = append(n.routes, fmt.Sprintf("%s via %s", p, seg.gateway(w, on)))
			}
		}
		if main == byRouter || !alone || !listed {
			n.routes = append([]string{"default via " + seg.gateway(main, on).String()}, n.routes...)
		}
	}
}

// gateway is the next machine on a way, for one whose address and prefix length
// are on.
func (seg *segment) gateway(w way, on netip.Prefix) netip.Addr {
	f, more := family(on.Addr()), seg.routerMore
	first := seg.routerAddr[f]
	if w == byDirector {
		first, more = seg.directorAddr[f], seg.directorMore
	}
	if !on.Contains(first) {
		for _, p := range more {
			if on.Contains(p.Addr()) {
				return p.Addr()
			}
		}
	}
	return first
}

// makeRouter makes the router, if there is one, with the routes to what only the
// director has.
func (s *surveyor) makeRouter() {
	if s.shape != routed {
		return
	}
	s.w.router = "router"
	m := &machine{name: s.w.router, sysctls: make(map[string]string)}
	for _, seg := range append(slices.Clone(s.askers), s.segments...) {
		if seg.router {
			s.plug(m, fmt.Sprintf("eth%d", len(m.links)), seg, seg.routerAddr, seg.routerMore)
		}
	}
	for _, f := range s.families() {
		m.sysctls[[]string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"}[f]] = "1"
	}
	seen := make(map[string]bool)
	near := func(a netip.Addr) bool {
		seg := s.segmentOf(a)
		return seg != nil && seg.router
	}
	for _, to := range s.farVIPs(near) {
		route := fmt.Sprintf("%s via %s", strings.TrimSuffix(strings.TrimSuffix(to.String(), "/32"), "/128"), s.home[family(to.Addr())].directorAddr[family(to.Addr())])
		if !seen[route] {
			seen[route] = true
			m.routes = append(m.routes, route)
		}
	}
	s.w.nodes = slices.Insert(s.w.nodes, len(s.w.clients), m)
}

// plug links a machine to a network by an address of each of its prefixes.
func (s *surveyor) plug(m *machine, device string, seg *segment, addrs [2]netip.Addr, more []netip.Prefix) {
	k := link{device: device, network: seg.name}
	for f, a := range addrs {
		if a.IsValid() {
			p, _ := seg.prefix(f)
			k.addresses = append(k.addresses, linkAddress{Prefix: netip.PrefixFrom(a, p.Bits())})
		}
	}
	for _, p := range more {
		k.addresses = append(k.addresses, linkAddress{Prefix: p})
	}
	m.links = append(m.links, k)
}

// farVIPs are the virtual IPs that are not near, or the networks that hold several
// of them.
func (s *surveyor) farVIPs(near func(netip.Addr) bool) []netip.Prefix {
	count := make(map[netip.Prefix]int)
	var far []netip.Addr
	for _, a := range s.vips() {
		if near(a) {
			continue
		}
		far = append(far, a)
		count[netip.PrefixFrom(a, usual()[family(a)]).Masked()]++
	}
	var list []netip.Prefix
	for _, a := range far {
		p := netip.PrefixFrom(a, usual()[family(a)]).Masked()
		if count[p] == 1 {
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p)
	}
	return list
}
