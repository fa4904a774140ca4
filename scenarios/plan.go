package scenarios

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// Plan is all that will be done to a kernel for a lab: the ops that set it up,
// and the steps with the ops of their changes. Making it touches no kernel.
type Plan struct {
	Lab   *Lab
	Setup []topology.Op
	Steps []Step
	// Needs are the kernel features that the setup and all changes rest on.
	Needs []topology.Feature
	// Roles are all the roles that any op plays.
	Roles []topology.Role
}

// Plan works out the lab's ops. The roles in omit, and those of l.Omit, are left
// out of every state that the lab comes to; one that no op ever plays is an
// error.
func (l *Lab) Plan(omit ...topology.Role) (*Plan, error) {
	p := &Plan{Lab: l}
	var errs source.List
	omit = slices.Concat(l.Omit, omit)
	out := slices.Clone(omit)
	full := l.ops()
	all := slices.Clone(full)
	p.Setup = without(full, out)
	state, current := l, p.Setup
	for _, s := range l.Steps {
		s.Do = slices.Clone(s.Do)
		for j := range s.Do {
			a := &s.Do[j]
			if !a.Changes() {
				// Names may mean something else after a change; the lab itself
				// stays as it is, for other plans of it.
				if r := a.Request; r != nil {
					a.Request = ptr(*r)
				}
				if d := a.Daemon; d != nil {
					a.Daemon = ptr(*d)
				}
				if r := a.Ping; r != nil {
					a.Ping = ptr(*r)
				}
				errs = append(errs, state.actionRefs(a)...)
				continue
			}
			next := state
			var list source.List
			switch {
			case a.patch != nil:
				next, list = state.patched(a.patch)
			case a.Link != nil:
				next, list = state.withLink(a.Link)
			case a.Omit != nil:
				if _, err := topology.Omit(topology.Role(a.Omit.Omit))(current); err != nil {
					list.Add(a.Omit.Pos, "mutate: %v", err)
				}
				out = append(out, topology.Role(a.Omit.Omit))
			}
			if len(list) > 0 {
				errs = append(errs, list...)
				continue
			}
			full = next.ops()
			all = append(all, full...)
			wanted := without(full, out)
			ops, err := topology.Diff(current, wanted)
			if err != nil {
				errs.AddError(a.Pos, err)
				continue
			}
			a.Ops = ops
			state, current = next, wanted
		}
		s.After, s.State = state, current
		p.Steps = append(p.Steps, s)
	}
	p.Roles = topology.Roles(all)
	p.Needs = topology.Features(without(all, omit))
	for _, r := range omit {
		if !slices.Contains(p.Roles, r) {
			errs.Add(l.Pos, "no op of %s plays the role %q; its roles are %s", l.Name, r, joinRoles(p.Roles))
		}
	}
	return p, errs.Err()
}

// AllNeeds are Needs and what the steps' own stimuli rest on: a node that reads,
// writes or runs something sees its files through an overlay.
func (p *Plan) AllNeeds() []topology.Feature {
	needs := slices.Clone(p.Needs)
	for _, n := range p.Lab.Needs {
		if !slices.Contains(needs, n.Feature) {
			needs = append(needs, n.Feature)
		}
		if name, ok := n.Feature.Program(); ok && name == "ipvsadm" {
			needs = append(needs, "ip_vs-ipvsadm") // which speaks generic netlink
		}
	}
	if p.Lab.UsesFiles() {
		needs = append(needs, "overlay")
	}
	return needs
}

func ptr[T any](v T) *T { return &v }

func joinRoles(roles []topology.Role) string {
	s := ""
	for i, r := range roles {
		if i > 0 {
			s += ", "
		}
		s += string(r)
	}
	return s
}

func without(ops []topology.Op, roles []topology.Role) []topology.Op {
	if len(roles) == 0 {
		return ops
	}
	return slices.DeleteFunc(slices.Clone(ops), func(o topology.Op) bool { return slices.Contains(roles, o.About().Role) })
}

