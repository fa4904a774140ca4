package importer

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// spread is how a service's requests are sent, and who must answer them.
type spread struct {
	comment  string
	requests []assertion
	expect   []assertion
	// sure are the nodes that answer at least once.
	sure []string
	// refusals says that some requests may be refused, rightly.
	refusals bool
}

// spread works out what the service's scheduler does with its weights. Only what
// holds on every kernel, whatever happened before, is expected.
func (p *planner) spread(s *placed) spread {
	n := p.budget
	if room := s.room(); room > 0 {
		n = min(n, room)
	}
	switch {
	case p.mayRefuse(s):
		return p.refusing(s)
	case s.Persistent():
		return p.persistent(s, n)
	case s.OnePacket && !slices.Contains([]string{"rr", "wrr"}, s.scheduler()):
		return p.any(s, n)
	}
	switch s.scheduler() {
	case "rr":
		return p.inTurn(s, n)
	case "wrr", "lc", "wlc":
		return p.counted(s, n)
	case "sed", "nq":
		return p.delayed(s, n)
	case "fo", "ovf":
		return p.top(s, n)
	case "sh", "mh":
		return p.bySource(s, n)
	case "dh", "lblc", "lblcr":
		return p.one(s, n)
	case "twos":
		return p.drawn(s, n)
	}
	return p.any(s, n)
}

// mayRefuse says that the scheduler may send a client to a real server of weight
// 0, which is refused then: hashes deal out their places without looking.
func (p *planner) mayRefuse(s *placed) bool {
	if len(s.active()) == len(s.servers) {
		return false
	}
	switch s.scheduler() {
	case "sh", "mh":
		return !s.flag("fallback")
	case "dh":
		return true
	}
	return false
}

// flag says whether the hash of sh or mh has a flag, "port" or "fallback".
func (s *placed) flag(name string) bool {
	return slices.Contains(s.Normal().Flags, s.scheduler()+"-"+name)
}

// room is how many connections the service may have before a real server is full
// by its upper threshold, 0 for no bound.
func (s *placed) room() int {
	least := 0
	for _, d := range s.active() {
		if d.Upper > 0 && (least == 0 || int64(d.Upper) < int64(least)) {
			least = int(min(d.Upper, math.MaxInt32))
		}
	}
	return least
}

// expectation is one whose place is that of the scheduler.
func (s *placed) expectation(kind, format string, args ...any) assertion {
	return assertion{kind: kind, text: kind + ": " + fmt.Sprintf(format, args...), from: s.Place("scheduler")}
}

// ask is n requests, one after another. Those of one-packet scheduling come from
// one socket, where the client can.
func (p *planner) ask(s *placed, n int) []assertion {
	more := []string{fmt.Sprintf("count: %d", n)}
	if s.OnePacket && s.client == "udp" {
		more = append(more, "same_socket: true")
	}
	return []assertion{p.request(s, more...)}
}

// nodesOf are the servers' nodes, each once.
func nodesOf(servers []server) []string {
	var out []string
	for _, d := range servers {
		if !slices.Contains(out, d.node) {
			out = append(out, d.node)
		}
	}
	return out
}

// listed are names in flow style.
func listed(names []string) string { return strings.Join(scalars(names), ", ") }

// any expects nothing but answers.
func (p *planner) any(s *placed, n int) spread {
	sp := spread{requests: p.ask(s, min(n, 4))}
	if nodes := nodesOf(s.active()); len(nodes) == 1 {
		sp.expect, sp.sure = []assertion{s.expectation("only", "%s", scalar(nodes[0]))}, nodes
	}
	return sp
}

// refusing is any, where some clients may be refused.
func (p *planner) refusing(s *placed) spread {
	return spread{
		comment:  "Clients whose hash is that of a real server with weight 0 are refused, and others are answered.",
		requests: p.ask(s, 2), refusals: true,
		expect: []assertion{s.expectation("results", `{ok: ">=0", refused: ">=0"}`)},
	}
}

