package importer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// How long the real keepalived is waited for.
const (
	// longestLoop is the longest time between two checks of which a lab waits.
	longestLoop = 10 * time.Second
	// loops is after how many of them a server is surely found down: keepalived
	// tries again, by default once, and begins anywhere in the first.
	loops = 4
	// loopSlack is for a slow machine.
	loopSlack = 20 * time.Second
)

// sorryFirst says that the real keepalived has called the sorry server when it has
// looked at all: the weights of those that are up are below the quorum together.
func (p *planner) sorryFirst(s *placed) bool {
	sum := 0
	for _, d := range s.servers {
		sum += d.Weight
	}
	return p.managedBy == managedByKeepalived && s.Sorry != nil && sum < s.Quorum
}

// sorryAnswers says that the sorry server, and nobody else, answers whoever asks a
// pool that holds real servers with weight 0 besides: not where the lab leaves it
// out, or a hash may meet one of them.
func (p *planner) sorryAnswers(s *placed, pool []server) bool {
	now := *s
	now.servers = pool
	return s.sorry != nil && !p.mayRefuse(&now)
}

// gone are the steps in which the pool of a service with a sorry server is gone,
// and back again.
func (p *planner) gone(s *placed) []step {
	if s.sorry == nil || len(s.untold) > 0 || p.unasked(s) != "" || len(s.active()) == 0 || p.sorryFirst(s) || p.leftOut(s) != "" {
		return nil
	}
	switch p.managedBy {
	case "":
		return p.replaced(s)
	case managedByKeepalived:
		return p.stopped(s)
	}
	return nil // the table is somebody's who knows of no sorry server
}

// leftOut is why there are no steps in which a pool is gone that the real
// keepalived watches; it is empty where there are, or no sorry server is.
func (p *planner) leftOut(s *placed) string {
	const steps = "no step stops the real servers and waits for the sorry server, since "
	if s.sorry == nil || p.managedBy != managedByKeepalived {
		return ""
	}
	if s.DelayLoop <= 0 || s.DelayLoop > longestLoop {
		return steps + fmt.Sprintf("it looks at them every %v only.", s.DelayLoop)
	}
	for _, d := range s.active() {
		if p.checked(d) == "" {
			return steps + fmt.Sprintf("no checker of %s looks at what the lab can stop.", d.Addr)
		}
	}
	return ""
}

// leftOutNotes tell of services whose pool is never gone.
func (p *planner) leftOutNotes() {
	for _, s := range p.services {
		if why := p.leftOut(s); why != "" && len(s.untold) == 0 && len(s.active()) > 0 && !p.sorryFirst(s) {
			p.note(s.sorry.Pos, config.Ignored, "sorry server %s of %s is not tried: %s", s.sorry.Addr, s.Name(), strings.TrimSuffix(why, "."))
		}
	}
}

// whyFailed tells of the real servers that are not there.
func (s *placed) whyFailed() string {
	if len(s.failed) == 0 {
		return ""
	}
	return "keepalived finds real servers down in the lab: " + strings.Join(slices.Compact(slices.Clone(s.failed)), "; ") + "."
}

// replaced does what keepalived does when it finds all real servers down.
func (p *planner) replaced(s *placed) []step {
	set := func(servers []server) assertion {
		var words []string
		for _, d := range servers {
			words = append(words, s.serverText(d, s.forwarding()))
		}
		return assertion{kind: "change", text: fmt.Sprintf("change: {virtual_services: {%s: {real_servers: [%s]}}}", scalar(s.name), strings.Join(words, ", "))}
	}
	pool := []server{*s.sorry}
	away, back := set(pool), set(s.servers)
	away.from = s.sorry.Pos
	return []step{{
		name: s.title() + ", its pool gone: the sorry server answers", service: s,
		comment: "keepalived is not there; the change is what it does when all real servers are down. The next step puts them back.",
		do:      []assertion{away, p.request(s, "count: 2")},
		expect: []assertion{
			{kind: "only", text: "only: " + scalar(s.sorry.node), from: s.sorry.Pos},
			p.table(s, s.Service.Service, pool),
		},
	}, p.returned(s, []assertion{back})}
}