// ops is the lab as it stands, in the order in which a person would build it.
func (l *Lab) ops() []topology.Op {
	var ops []topology.Op
	for _, w := range l.Networks {
		ops = append(ops, topology.NewNetwork(topology.Meta{
			Why: fmt.Sprintf("network %s (%s): a bridge in a namespace of its own", w.Name, w.Value), Pos: w.Pos,
		}, w.Name, topology.MAC(l.Name, w.Name, topology.Bridge)))
	}
	ipv6 := l.UsesIPv6() // asked once: there may be thousands of nodes
	for _, e := range l.Nodes {
		ops = append(ops, l.nodeOps(e.Name, e.Value, ipv6)...)
	}
	ops = append(ops, l.arpOps()...)
	ops = append(ops, l.filterOps()...)
	ops = append(ops, l.vipOps()...)
	ops = append(ops, l.storageOps()...)
	for _, e := range l.Nodes {
		for _, s := range e.Value.Serve {
			if s.Service != serviceNFS && s.Service != serviceKeepalived {
				ops = append(ops, s.op(e.Name))
			}
		}
	}
	ops = append(ops, l.timeoutOps()...)
	ops = append(ops, l.syncOps()...)
	ops = append(ops, l.ipvsOps()...)
	ops = append(ops, l.ruleOps()...)
	return append(ops, l.keepalivedOps()...)
}

func (l *Lab) nodeOps(node string, n Node, ipv6 bool) []topology.Op {
	ops := []topology.Op{topology.NewNode(topology.Meta{Why: "node " + node, Pos: n.Pos}, node)}
	early, late := l.sysctls(node, n, ipv6)
	for _, s := range early {
		ops = append(ops, s.op(node))
	}
	for _, k := range n.Links {
		ops = append(ops, topology.NewLink(topology.Meta{
			Why: fmt.Sprintf("%s's %s is plugged into %s", node, k.Name, k.Value.Network), Pos: k.Pos,
		}, node, topology.Link{Lab: l.Name, Network: k.Value.Network, Device: k.Name}))
	}
	for _, s := range late {
		ops = append(ops, s.op(node))
	}
	for _, k := range n.Links {
		if k.Value.MTU != 0 {
			ops = append(ops, topology.NewMTU(topology.Meta{
				Why: fmt.Sprintf("%s sends packets of at most %d bytes on %s", node, k.Value.MTU, k.Name), Pos: k.Pos,
			}, node, k.Name, k.Value.MTU))
		}
		ops = append(ops, addressOps(node, k.Name, "node-address", k.Value.Addresses)...)
		if k.Value.Delay > 0 {
			ops = append(ops, topology.NewDelay(topology.Meta{
				Why: fmt.Sprintf("%s is late by %s in all that it sends", node, k.Value.Delay), Pos: k.Pos,
			}, node, k.Name, k.Value.Delay))
		}
		if k.Value.Down {
			ops = append(ops, topology.NewCut(topology.Meta{Why: fmt.Sprintf("the cable of %s's %s is pulled", node, k.Name), Pos: k.Pos},
				node, topology.Link{Lab: l.Name, Network: k.Value.Network, Device: k.Name}))
		}
	}
	for _, d := range n.Devices {
		ops = append(ops, addressOps(node, d.Name, "device-address", d.Value.Addresses)...)
	}
	ops = append(ops, l.tunnelOps(node, n)...)
	for _, r := range n.Routes {
		ops = append(ops, topology.NewRoute(topology.Meta{Why: fmt.Sprintf("%s's own route", node), Pos: r.Pos}, node, r.Route))
	}
	return append(ops, l.returnRouteOps(node, n)...)
}

func addressOps(node, dev string, role topology.Role, as []Address) []topology.Op {
	var ops []topology.Op
	for _, a := range as {
		m := topology.Meta{
			Role: role, Why: fmt.Sprintf("%s's own address on %s", node, dev), Pos: a.Pos,
			Needs: append(deviceNeeds(dev), familyNeeds(a.Prefix.Addr())...),
		}
		ops = append(ops, topology.NewAddress(m, node, topology.Address{Device: dev, Prefix: a.Prefix, NoPrefixRoute: a.NoPrefixRoute}))
	}
	return ops
}

