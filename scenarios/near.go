package scenarios

import "net/netip"

// near is what a lab says of each of its nodes, gathered once: while a lab is
// checked it does not change, and one with a thousand services would otherwise
// be searched through for each of its real servers.
type near struct {
	nodes    map[string]int
	clients  []string
	carriers map[string][]carrier
	pools    map[string][]pooled
	// prefixes and routes are kept when they were asked for.
	prefixes map[string][]netip.Prefix
	routes   map[string][]Route
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

		prefixes: make(map[string][]netip.Prefix),
		routes:   make(map[string][]Route),
	}
	for i := range l.Nodes {
		n.nodes[l.Nodes[i].Name] = i
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

// waysOf are the networks that a node reaches directly, and its routes.
func (l *Lab) waysOf(name string, n Node) ([]netip.Prefix, []Route) {
	if l.near == nil || l.near.carriers == nil {
		return l.prefixes(name, n), l.routes(name, n)
	}
	if _, known := l.near.routes[name]; !known {
		l.near.prefixes[name], l.near.routes[name] = l.prefixes(name, n), l.routes(name, n)
	}
	return l.near.prefixes[name], l.near.routes[name]
}
