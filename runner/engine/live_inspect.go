package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/netns"
)

// Roles of nodes, see live.Node.
const (
	roleClient     = "client"
	roleDirector   = "director"
	roleRealServer = "real server"
	roleRouter     = "router"
)

// Inspect implements live.Lab. Nothing is changed by looking: no module is
// loaded and no table is made.
func (l *Live) Inspect(ctx context.Context) (*live.Inspection, error) {
	lab, plan, faults := l.state()
	in := &live.Inspection{Lab: lab.Name, Title: lab.Title, About: lab.About, Networks: []live.Network{}, Faults: faults}
	for _, n := range lab.Networks {
		w := live.Network{Name: n.Name}
		for _, p := range n.Value.Prefixes {
			w.Prefixes = append(w.Prefixes, p.String())
		}
		in.Networks = append(in.Networks, w)
	}
	defaults, err := netns.New("defaults")
	if err != nil {
		return nil, fmt.Errorf("what a new network namespace has: %w", err)
	}
	defer func() { _ = defaults.Close() }() // it is empty
	fresh, err := readDefaults(defaults, planKeys(plan))
	if err != nil {
		return nil, fmt.Errorf("what a new network namespace has: %w", err)
	}
	look := onlooker{live: l, lab: lab, faults: faults, fresh: fresh, nft: nftThere()}
	if in.Nodes, err = look.nodes(ctx); err != nil {
		return nil, err
	}
	nameDestinations(lab, in.Nodes, markVIPs(lab, in.Nodes))
	giveRoles(lab, in.Nodes)
	return in, nil
}

// onlooker is one look at a lab.
type onlooker struct {
	live   *Live
	lab    *scenarios.Lab
	faults []live.Broken
	// fresh is what a new network namespace has.
	fresh values
	// nft says that the kernel has nf_tables in use.
	nft bool
}

// nodes looks at all nodes at once.
func (o onlooker) nodes(ctx context.Context) ([]live.Node, error) {
	names := o.lab.Nodes.Names()
	nodes, errs := make([]live.Node, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { nodes[i], errs[i] = o.node(ctx, name) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", names[i], err)
		}
	}
	return nodes, ctx.Err()
}

// node looks at one node. One that is switched off, or goes while it is looked
// at, is stopped.
func (o onlooker) node(ctx context.Context, name string) (live.Node, error) {
	gone := live.Node{Name: name, Stopped: true}
	n, err := o.live.world.live(name)
	if err != nil {
		return gone, nil //nolint:nilerr // that is the answer
	}
	seen, err := o.see(ctx, n)
	if err != nil {
		if now, lerr := o.live.world.live(name); lerr != nil || now != n {
			return gone, nil //nolint:nilerr // likewise
		}
	}
	return seen, err
}

// see reads one part after the other.
func (o onlooker) see(ctx context.Context, n *liveNode) (live.Node, error) {
	seen := live.Node{Name: n.name}
	names, err := o.devices(n, &seen)
	if err != nil {
		return seen, err
	}
	if seen.Routes, err = routes(n, names); err != nil {
		return seen, err
	}
	if seen.Neighbours, err = neighbours(n, names); err != nil {
		return seen, err
	}
	if seen.IPVS, err = services(ctx, n); err != nil {
		return seen, err
	}
	var devices []string
	for _, d := range seen.Devices {
		// Kernels make some tunnels by themselves, which nobody uses.
		if d.Network != "" || d.State != stateDown || len(d.Addresses) > 0 {
			devices = append(devices, d.Name)
		}
	}
	// On a thread of its own: what is read by the resident keeps others waiting.
	err = n.Thread(func() error {
		seen.ARPRules = o.arpRules()
		seen.IPTables = o.ipTables()
		seen.Sysctls = o.sysctls(devices)
		return nil
	})
	seen.Daemons = o.daemons(n)
	return seen, err
}