// vipOps put the virtual IPs where they are carried.
func (l *Lab) vipOps() []topology.Op {
	var ops []topology.Op
	for _, c := range l.carriers() {
		if c.place.Device == "" {
			continue
		}
		m := topology.Meta{
			Role: c.role, Pos: c.pos, Why: fmt.Sprintf("the director takes packets for %s of %s as its own, so that they reach IPVS", c.vip, c.service),
			Needs: append(deviceNeeds(c.place.Device), familyNeeds(c.vip)...),
		}
		if c.role == roleRealServerVIP {
			m.Why = fmt.Sprintf("%s accepts packets for %s, and answers the client from that address", c.node, c.vip)
		}
		op := topology.NewAddress(m, c.node, topology.Address{
			Device: c.place.Device, Prefix: c.place.Prefix(c.vip),
			// IPVS would take it for the outer source of a tunnel, by the
			// longest match of RFC 6724, and a real server that carries it,
			// too, drops such packets.
			NotSource: c.role == roleDirectorVIP && c.vip.Is6(),
		})
		if !slices.ContainsFunc(ops, func(o topology.Op) bool { return o.About().Key == op.About().Key }) {
			ops = append(ops, op)
		}
	}
	return ops
}

// arpOps are the rules of the nodes' ARP filters: the node's own, then those
// that hide a virtual IP.
func (l *Lab) arpOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		i := 0
		var rules []filter.ArpRule
		add := func(r filter.ArpRule, role topology.Role, why string, pos source.Pos) {
			if slices.Contains(rules, r) {
				return
			}
			rules = append(rules, r)
			i++
			ops = append(ops, filter.NewRule(e.Name, i, r, role, why, pos))
		}
		for _, r := range e.Value.ARPRules {
			role := filter.RoleInputDrop
			if r.Rule.Chain == filter.Output {
				role = filter.RoleOutputMangle
			}
			add(r.Rule, role, e.Name+"'s own ARP rule", r.Pos)
		}
		l.hiding(e.Name, func(v *VirtualService, vip netip.Addr, part string, own netip.Addr) {
			switch part {
			case partInputDrop:
				rule, _ := filter.ParseArpRule(fmt.Sprintf("-A INPUT -d %s -j DROP", vip))
				add(rule, filter.RoleInputDrop, fmt.Sprintf("%s does not answer who has %s", e.Name, vip), v.ARPSuppression.Pos)
			case partOutMangle:
				rule, _ := filter.ParseArpRule(fmt.Sprintf("-A OUTPUT -s %s -j mangle --mangle-ip-s %s", vip, own))
				add(rule, filter.RoleOutputMangle, fmt.Sprintf("%s asks for others as %s, not as %s", e.Name, own, vip), v.ARPSuppression.Pos)
			}
		})
	}
	return ops
}

// hiding calls f for each part of ARP suppression that a node owes to each
// virtual IP that it carries as a real server. IPv6 has no ARP: a kernel does
// not answer neighbour solicitations for an address that is on lo.
func (l *Lab) hiding(node string, f func(v *VirtualService, vip netip.Addr, part string, own netip.Addr)) {
	for _, e := range l.VirtualServices {
		v := e.Value
		if v.ARPSuppression == nil {
			continue
		}
		for _, r := range v.RealServers {
			if r.Node != node || !v.methodOf(r).Carried() {
				continue
			}
			own, err := l.Resolve(node)
			if err != nil {
				continue // structure has said so
			}
			for _, vip := range v.vips() {
				if !vip.Is4() {
					continue
				}
				for _, part := range v.ARPSuppression.Parts {
					f(v, vip, part, own)
				}
			}
		}
	}
}

// ipvsOps are the tables of the directors.
func (l *Lab) ipvsOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.VirtualServices {
		if e.Value.ManagedBy != "" {
			continue // another writes it
		}
		for _, d := range e.Value.Directors {
			ops = append(ops, l.serviceOps(e, d)...)
		}
	}
	return ops
}

// serviceOps are a virtual service and its real servers in the table of one
// director.
func (l *Lab) serviceOps(e source.Entry[*VirtualService], director string) []topology.Op {
	v := e.Value
	svc := v.service()
	ops := []topology.Op{ipvs.NewServiceOp(director, svc,
		fmt.Sprintf("%s is a virtual service of %s, scheduled by %s", e.Name, director, svc.Scheduler), e.Pos)}
	for _, r := range v.RealServers {
		addr, err := l.realServerAddress(director, v, r)
		if err != nil {
			continue // a finding that the lab allows
		}
		ops = append(ops, ipvs.NewDestinationOp(director, svc, v.destination(r, addr),
			fmt.Sprintf("%s is a real server of %s, by %s", r.Node, e.Name, v.methodOf(r).Title), r.Pos))
	}
	return ops
}
