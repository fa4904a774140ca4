package scenarios

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/topology"
)

// RoleReturnRoute is that of the route by which a real server's replies come
// back through the director.
const RoleReturnRoute topology.Role = "return-route"

// returnRouteOps give a node its way back through the director: the default
// route, where it is a real server by address translation and its file says
// nothing of a default route.
func (l *Lab) returnRouteOps(node string, n Node) []topology.Op {
	var ops []topology.Op
	for _, r := range l.returnRoutes(node, n) {
		ops = append(ops, topology.NewRoute(topology.Meta{
			Role: RoleReturnRoute, Pos: r.Pos,
			Why: fmt.Sprintf("replies of %s go back through the director, which puts the virtual IP in the place of their source", node),
		}, node, r.Route))
	}
	return ops
}

// returnRoutes are the default routes that forwarding methods ask of a node.
func (l *Lab) returnRoutes(node string, n Node) []Route {
	var out []Route
	for _, p := range l.poolsOf(node) {
		v, r := p.service, p.server
		if len(v.Directors) == 0 {
			continue
		}
		if m := v.methodOf(r); !m.ThroughDirector || m.SNAT {
			continue
		}
		gateway, ok := l.addressBeside(v.Directors[0], node, v.vip().Is4())
		if !ok {
			continue // it is farther away; the file's own routes lead there
		}
		to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gateway.Is6() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		taken := func(o Route) bool { return o.To == to }
		if !slices.ContainsFunc(n.Routes, taken) && !slices.ContainsFunc(out, taken) {
			out = append(out, Route{Pos: r.Pos, Route: topology.Route{To: to, Via: gateway}})
		}
	}
	return out
}

// routes are all routes of a node: its own, and those that methods ask for.
func (l *Lab) routes(node string, n Node) []Route {
	return append(slices.Clone(n.Routes), l.returnRoutes(node, n)...)
}

// addressBeside is an address of a node on a network that it shares with another:
// one that the other reaches without a router, where there is one.
func (l *Lab) addressBeside(node, other string, is4 bool) (netip.Addr, bool) {
	n, _ := l.node(node)
	o, _ := l.node(other)
	var first netip.Addr
	for _, a := range n.Links {
		for _, b := range o.Links {
			if a.Value.Network != b.Value.Network {
				continue
			}
			for _, addr := range a.Value.Addresses {
				ip := addr.Prefix.Addr()
				if ip.Is4() != is4 {
					continue
				}
				if slices.ContainsFunc(b.Value.Addresses, func(own Address) bool { return own.Prefix.Contains(ip) }) {
					return ip, true
				}
				if !first.IsValid() {
					first = ip
				}
			}
		}
	}
	return first, first.IsValid()
}

// methodsOf calls f for each way in which a node is the director of a real
// server.
func (l *Lab) methodsOf(director string, f func(service string, v *VirtualService, r RealServer, m forward.Method)) {
	for _, e := range l.VirtualServices {
		if !slices.Contains(e.Value.Directors, director) {
			continue
		}
		for _, r := range e.Value.RealServers {
			f(e.Name, e.Value, r, e.Value.methodOf(r))
		}
	}
}

// throughSettings are the sysctls that a director needs where replies pass it.
func (l *Lab) throughSettings(node string) []setting {
	var list []setting
	l.methodsOf(node, func(service string, v *VirtualService, _ RealServer, m forward.Method) {
		if !m.ThroughDirector {
			return
		}
		key := "net.ipv4.ip_forward"
		if v.vip().Is6() {
			key = "net.ipv6.conf.all.forwarding"
		}
		list = append(list, setting{
			key: key, value: "1", pinned: "0", pos: v.Forwarding.pos,
			why: fmt.Sprintf("%s forwards the replies of %s", node, service),
		})
		if m.SNAT {
			list = append(list, setting{
				key: "net.ipv4.vs.conntrack", value: "1", pinned: "0", pos: v.Forwarding.pos,
				why: "IPVS lets netfilter track its connections, without which no rule of the nat table sees them",
			})
		}
	})
	return list
}
