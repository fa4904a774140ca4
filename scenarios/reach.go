package scenarios

import (
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// The findings: what a lab file says that cannot work. A lab that is about such
// a mistake allows it by its code.
const (
	codeAddressOutside = "address-outside-network"
	codeAddressTwice   = "address-twice"
	codeVIPNoNetwork   = "vip-in-no-network"
	codeVIPTaken       = "vip-is-a-node-address"
	codeServerUnknown  = "real-server-address-unknown"
	codeServerAway     = "real-server-unreachable"
	codeClientNoRoute  = "client-has-no-route"
	codeNoDaemon       = "nothing-serves-the-port"
	codeNetworkOverlap = "networks-overlap"
	codeNoVIP          = "vip-not-carried"
	codeNoWayBack      = "no-way-back"
	codeClientBeside   = "client-beside-real-servers"
)

// findings is the table of codes, with the sentence that explains each.
func findings() map[string]string {
	return map[string]string{
		codeAddressOutside: "a link's address is outside its network, so its neighbours have no route to it",
		codeAddressTwice:   "two nodes have the same address, so whoever answers ARP last gets its packets",
		codeVIPNoNetwork:   "no network holds the virtual IP, and no route leads to it, so nobody asks ARP for it",
		codeVIPTaken:       "the virtual IP is a node's own address",
		codeServerUnknown:  "the address that the director has for a real server is none of that node's",
		codeServerAway:     "the director cannot reach a real server by the forwarding method chosen",
		codeClientNoRoute:  "a client has no route to the virtual IP",
		codeNoDaemon:       "a real server serves nothing on the service's port",
		codeNetworkOverlap: "two networks have addresses in common",
		codeNoVIP:          "a director does not carry the virtual IP, so the packets pass IPVS by",
		codeNoWayBack:      "a real server behind address translation has no route back to a client, so its replies go nowhere",
		codeClientBeside:   "a client shares a network with a real server behind address translation, so the replies pass the director by",
	}
}

// Codes are the codes of all findings, sorted.
func Codes() []string {
	var codes []string
	for c := range findings() {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	return codes
}

// Explain is the sentence for a finding's code.
func Explain(code string) string { return findings()[code] }

// reachability finds what cannot work on any kernel.
func (l *Lab) reachability() source.List {
	var found source.List
	l.gather() // until the check is over, see check
	l.findNetworks(&found)
	l.findAddresses(&found)
	for _, e := range l.VirtualServices {
		l.findService(&found, e.Name, e.Value)
	}
	return found
}

func (l *Lab) findNetworks(found *source.List) {
	for i, a := range l.Networks {
		for _, b := range l.Networks[:i] {
			if a.Value.overlaps(b.Value) {
				found.Find(a.Pos, codeNetworkOverlap, "network %s (%s) overlaps %s (%s)", a.Name, a.Value, b.Name, b.Value)
			}
		}
	}
}

func (l *Lab) findAddresses(found *source.List) {
	type owner struct {
		node string
		pos  source.Pos
	}
	seen := make(map[netip.Addr]owner)
	for _, e := range l.Nodes {
		for _, link := range e.Value.Links {
			w, _ := l.Networks.Get(link.Value.Network)
			for _, a := range link.Value.Addresses {
				ip := a.Prefix.Addr()
				if everywhere := ip.Is6() && ip.IsLinkLocalUnicast(); !w.Contains(ip) && !everywhere {
					found.Find(a.Pos, codeAddressOutside, "%s's %s has %s, which is not in network %s (%s)", e.Name, link.Name, a.Prefix, link.Value.Network, w)
				}
				if first, twice := seen[ip]; twice {
					found.Find(a.Pos, codeAddressTwice, "%s has the address %s of %s (%s)", e.Name, ip, first.node, first.pos)
				}
				seen[ip] = owner{e.Name, a.Pos}
			}
		}
	}
}

func (l *Lab) findService(found *source.List, name string, v *VirtualService) {
	for _, vip := range v.vips() {
		l.findVIP(found, name, v, vip)
	}
	for _, r := range v.RealServers {
		for _, d := range v.Directors {
			l.findRealServer(found, name, v, d, r)
		}
		l.findWayBack(found, name, v, r)
		l.findDaemon(found, name, v, r)
	}
}

func (l *Lab) findVIP(found *source.List, name string, v *VirtualService, vip netip.Addr) {
	if !slices.ContainsFunc(l.Networks, func(w source.Entry[Network]) bool { return w.Value.Contains(vip) }) && !l.routed(vip) {
		found.Find(v.Pos, codeVIPNoNetwork, "the virtual IP %s of %s is in no network, and no route leads to it", vip, name)
	}
	for _, h := range l.near.holders[vip] {
		found.Find(h.pos, codeVIPTaken, "the virtual IP %s of %s is also %s's own address", vip, name, h.node)
	}
	for _, client := range l.Clients() {
		if !l.routeTo(client, vip) {
			found.Find(v.Pos, codeClientNoRoute, "%s has no route to the virtual IP %s of %s", client, vip, name)
		}
	}
	if p := v.VIP.Directors; p != nil && p.Device == "" && v.ManagedBy != ManagedByKeepalived {
		found.Find(p.Pos, codeNoVIP, "the directors of %s do not carry %s", name, vip)
	}
}

// routed reports whether some node has a route for an address that is more than
// the default one.
func (l *Lab) routed(a netip.Addr) bool {
	return slices.ContainsFunc(l.Nodes, func(e source.Entry[Node]) bool {
		return slices.ContainsFunc(e.Value.Routes, func(r Route) bool { return r.To.Bits() > 0 && r.To.Contains(a) })
	})
}

// findDaemon looks for a server at the port that packets come to. A service for
// every port, or by firewall mark, has none that could be looked for.
func (l *Lab) findDaemon(found *source.List, name string, v *VirtualService, r RealServer) {
	n, _ := l.node(r.Node)
	port := v.Address.Addr.Port()
	if r.Port != 0 && v.methodOf(r).Forward == ipvs.NAT {
		port = r.Port
	}
	proto := v.Address.Protocol.String()
	// What a command listens by is not known, nor what packets carry a mark.
	listens := func(s Serve) bool {
		return s.Port == port && (s.Command != "" || v.Address.FWMark != 0 || slices.Contains(s.protocols(), proto))
	}
	if port != 0 && !slices.ContainsFunc(n.Serve, listens) {
		if v.Address.FWMark != 0 {
			proto = "any"
		}
		found.Find(r.Pos, codeNoDaemon, "real server %s of %s serves nothing on %s port %d", r.Node, name, proto, port)
	}
}

// findWayBack looks at how the replies of address translation go to the
// clients: they must pass the director, which alone can turn them back.
func (l *Lab) findWayBack(found *source.List, name string, v *VirtualService, r RealServer) {
	m := v.methodOf(r)
	if !m.ThroughDirector || m.SNAT {
		return
	}
	for _, client := range l.Clients() {
		addr, ok := l.addressOf(client, v.vip().Is4())
		if !ok || !l.routeTo(client, v.vip()) {
			continue
		}
		hop, ok := l.nextHop(r.Node, addr)
		switch {
		case !ok:
			found.Find(r.Pos, codeNoWayBack, "real server %s of %s has no route back to %s; by %s its replies must go through the director", r.Node, name, client, m.Title)
		case hop == addr:
			found.Find(r.Pos, codeClientBeside, "%s is on a network of real server %s, whose replies to it pass the director of %s by; FullNAT (NAT + conntrack + SNAT) would bring them back", client, r.Node, name)
		}
	}
}

// addressOf is the first address of a family that a node has on a link.
func (l *Lab) addressOf(node string, is4 bool) (netip.Addr, bool) {
	n, _ := l.node(node)
	for _, k := range n.Links {
		for _, a := range k.Value.Addresses {
			if a.Prefix.Addr().Is4() == is4 {
				return a.Prefix.Addr(), true
			}
		}
	}
	return netip.Addr{}, false
}

func (l *Lab) findRealServer(found *source.List, service string, v *VirtualService, director string, r RealServer) {
	addr, err := l.realServerAddress(director, v, r)
	if err != nil {
		found.Find(r.Pos, codeServerUnknown, "%v", err)
		return
	}
	var link string
	for _, h := range l.near.holders[addr] {
		if h.node == r.Node {
			link = h.network
		}
	}
	if link == "" {
		found.Find(r.Pos, codeServerUnknown, "%s calls real server %s by %s, which is not its address", director, r.Node, addr)
	}
	method := v.methodOf(r)
	if method.SameNetwork && link != "" && !l.linked(director, link) {
		found.Find(r.Pos, codeServerAway, "%s by %s needs director and real server on one network: %s is not on %s, where %s is",
			service, method.Title, director, link, r.Node)
		return
	}
	if !l.routeTo(director, addr) {
		found.Find(r.Pos, codeServerAway, "director %s has no route to real server %s at %s", director, r.Node, addr)
	}
}

// routeTo reports whether a node has a route to an address: by a network that
// one of its addresses is in, the virtual IPs that it carries among them, or by
// a route of its own.
func (l *Lab) routeTo(node string, to netip.Addr) bool {
	_, ok := l.nextHop(node, to)
	return ok
}

// linkPrefixes are the networks that a node reaches directly by its own
// addresses.
func linkPrefixes(n Node) []netip.Prefix {
	var ps []netip.Prefix
	add := func(as []Address) {
		for _, a := range as {
			if !a.NoPrefixRoute || a.Prefix.IsSingleIP() {
				ps = append(ps, a.Prefix)
			}
		}
	}
	for _, k := range n.Links {
		add(k.Value.Addresses)
	}
	for _, d := range n.Devices {
		add(d.Value.Addresses)
	}
	return ps
}

// prefixes are the networks that a node reaches directly, the virtual IPs that it
// carries among them.
func (l *Lab) prefixes(node string, n Node) []netip.Prefix {
	ps := linkPrefixes(n)
	for _, c := range l.carriersAt(node) {
		if c.place.Device != "" {
			ps = append(ps, c.place.Prefix(c.vip))
		}
	}
	return ps
}
