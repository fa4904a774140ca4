package importer

import (
	"fmt"
	"net/netip"
	"slices"
)

// caller is a client in the sense of persistence: one source address, or the
// addresses of one network where there is a netmask.
type caller struct{ sources []string }

// callers are those that can ask the service.
func (p *planner) callers(s *placed) []caller {
	var out []caller
	var networks []netip.Prefix
	for _, text := range p.asked(s) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		bits := a.BitLen()
		if s.Netmask > 0 {
			bits = min(bits, s.Netmask)
		}
		network, err := a.Prefix(bits)
		if err != nil {
			continue
		}
		i := slices.Index(networks, network)
		if i < 0 {
			i = len(networks)
			networks, out = append(networks, network), append(out, caller{})
		}
		out[i].sources = append(out[i].sources, text)
	}
	return out
}

// ftpPort is the port at which IPVS remembers a client for all ports of the
// address, since FTP's data comes on another (ip_vs_sched_persist in ip_vs_core.c).
const ftpPort = 21

// withFTP says that a persistent service shares what it remembers with another of
// its address: that of FTP and that of all ports do.
func (p *planner) withFTP(s *placed) bool {
	other := map[uint16]uint16{ftpPort: 0, 0: ftpPort}
	port, ok := other[s.Addr.Port()]
	if !ok || !s.Persistent() || s.FWMark != 0 || s.protocol != "tcp" {
		return false
	}
	return slices.ContainsFunc(p.services, func(o *placed) bool {
		return o.FWMark == 0 && o.protocol == "tcp" && o.Persistent() && o.Addr == netip.AddrPortFrom(s.Addr.Addr(), port)
	})
}

// persistent is any scheduler with persistence: a client comes back to its server,
// and clients are what the scheduler counts. Each asks twice, one time right after
// the other, which without persistence would be two servers.
func (p *planner) persistent(s *placed, n int) spread {
	callers := p.callers(s)
	if len(callers) == 0 || n < 2 {
		return p.any(s, n)
	}
	sticky := s.sticky()
	if len(callers) == 1 {
		sp := p.sources(s, callers[0].sources[:min(4, n, len(callers[0].sources))])
		sticky.text = sticky.text[:len(sticky.text)-1] + ", servers: 1}"
		sp.expect = []assertion{sticky}
		return sp
	}
	most := min(len(callers), n/2)
	switch servers := s.active(); s.scheduler() {
	case "rr", "wrr", "lc", "wlc":
		weights, partly := reduced(servers), greedy
		if s.scheduler() == "rr" || s.scheduler() == "lc" {
			weights = equal(servers)
		}
		if s.scheduler() == "rr" || s.scheduler() == "wrr" {
			partly = windows
		}
		each, count := rounds(weights, most, partly)
		for i := range each {
			each[i] = bounds{2 * each[i].least, 2 * each[i].most}
		}
		check, sure := s.answers(servers, each)
		sp := p.calls(s, callers, count)
		sp.expect, sp.sure = []assertion{sticky, check}, sure
		return sp
	case "sed", "nq", "fo", "ovf":
		top := p.top(s, n)
		sp := p.calls(s, callers, min(2, most))
		sp.expect, sp.sure = append([]assertion{sticky}, top.expect...), top.sure
		return sp
	case "dh", "lblc", "lblcr":
		sp := p.calls(s, callers, min(2, most))
		sp.expect = p.one(s, n).expect
		return sp
	}
	sp := p.calls(s, callers, min(4, most))
	sp.expect = []assertion{sticky}
	return sp
}

// sticky expects that clients come back to their servers, at the place of the
// service's persistence.
func (s *placed) sticky() assertion {
	text := "sticky: {by: source}"
	if s.Netmask > 0 && s.Netmask < s.probe.Addr().BitLen() {
		text = fmt.Sprintf("sticky: {by: source, netmask: %d}", s.Netmask)
	}
	return assertion{kind: "sticky", text: text, from: s.Place("persistence")}
}

// calls are two requests of each of the first callers: by two of their addresses,
// where they have so many.
func (p *planner) calls(s *placed, callers []caller, n int) spread {
	var sp spread
	for _, c := range callers[:max(1, min(n, len(callers)))] {
		if len(c.sources) < 2 {
			sp.requests = append(sp.requests, p.request(s, "source: "+scalar(c.sources[0]), "count: 2"))
			continue
		}
		sp.requests = append(sp.requests, p.sources(s, c.sources[:2]).requests...)
	}
	return sp
}

// sources are a request from each of some addresses; of one alone, two.
func (p *planner) sources(s *placed, list []string) spread {
	var sp spread
	for _, a := range list {
		sp.requests = append(sp.requests, p.request(s, "source: "+scalar(a)))
	}
	if len(list) == 1 {
		sp.requests = append(sp.requests, sp.requests[0])
	}
	return sp
}

// rounds are whole rounds of weights that are not longer than n, or n where one is,
// with what each server gets.
func rounds(weights []int64, n int, partly func([]int64, int) []bounds) ([]bounds, int) {
	round := sum(weights)
	if round > int64(n) {
		return partly(weights, n), n
	}
	times := int64(1)
	if len(weights) == 1 || 2*round <= int64(min(n, usualRequests)) {
		times = min(2, int64(n)/round)
	}
	each := make([]bounds, len(weights))
	for i, w := range weights {
		each[i] = bounds{int(w * times), int(w * times)}
	}
	return each, int(round * times)
}
