package keepalived

import (
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// resolve makes services of virtual servers: groups may be defined below their
// use, and a block's defaults are known only at its end.
func (t *translator) resolve() {
	seen := map[string]source.Pos{}
	for _, v := range t.virtuals {
		var g *group
		if v.group.text != "" {
			if g = t.group(v.group.text); g == nil {
				t.fail(v.group.at, "virtual_server_group %s is not defined; keepalived would leave the virtual server out", quote(v.group.text))
				continue
			}
			g.used = true
		}
		if len(v.servers) == 0 {
			t.warn(v.at, "%s has no real_server; keepalived leaves it out", v.name)
			continue
		}
		targets, ok := t.targets(v, g)
		if !ok {
			continue
		}
		t.defaults(v, targets)
		t.place(v, targets, seen)
	}
	for _, g := range t.groups {
		if !g.used {
			t.warn(g.at, "virtual_server_group %s is used by no virtual_server", quote(g.name))
		}
	}
}

// targets are what a virtual server is for: of a group its addresses in their
// order, then its marks (run).
func (t *translator) targets(v *virtual, g *group) ([]target, bool) {
	if g == nil {
		return []target{{at: v.at, addr: v.addr, mark: v.mark, af: v.finalFamily()}}, true
	}
	both := map[family]bool{}
	for _, a := range g.addrs {
		both[a.af] = true
	}
	out := append([]target(nil), g.addrs...)
	for _, m := range g.marks {
		switch {
		case m.af != unknownFamily:
		case len(both) > 1:
			t.fail(m.at, "virtual_server_group %s has IPv4 and IPv6 addresses, so fwmark %d needs inet or inet6 behind it", quote(g.name), m.mark)
			return nil, false
		case both[v6]:
			m.af = v6
		case both[v4]:
			m.af = v4
		default:
			m.af = v.groupFamily()
		}
		out = append(out, m)
	}
	return out, len(out) > 0
}

// finalFamily is the family of a virtual server of its own: what the block has
// told, or that of its servers if they are of one.
func (v *virtual) finalFamily() family {
	if v.af != unknownFamily {
		return v.af
	}
	all := v.servers
	if v.sorry != nil {
		all = append([]*server{v.sorry}, all...)
	}
	af := unknownFamily
	for _, rs := range all {
		if f := familyOf(rs.addr); af == unknownFamily {
			af = f
		} else if af != f {
			return v4
		}
	}
	return af
}

// groupFamily is the family of a group of marks alone: that of its first real
// server that is not tunnelled, and IPv4 where all are (run).
func (v *virtual) groupFamily() family {
	if v.af != unknownFamily {
		return v.af
	}
	for _, rs := range v.servers {
		m := rs.method
		if !m.set {
			m = v.method
		}
		if m.forward != ipvs.TUN || !m.set {
			return familyOf(rs.addr)
		}
	}
	return v4
}

// defaults fills in what the block does not say, as keepalived does when it has
// read all.
func (t *translator) defaults(v *virtual, targets []target) {
	addressed, anyPort := false, false
	for _, g := range targets {
		if g.mark == 0 {
			addressed = true
			anyPort = anyPort || g.addr.Port() == 0
		}
	}
	switch {
	case addressed && v.proto == 0:
		t.warn(v.at, "%s names no protocol; keepalived takes UDP", v.name)
		v.proto = ipvs.UDP
	case !addressed && v.proto != 0:
		t.warn(v.places["protocol"], "%s: the protocol says nothing for a firewall mark", v.name)
		v.proto = 0
	}
	if addressed && v.onePacket && v.proto != ipvs.UDP {
		t.warn(v.places["ops"], "ops is for UDP alone; keepalived leaves it out for %v", v.proto)
		v.onePacket = false
	}
	if v.sched == "" {
		t.assume(v.at, "%s names no scheduler (lb_algo); keepalived takes %s", v.name, ipvs.DefaultScheduler)
		v.sched = ipvs.DefaultScheduler
	}
	t.defaultMethod(v)
	if p, ok := v.places["granularity"]; ok && v.timeout == 0 {
		t.assume(p, "persistence_granularity without persistence_timeout: keepalived takes %.0f s", ipvs.DefaultPersistence.Seconds())
		v.timeout = ipvs.DefaultPersistence
		v.places["persistence"] = p
	}
	if p, ok := v.places["granularity"]; ok && v.group.text != "" {
		t.warn(p, "persistence_granularity does not count for a virtual_server_group; keepalived 2.2.7 takes each client for itself")
	}
	if p, ok := v.places["engine"]; ok && v.timeout == 0 && !anyPort {
		t.warn(p, "persistence_engine says nothing without persistence_timeout")
	}
	if anyPort && v.timeout == 0 {
		t.warn(v.at, "%s has no port, which is every port and needs persistence; keepalived takes %.0f s", v.name, ipvs.DefaultPersistence.Seconds())
		v.timeout = ipvs.DefaultPersistence
	}
	for _, rs := range v.servers {
		rs.fill()
	}
	if v.sorry != nil {
		v.sorry.fill()
	}
	t.sums(v)
}

func (t *translator) defaultMethod(v *virtual) {
	if v.method.set {
		return
	}
	v.method = method{set: true, forward: ipvs.NAT}
	for _, rs := range v.servers {
		if !rs.method.set {
			t.assume(v.at, "%s names no forwarding method (lb_kind); keepalived takes NAT", v.name)
			return
		}
	}
}

// sums holds the quorum against the weights.
func (t *translator) sums(v *virtual) {
	sum := 0
	for _, rs := range v.servers {
		sum += rs.weight
	}
	switch {
	case sum == 0 && v.sorry != nil:
		t.warn(v.at, "all weights of %s are 0, so its sorry server takes over at once", v.name)
		v.quorum = 0
	case sum == 0:
		t.warn(v.at, "all weights of %s are 0, so nobody answers for it", v.name)
		v.quorum = 0
	case v.quorum > sum:
		if p, ok := v.places["quorum"]; ok {
			t.warn(p, "quorum %d is more than all weights together, %d; keepalived takes %d", v.quorum, sum, sum)
		}
		v.quorum = sum
	}
}

// place adds a service for each target.
func (t *translator) place(v *virtual, targets []target, seen map[string]source.Pos) {
	told := map[*server]bool{}
	for _, g := range targets {
		s := t.service(v, g)
		if s.FWMark != 0 {
			s.Family = ipvs.IPv4
			if g.af == v6 {
				s.Family = ipvs.IPv6
			}
		}
		if first, twice := seen[s.Name()]; twice {
			t.fail(s.Place("address"), "a second virtual_server for %s (the first is in %s); keepalived would add its real servers to the first and leave out the rest",
				s.Name(), inLine(first, s.Pos))
			return
		}
		seen[s.Name()] = s.Place("address")
		if t.placed += len(v.servers); t.placed > maxServers {
			t.fail(v.at, "more than %d real servers in all services together", maxServers)
			return
		}
		t.fillServers(v, g, s, told)
		if err := s.Validate(); err != nil {
			t.fail(s.Place("address"), "%v", err)
			return
		}
		if t.cfg.Services = append(t.cfg.Services, *s); len(t.cfg.Services) > maxServices {
			t.fail(v.at, "more than %d virtual services in all", maxServices)
			return
		}
	}
}

// service is one service of v's, without its servers.
func (t *translator) service(v *virtual, g target) *config.Service {
	s := &config.Service{
		Service: ipvs.Service{
			FWMark: g.mark, Scheduler: v.sched, Flags: v.flags, Timeout: v.timeout, OnePacket: v.onePacket, PE: v.pe,
		},
		Pos: v.at, Group: v.group.text, Parent: v.parent, Places: v.places, Quorum: v.quorum, VirtualHost: v.host,
		DelayLoop: v.delay, Alpha: v.alpha, InhibitOnFailure: v.inhibit,
	}
	if g.mark == 0 {
		s.Protocol, s.Addr = v.proto, g.addr
	}
	if v.group.text == "" {
		s.Netmask = v.netmask
	}
	if g.at != v.at {
		s.Places = make(map[string]source.Pos, len(v.places)+1)
		for k, p := range v.places {
			s.Places[k] = p
		}
		s.Places["address"] = g.at
	}
	return s
}