// bounds are how many answers one server gives, at least and at most.
type bounds struct{ least, most int }

// answers expects so many of each server, those of one node added up.
func (s *placed) answers(servers []server, each []bounds) (assertion, []string) {
	nodes := nodesOf(servers)
	sums := make([]bounds, len(nodes))
	for i, d := range servers {
		at := slices.Index(nodes, d.node)
		sums[at].least += each[i].least
		sums[at].most += each[i].most
	}
	var words, sure []string
	for i, b := range sums {
		word := fmt.Sprint(b.least)
		switch {
		case b.least == 0 && b.most > 0:
			word = fmt.Sprintf(`"<=%d"`, b.most)
		case b.most > b.least:
			word = fmt.Sprintf("%d..%d", b.least, b.most)
		}
		if b.least > 0 {
			sure = append(sure, nodes[i])
		}
		words = append(words, scalar(nodes[i])+": "+word)
	}
	if len(nodes) == 1 {
		return s.expectation("only", "%s", scalar(nodes[0])), sure
	}
	return s.expectation("answers", "{%s}", strings.Join(words, ", ")), sure
}

// inTurn is rr: every server as often, in a fixed order.
func (p *planner) inTurn(s *placed, n int) spread {
	servers := s.active()
	k := len(servers)
	if p.ordered() && len(nodesOf(servers)) > 1 && 2*k <= n {
		var names []string
		for _, d := range slices.Backward(servers) { // the kernel begins with the last
			names = append(names, d.node)
		}
		return spread{
			requests: p.ask(s, 2*k), sure: nodesOf(servers),
			expect: []assertion{s.expectation("rotation", "[%s]", listed(names))},
		}
	}
	return p.proportional(s, n, equal(servers), windows, 0)
}

// ordered says that the order in which real servers were added is that of the
// configuration. keepalived adds them as its checkers find them.
func (w *world) ordered() bool { return w.managedBy != managedByKeepalived }

// counted is wrr, lc and wlc: by weight, or evenly for lc. With requests one after
// another the least connections are those that were there, each once, so that
// whole rounds come out even.
func (p *planner) counted(s *placed, n int) spread {
	switch s.scheduler() {
	case "lc":
		return p.proportional(s, n, equal(s.active()), greedy, 0)
	case "wlc":
		return p.proportional(s, n, reduced(s.active()), greedy, p.telling(s, n, greedy))
	}
	return p.proportional(s, n, reduced(s.active()), windows, p.telling(s, n, windows))
}

// telling is how many rounds show the most of the weights that differ from the
// service's own in one server by one, all divided by what they have in common; 0
// where none does.
func (p *planner) telling(s *placed, n int, partly func(weights []int64, n int) []bounds) int64 {
	if len(p.services) > mostInline {
		return 0
	}
	turns := reduced(s.active())
	best, most := int64(0), 0
	for times := int64(1); times*sum(turns) <= int64(min(n, tellingRequests)); times++ {
		told := 0
		for i := range turns {
			for _, by := range []int64{-1, 1} {
				other := slices.Clone(turns)
				if other[i] += by; other[i] > 0 && differs(turns, times, partly(other, int(times*sum(turns)))) {
					told++
				}
			}
		}
		if told > most {
			best, most = times, told
		}
	}
	return best
}

// differs reports whether so many rounds are not within the bounds of others.
func differs(turns []int64, times int64, other []bounds) bool {
	for i, b := range other {
		if c := int(turns[i] * times); c < b.least || c > b.most {
			return true
		}
	}
	return false
}

// proportional expects shares by weight: exact ones over whole rounds, where one
// is not too long, and else as near as the scheduler comes, which partly says. There
// are at least so many rounds.
func (p *planner) proportional(s *placed, n int, weights []int64, partly func(weights []int64, n int) []bounds, atLeast int64) spread {
	servers := s.active()
	var each []bounds
	round := sum(weights)
	if round <= int64(n) {
		times := max(1, int64(min(n, usualRequests))/round)
		if len(servers) == 1 {
			times = min(times, 4)
		} else {
			times = max(min(times, 2), atLeast)
		}
		for _, w := range weights {
			each = append(each, bounds{int(w * times), int(w * times)})
		}
		n = int(round * times)
	} else {
		n = min(n, usualRequests)
		each = partly(weights, n)
	}
	check, sure := s.answers(servers, each)
	return spread{requests: p.ask(s, n), expect: []assertion{check}, sure: sure}
}