// returned is the step in which the pool is there again.
func (p *planner) returned(s *placed, do []assertion) step {
	out := step{name: s.title() + ", its pool back: the real servers answer", service: s, do: do}
	if !p.mayRefuse(s) {
		out.do = append(slices.Clip(do), p.request(s, "count: 2"))
		out.expect = []assertion{{kind: "result", text: "result: ok", from: s.Pos}}
		if !slices.Contains(nodesOf(s.servers), s.sorry.node) {
			var words []string
			for _, n := range nodesOf(s.active()) {
				words = append(words, scalar(n)+`: ">=0"`)
			}
			out.expect = append(out.expect, assertion{kind: "answers", text: "answers: {" + strings.Join(words, ", ") + "}", from: s.Pos})
		}
	}
	out.expect = append(out.expect, p.table(s, s.Service.Service, p.pool(s)))
	return out
}

// pool are the real servers of the table while nothing is stopped. The real
// keepalived keeps a sorry server that it inhibits among them, with weight 0; and
// when it calls it, it inhibits or removes all others.
func (p *planner) pool(s *placed) []server {
	if p.managedBy != managedByKeepalived || s.Sorry == nil {
		return s.servers
	}
	sorry := server{Server: s.Sorry}
	switch {
	case p.sorryFirst(s):
		return append(s.inhibited(), sorry)
	case s.Sorry.InhibitOnFailure:
		return append(slices.Clip(s.servers), sorry.quiet())
	}
	return s.servers
}

// inhibited are the real servers that are left, with weight 0, when keepalived
// takes all of them out.
func (s *placed) inhibited() []server {
	var out []server
	for _, d := range s.servers {
		if s.inhibits(d) {
			out = append(out, d.quiet())
		}
	}
	return out
}

// stopped stops the servers themselves, and waits until the real keepalived has
// found out. That is nothing to wait for where it looks once a minute, and needs
// checks that notice.
func (p *planner) stopped(s *placed) []step {
	var stop, start []assertion
	for _, d := range s.active() {
		words := fmt.Sprintf("{node: %s, service: %s}", scalar(d.node), scalar(p.checked(d)))
		if a := (assertion{kind: "stop", text: "stop: " + words, from: d.Pos}); !slices.ContainsFunc(stop, func(o assertion) bool { return o.text == a.text }) {
			stop = append(stop, a)
			start = append(start, assertion{kind: "start", text: "start: " + words})
		}
	}
	left := append(s.inhibited(), *s.sorry)
	within := (loops*s.DelayLoop + loopSlack).String()
	out := []step{{
		name: s.title() + ", its servers stopped: keepalived calls the sorry server", service: s, within: within,
		do: stop, expect: []assertion{p.table(s, s.Service.Service, left)},
	}}
	if (len(left) == 1 || !s.Persistent()) && p.sorryAnswers(s, left) { // a template would lead to a quiet server
		out = append(out, step{
			name: s.title() + ", its pool gone: the sorry server answers", service: s,
			do:     []assertion{p.request(s, "count: 2")},
			expect: []assertion{{kind: "only", text: "only: " + scalar(s.sorry.node), from: s.sorry.Pos}},
		})
	}
	out = append(out, step{
		name: s.title() + ", its servers started: keepalived calls them back", service: s, within: within,
		do: start, expect: []assertion{p.table(s, s.Service.Service, p.pool(s))},
	})
	return append(out, p.returned(s, nil))
}

// checked is the server, in the words of its node's serve:, without which a
// checker of the real server's fails; "" where there is none.
func (p *planner) checked(d server) string {
	for _, c := range d.Checkers {
		if !c.Passable || c.Port == 0 || c.Addr.IsValid() && c.Addr != d.Addr.Addr() {
			continue
		}
		for _, m := range p.nodes {
			if m.name != d.node {
				continue
			}
			for _, entry := range m.serve {
				if servePort(entry) == c.Port {
					return entry
				}
			}
		}
	}
	return ""
}

// serveWord is what an entry of serve: speaks.
func serveWord(entry string) string {
	word, _, _ := strings.Cut(entry, " ")
	return word
}

// servePort is the port of an entry of serve:, 0 where it does not say.
func servePort(entry string) uint16 {
	service, port, ok := strings.Cut(entry, " ")
	if !ok {
		return map[string]uint16{"http": 80, "dns": 53, "smtp": 25, "ftp": 21}[service]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
