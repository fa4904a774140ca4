package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// guessMarks finds the addresses that firewall marks stand for: those that the
// user gives, or else a virtual IP of the director's that no service has, which
// is what keepalived.conf has such addresses for.
func (s *surveyor) guessMarks() {
	used := make(map[netip.Addr]bool)
	for _, a := range s.vips() {
		used[a] = true
	}
	for _, p := range s.w.services {
		for _, m := range p.marked {
			used[m.Addr.Addr()] = true
		}
	}
	for _, p := range s.w.services {
		if p.FWMark == 0 {
			continue
		}
		if len(p.marked) > 0 {
			s.setMark(p)
			continue
		}
		i := slices.IndexFunc(s.c.Addresses, func(a config.Address) bool {
			return !used[a.Prefix.Addr()] && family(a.Prefix.Addr()) == int(p.Family)
		})
		if i >= 0 {
			a := s.c.Addresses[i]
			used[a.Prefix.Addr()] = true
			s.assumeMark(p, a.Prefix.Addr(), fmt.Sprintf("the virtual IP at %s, which no service has", a.Pos))
		}
	}
}

// makeMarks makes up addresses for the firewall marks that are left.
func (s *surveyor) makeMarks() {
	for _, p := range s.w.services {
		if p.FWMark == 0 || len(p.marked) > 0 {
			continue
		}
		if home := s.home[p.Family]; home != nil {
			s.assumeMark(p, s.freeVIP(home, int(p.Family)), "an address made up for it")
			home.vips++
		}
	}
}

// freeVIP is an address such as people give to a virtual IP, .100 and what
// follows, that is nobody's; or any other.
func (s *surveyor) freeVIP(seg *segment, f int) netip.Addr {
	p, _ := seg.prefix(f)
	a := p.Addr()
	for range 99 {
		a = a.Next()
	}
	for range 100 {
		if a = a.Next(); p.Contains(a) && !s.taken[a] && (f == 1 || a != broadcast(p)) {
			s.taken[a] = true
			return a
		}
	}
	return s.free(seg, f, false)
}

// assumeMark says what a firewall mark is taken to stand for.
func (s *surveyor) assumeMark(p *placed, a netip.Addr, why string) {
	m := Probe{Protocol: ipvs.TCP, Addr: netip.AddrPortFrom(a, markedPort(p))}
	p.marked = []Probe{m}
	s.setMark(p)
	text := fmt.Sprintf("firewall mark %d stands for %s %s, %s", p.FWMark, m.Protocol, m.Addr, why)
	p.comment = "Assumed: " + text + ". The mark's own rule is in no file that was read."
	s.w.note(p.Pos, config.Assumed, "%s; say it by --mark '%d=%s %s'", text, p.FWMark, m.Protocol, m.Addr)
}

// markedPort is the port that packets with a mark are taken to be for: that of
// the real servers or of their checkers, or else the web's.
func markedPort(p *placed) uint16 {
	for _, d := range p.servers {
		if port := d.Addr.Port(); port != 0 {
			return port
		}
	}
	for _, d := range p.servers {
		for _, c := range d.Checkers {
			if c.Port != 0 {
				return c.Port
			}
		}
	}
	return 80
}

// setMark fills in what follows from the packets that carry a mark.
func (s *surveyor) setMark(p *placed) {
	for i := range p.marked {
		m := &p.marked[i]
		m.Addr = netip.AddrPortFrom(m.Addr.Addr(), cmp.Or(m.Addr.Port(), markedPort(p)))
		if a := m.Addr.Addr(); !slices.Contains(p.vips, a) {
			p.vips = append(p.vips, a)
		}
	}
	p.probe, p.protocol = p.marked[0].Addr, p.marked[0].Protocol.String()
}

// markRules are the rules that set the marks, in iptables' words, of one family.
func (s *surveyor) markRules(f int) []machineRule {
	var rules []machineRule
	for _, p := range s.w.services {
		for _, m := range p.marked {
			if family(m.Addr.Addr()) == f {
				rules = append(rules, machineRule{
					text: fmt.Sprintf("-t mangle -A PREROUTING -d %s -p %s --dport %d -j MARK --set-mark %d", m.Addr.Addr(), m.Protocol, m.Addr.Port(), p.FWMark),
					pos:  p.Pos,
				})
			}
		}
	}
	return rules
}

// choosePort picks the port by which a service for every port is tried: 80, or
// the next that its address has no service of its own for.
func (s *surveyor) choosePorts() {
	own := make(map[string]bool)
	for _, p := range s.w.services {
		if p.FWMark == 0 {
			own[p.protocol+p.probe.String()] = true
		}
	}
	for _, p := range s.w.services {
		if p.FWMark != 0 || p.probe.Port() != 0 {
			continue
		}
		port := uint16(80)
		for _, d := range p.servers {
			if d.Addr.Port() != 0 && d.Forward == ipvs.NAT {
				port = d.Addr.Port()
				break
			}
		}
		p.probe = netip.AddrPortFrom(p.probe.Addr(), port)
		for ; own[p.protocol+p.probe.String()]; port++ {
			p.probe = netip.AddrPortFrom(p.probe.Addr(), port)
		}
		text := fmt.Sprintf("%s is for every port, and is tried at port %d", p.Name(), p.probe.Port())
		p.comment = "Assumed: " + text + "."
		s.w.note(p.Pos, config.Assumed, "%s", text)
	}
}
