package scenarios

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// methodOf is how a real server is reached: its own way, or the service's.
func (v *VirtualService) methodOf(r RealServer) forward.Method {
	if r.Forwarding != nil {
		return r.Forwarding.Method
	}
	return v.Forwarding.Method
}

// Directors are the nodes that balance, each once, in the file's order.
func (l *Lab) Directors() []string {
	balancing := l.nodesWhere(func(name string, v *VirtualService) bool { return slices.Contains(v.Directors, name) })
	return slices.DeleteFunc(l.Nodes.Names(), func(name string) bool {
		n, _ := l.node(name)
		return !slices.Contains(balancing, name) && n.Rules == nil
	})
}

// Clients are the nodes that are neither director nor real server of any
// service, serve nothing and do not forward.
func (l *Lab) Clients() []string {
	if l.root != nil {
		return l.root.Clients() // a director whose service is taken away becomes no client
	}
	if l.near != nil {
		return slices.Clone(l.near.clients)
	}
	return l.idle()
}

func (l *Lab) nodesWhere(f func(name string, v *VirtualService) bool) []string {
	var names []string
	for _, n := range l.Nodes.Names() {
		if slices.ContainsFunc(l.VirtualServices, func(e source.Entry[*VirtualService]) bool { return f(n, e.Value) }) {
			names = append(names, n)
		}
	}
	return names
}

// forwards reports whether a node is set to forward packets: it is a router.
func (n Node) forwards() bool {
	return slices.ContainsFunc(n.Sysctls, func(e source.Entry[string]) bool {
		return topology.SysctlRole(e.Name) == "ip-forwarding" && e.Value != "0"
	})
}

// Resolve turns a virtual service's name, a node's name or an address into an
// address. A node's is the first of its first link.
func (l *Lab) Resolve(s string) (netip.Addr, error) {
	if v, ok := l.VirtualServices.Get(s); ok {
		return v.vip(), nil
	}
	if n, ok := l.node(s); ok {
		for _, link := range n.Links {
			for _, a := range link.Value.Addresses {
				return a.Prefix.Addr(), nil
			}
		}
		return netip.Addr{}, fmt.Errorf("node %s has no address", s)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a, onlyPlain(a)
	}
	known := append(l.VirtualServices.Names(), l.Nodes.Names()...)
	return netip.Addr{}, fmt.Errorf("%q is no address; %s", s, source.Unknown("service or node", s, known))
}

// known reports whether a service or a node is called so.
func (l *Lab) known(s string) bool {
	_, service := l.VirtualServices.Get(s)
	_, node := l.node(s)
	return service || node
}

// onlyPlain refuses addresses with a zone, which may be any text, and those in
// clothes of another family.
func onlyPlain(a netip.Addr) error {
	if !plainAddr(a) {
		return fmt.Errorf("address %q: wanted a plain IPv4 or IPv6 address", a)
	}
	return nil
}

// resolvePort is Resolve with a port: that after a colon, else a service's own,
// else port 80.
func (l *Lab) resolvePort(s string) (netip.AddrPort, error) {
	if v, ok := l.VirtualServices.Get(s); ok {
		port := v.Address.Addr.Port()
		if port == 0 {
			port = defaultPort
		}
		return netip.AddrPortFrom(v.vip(), port), nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, onlyPlain(ap.Addr())
	}
	if name, port, ok := strings.Cut(s, ":"); ok && l.known(name) {
		a, err := l.Resolve(name)
		if err != nil {
			return netip.AddrPort{}, err
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil || p == 0 {
			return netip.AddrPort{}, fmt.Errorf("port %q of %s is not from 1 to 65535", port, name)
		}
		return netip.AddrPortFrom(a, uint16(p)), nil
	}
	a, err := l.Resolve(s)
	return netip.AddrPortFrom(a, defaultPort), err
}

// defaultPort is asked where neither the lab nor the service says which: a
// service by firewall mark, or for every port, has none.
const defaultPort = 80

// DeviceFor is the link of a node whose network holds an address, or whose own
// addresses do.
func (l *Lab) DeviceFor(node string, addr netip.Addr) (string, error) {
	n, ok := l.node(node)
	if !ok {
		return "", fmt.Errorf("no node %s", node)
	}
	for _, link := range n.Links {
		if w, ok := l.Networks.Get(link.Value.Network); ok && w.Contains(addr) {
			return link.Name, nil
		}
		if slices.ContainsFunc(link.Value.Addresses, func(a Address) bool { return a.Prefix.Contains(addr) }) {
			return link.Name, nil
		}
	}
	// An address that no network holds is asked for on the only link there is.
	if len(n.Links) == 1 {
		return n.Links[0].Name, nil
	}
	// What a router is asked for goes out where the router is. A virtual IP is no
	// way to anywhere: who asks may be about to place it.
	if via, ok := (ways{reach(linkPrefixes(n)), l.routes(node, n)}).hop(addr); ok && via != addr {
		return l.DeviceFor(node, via)
	}
	return "", fmt.Errorf("none of the links of %s is on a network that holds %s", node, addr)
}

// nextHop is the address that a node sends what is for an address to: the
// address itself on a network of its own, or a router's. It is false where the
// node has no route.
func (l *Lab) nextHop(node string, to netip.Addr) (netip.Addr, bool) {
	n, ok := l.node(node)
	if !ok {
		return netip.Addr{}, false
	}
	return l.waysOf(node, n).hop(to)
}

// hop is the address that what is for another is sent to; see nextHop.
func (w ways) hop(to netip.Addr) (netip.Addr, bool) {
	best, hop := w.direct.longest(to), to
	for _, r := range w.routes {
		if !r.To.Contains(to) || r.To.Bits() <= best {
			continue
		}
		best, hop = r.To.Bits(), to
		if r.Via.IsValid() {
			hop = r.Via
		}
	}
	if best < 0 {
		return netip.Addr{}, false
	}
	return hop, true
}

// realServerAddress is how a director calls a real server of a service. Among
// the node's addresses one of the service's family comes first; tunnels alone
// lead to another.
func (l *Lab) realServerAddress(director string, v *VirtualService, r RealServer) (netip.Addr, error) {
	if r.Address.IsValid() {
		return r.Address, nil
	}
	d, _ := l.node(director)
	n, _ := l.node(r.Node)
	is4 := v.vip().Is4()
	for _, same := range []bool{true, false} {
		for _, dl := range d.Links {
			for _, nl := range n.Links {
				if dl.Value.Network != nl.Value.Network {
					continue
				}
				for _, a := range nl.Value.Addresses {
					if ip := a.Prefix.Addr(); (ip.Is4() == is4) == same {
						return ip, nil
					}
				}
			}
		}
		for _, nl := range n.Links {
			for _, a := range nl.Value.Addresses {
				if ip := a.Prefix.Addr(); (ip.Is4() == is4) == same {
					return ip, nil
				}
			}
		}
	}
	return l.Resolve(r.Node)
}

// linked reports whether a node has a link to a network.
func (l *Lab) linked(node, network string) bool {
	n, _ := l.node(node)
	return slices.ContainsFunc(n.Links, func(k source.Entry[Link]) bool { return k.Value.Network == network })
}
