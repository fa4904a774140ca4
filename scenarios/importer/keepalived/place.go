package keepalived

import (
	"fmt"
	"net/netip"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// fillServers adds v's servers to its service s. told are the servers of which
// something has been said, so that a group says it once.
func (t *translator) fillServers(v *virtual, g target, s *config.Service, told map[*server]bool) {
	once := func(rs *server, say func()) {
		if !told[rs] {
			say()
		}
		told[rs] = true
	}
	there := make(map[netip.AddrPort]source.Pos, len(v.servers))
	s.Servers = make([]config.Server, 0, len(v.servers))
	for _, rs := range v.servers {
		if !t.fits(v, g, rs, once) {
			continue
		}
		if g.mark == 0 && rs.addr == g.addr.Addr() {
			once(rs, func() {
				t.fail(rs.at, "real_server %v is the virtual address itself; a real server needs an address of its own", rs.addr)
			})
			continue
		}
		d := rs.destination(t.portOf(v, g, rs, once))
		if first, twice := there[d.Addr]; twice {
			once(rs, func() {
				t.warn(rs.at, "real_server %v is here a second time (the first is in %s); keepalived leaves it out", d.Addr, inLine(first, rs.at))
			})
			continue
		}
		there[d.Addr] = rs.at
		for _, c := range rs.checkers {
			d.Checkers = append(d.Checkers, c.in(rs, d.Destination, v.proto))
		}
		if err := d.Validate(s.Service); err != nil {
			once(rs, func() { t.fail(rs.at, "%v", err) })
			continue
		}
		s.Servers = append(s.Servers, d)
	}
	if rs := v.sorry; rs != nil && t.fits(v, g, rs, once) {
		d := rs.destination(t.portOf(v, g, rs, once))
		d.InhibitOnFailure = rs.inhibit != nil && *rs.inhibit
		s.Sorry = &d
	}
}

// fits refuses a server of another family than the service's, unless it is
// tunnelled.
func (t *translator) fits(v *virtual, g target, rs *server, once func(*server, func())) bool {
	if rs.method.forward == ipvs.TUN || familyOf(rs.addr) == g.af {
		return true
	}
	once(rs, func() { t.wrongFamily(v, rs, g.af) })
	return false
}

// wrongFamily tells of a server that does not fit its service. keepalived asks
// for TUN at the end of the real_server: a lb_kind below it comes too late (run).
func (t *translator) wrongFamily(v *virtual, rs *server, af family) {
	part, late := "", ""
	if v.group.text != "" {
		part = ", in part"
	}
	if !rs.method.set {
		late = " said above it"
	}
	t.fail(rs.at, "%v is %v and %s is %v%s: only TUN%s may mix them, and keepalived would leave the server out",
		rs.addr, familyOf(rs.addr), v.name, af, part, late)
}

// portOf is the port that keepalived gives a server in one service (run). With DR
// and TUN it is the service's, and none for a mark. With NAT it is the one that is
// written; without one it is the service's for a virtual server of its own, and
// stays 0, which means the same to the kernel, for a mark, in a group, and for a
// sorry server.
func (t *translator) portOf(v *virtual, g target, rs *server, once func(*server, func())) uint16 {
	if rs.method.forward == ipvs.NAT {
		if rs.port == 0 && g.mark == 0 && v.group.text == "" && rs != v.sorry {
			return g.addr.Port()
		}
		return rs.port
	}
	want := g.addr.Port()
	if g.mark != 0 {
		want = 0
	}
	if rs.port != 0 && rs.port != want {
		once(rs, func() {
			to := fmt.Sprintf("keepalived takes the virtual server's, %d", want)
			if g.mark != 0 {
				to = "keepalived leaves it out for a firewall mark"
			}
			t.warn(rs.at, "port %d of %v does not count: with %s packets keep their port, and %s", rs.port, rs.addr, methodWord(rs), to)
		})
	}
	return want
}

// methodWord is keepalived's word for a server's method.
func methodWord(rs *server) string {
	return map[ipvs.Forward]string{ipvs.DR: "DR", ipvs.TUN: "TUN", ipvs.NAT: "NAT"}[rs.method.forward]
}