// markVIPs finds the virtual IPs, those of the lab's services and those that the
// directors have in their tables, among the addresses of the nodes.
func markVIPs(lab *scenarios.Lab, nodes []live.Node) map[netip.Addr]bool {
	vips := make(map[netip.Addr]bool)
	for _, v := range lab.VirtualServices {
		for _, a := range append(slices.Clone(v.Value.VIPs), v.Value.Address.Addr.Addr()) {
			if a.IsValid() {
				vips[a] = true
			}
		}
	}
	for _, n := range nodes {
		for _, s := range n.IPVS {
			if ap, err := netip.ParseAddrPort(s.Address); err == nil {
				vips[ap.Addr()] = true
			}
		}
	}
	for i := range nodes {
		for j := range nodes[i].Devices {
			d := &nodes[i].Devices[j]
			for _, a := range d.Addresses {
				if p, err := netip.ParsePrefix(a); err == nil && vips[p.Addr()] {
					d.VIPs = append(d.VIPs, a)
				}
			}
		}
	}
	return vips
}

// nameDestinations says which node has the address of each real server: of one
// that is switched off, as the lab has it.
func nameDestinations(lab *scenarios.Lab, nodes []live.Node, vips map[netip.Addr]bool) {
	owner := make(map[netip.Addr]string)
	for _, n := range nodes {
		for _, d := range n.Devices {
			for _, a := range d.Addresses {
				p, err := netip.ParsePrefix(a)
				if err != nil || vips[p.Addr()] || p.Addr().IsLoopback() {
					continue
				}
				if _, taken := owner[p.Addr()]; !taken {
					owner[p.Addr()] = n.Name
				}
			}
		}
	}
	for _, n := range nodes {
		if !n.Stopped {
			continue
		}
		off, _ := lab.Nodes.Get(n.Name)
		for _, k := range off.Links {
			for _, a := range k.Value.Addresses {
				if _, taken := owner[a.Prefix.Addr()]; !taken {
					owner[a.Prefix.Addr()] = n.Name
				}
			}
		}
	}
	for i := range nodes {
		for _, s := range nodes[i].IPVS {
			for j := range s.Destinations {
				ap, err := netip.ParseAddrPort(s.Destinations[j].Address)
				if err != nil {
					continue
				}
				name := owner[ap.Addr()]
				if ap.Addr().IsLoopback() {
					name = nodes[i].Name
				}
				s.Destinations[j].Node = name
			}
		}
	}
}

// giveRoles says what each node is there for: by the lab, by the directors'
// tables, and, for a router, by what it does.
func giveRoles(lab *scenarios.Lab, nodes []live.Node) {
	roles := make(map[string][]string)
	give := func(role string, names ...string) {
		for _, name := range names {
			if !slices.Contains(roles[name], role) {
				roles[name] = append(roles[name], role)
			}
		}
	}
	give(roleClient, lab.Clients()...)
	give(roleDirector, lab.Directors()...)
	for _, n := range nodes {
		if len(n.IPVS) > 0 {
			give(roleDirector, n.Name)
		}
	}
	for _, v := range lab.VirtualServices {
		for _, r := range v.Value.RealServers {
			give(roleRealServer, r.Node)
		}
	}
	for _, n := range nodes {
		for _, s := range n.IPVS {
			for _, d := range s.Destinations {
				if d.Node != "" {
					give(roleRealServer, d.Node)
				}
			}
		}
	}
	for i, n := range nodes {
		if isRouter(n) && !slices.Contains(roles[n.Name], roleDirector) {
			give(roleRouter, n.Name)
		}
		nodes[i].Roles = roles[n.Name]
	}
}

// isRouter reports whether a node forwards from one network to another.
func isRouter(n live.Node) bool {
	forwards := slices.ContainsFunc(n.Sysctls, func(s live.Sysctl) bool {
		return (s.Key == keyForward || s.Key == keyForward6) && s.Value != "0"
	})
	networks := make(map[string]bool)
	for _, d := range n.Devices {
		if d.Network != "" {
			networks[d.Network] = true
		}
	}
	return forwards && len(networks) > 1
}