// delayed is sed and nq, which look at open connections alone. Where a client can
// hold them, they go by weight; short requests always find the same server best.
func (p *planner) delayed(s *placed, n int) spread {
	servers := s.active()
	if len(servers) < 2 || !slices.Contains([]string{"http", "tcp", "sctp"}, s.client) {
		return p.top(s, n)
	}
	weights := reduced(servers)
	if round := sum(weights); round <= int64(n) {
		n = int(round)
	} else {
		n = min(n, usualRequests)
	}
	name := "all-of-" + s.name
	check, sure := s.answers(servers, expectedDelay(weights, n, s.scheduler() == "nq", p.ordered()))
	return spread{
		requests: []assertion{
			p.request(s, fmt.Sprintf("count: %d", n), "hold: true", "name: "+scalar(name)),
			{kind: "release", text: "release: " + scalar(name)},
		},
		expect: []assertion{check}, sure: sure,
	}
}

// top is a scheduler that gives short requests to one server: that of the highest
// weight, or with nq the first in the kernel's list.
func (p *planner) top(s *placed, n int) spread {
	servers := s.active()
	best := servers
	if s.scheduler() != "nq" {
		most := slices.MaxFunc(servers, func(a, b server) int { return a.Weight - b.Weight }).Weight
		best = slices.DeleteFunc(slices.Clone(servers), func(d server) bool { return d.Weight < most })
	}
	if len(best) > 1 && !p.ordered() {
		return p.one(s, n)
	}
	last := best[len(best)-1] // which is the first in the kernel's list
	return spread{
		requests: p.ask(s, min(n, 3)), sure: []string{last.node},
		expect: []assertion{{kind: "only", text: "only: " + scalar(last.node), from: last.Place("weight")}},
	}
}

// one is a scheduler that goes by the address that is asked, which is one.
func (p *planner) one(s *placed, n int) spread {
	if nodes := nodesOf(s.active()); len(nodes) == 1 {
		return p.any(s, n)
	}
	return spread{
		requests: p.ask(s, max(2, min(n, 4))),
		expect:   []assertion{s.expectation("sticky", "{by: service, servers: 1}")},
	}
}

// bySource is a hash of the client's address. With the port in it, who answers
// cannot be told.
func (p *planner) bySource(s *placed, n int) spread {
	sources := p.asked(s)
	if s.flag("port") || len(sources) == 0 {
		return p.any(s, n)
	}
	sp := spread{expect: []assertion{s.expectation("sticky", "{by: source}")}}
	for _, a := range sources[:max(1, min(n/2, len(sources)))] {
		sp.requests = append(sp.requests, p.request(s, "source: "+scalar(a), "count: 2"))
	}
	return sp
}

// drawn is twos, which draws lots: chance has its bounds, too, and they are so
// wide here that no kernel fails that does right.
func (p *planner) drawn(s *placed, n int) spread {
	servers := s.active()
	weights := reduced(servers)
	sp := spread{requests: p.ask(s, n)}
	const leastExpected = 5 // of the chi-square test, see assert
	nodes := nodesOf(servers)
	if len(nodes) < 2 || len(nodes) < len(servers) || float64(slices.Min(weights))*float64(n)/float64(sum(weights)) < leastExpected {
		return p.any(s, n)
	}
	var words []string
	for i, d := range servers {
		words = append(words, fmt.Sprintf("%s: %d", scalar(d.node), weights[i]))
	}
	sp.expect = []assertion{s.expectation("distribution", "{%s, significance: 0.00000001}", strings.Join(words, ", "))}
	return sp
}
