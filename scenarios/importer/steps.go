package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// How many requests a lab sends. An import of any size shall be done in a few
// seconds, and a request takes some milliseconds in a guest.
const (
	// allRequests are those of the whole lab, about, and mostRequests those of
	// one service. No service has fewer than leastRequests.
	allRequests   = 1200
	mostRequests  = 60
	leastRequests = 2
	// usualRequests are enough where more would show nothing else.
	usualRequests = 20
	// tellingRequests is up to how many a service has so that its weights are told
	// from their neighbours, where there are no more than mostInline.
	tellingRequests = 24
	// mostInline is up to how many services have their packets followed in their own
	// step. That takes a barrier of all links, which of many nodes is slow, so that
	// more services share a step, waysTogether at a time; and of very many no more
	// than mostFollowed of each method are followed, or fewFollowed among more
	// nodes than manyNodes.
	mostInline   = 12
	waysTogether = 10
	mostFollowed = 60
	fewFollowed  = 20
	manyNodes    = 30
	// mostSockets is up to how many services each UDP one has a step about one
	// socket.
	mostSockets = 100
)

// managedByKeepalived is the word of DraftOptions.ManagedBy for the real
// keepalived.
const managedByKeepalived = "keepalived"

// planner works out the steps of a world.
type planner struct {
	*world
	// services are those of the world when the real keepalived, if it is there, has
	// looked at all real servers.
	services []*placed
	// budget is how many requests a service may have.
	budget int
	// inline counts the services that were followed in their own steps, and later
	// are those that follow.
	inline int
	later  []*placed
}

// steps are what the lab does and expects: for each service that it is reachable,
// who answers how often, which way that goes, and what the director's table holds;
// and at the end what is when the real servers are gone.
func (w *world) steps() []step {
	p := &planner{world: w, services: w.settled(), budget: budgetOf(len(w.services))}
	var out []step
	if p.managedBy == managedByKeepalived {
		w.failNotes()
		p.leftOutNotes()
		out = append(out, p.managed())
	}
	for _, s := range p.services {
		if len(s.untold) > 0 {
			continue
		}
		out = append(out, p.main(s))
		if p.hasSocket(s) {
			out = append(out, p.socket(s))
		}
	}
	out = append(out, p.together()...)
	for _, s := range p.services {
		out = append(out, p.gone(s)...)
	}
	return out
}

func budgetOf(services int) int {
	return min(mostRequests, max(leastRequests, allRequests/max(1, services)))
}

// title is the service as the names of its steps have it:
// "web: tcp 10.0.0.100:80".
func (s *placed) title() string {
	if s.name == s.Name() {
		return s.name
	}
	return s.name + ": " + s.Name()
}

// main is the step in which a service is asked.
func (p *planner) main(s *placed) step {
	out := step{name: s.title() + " by " + s.scheduler() + s.manner(), service: s}
	table := p.table(s, s.Service.Service, p.pool(s))
	if why := p.unasked(s); why != "" {
		p.note(s.Pos, config.Ignored, "no request is sent to %s: %s", s.Name(), strings.TrimSuffix(why, "."))
		out.comment = why
		out.expect = []assertion{table}
		return out
	}
	if why := p.leftOut(s); why != "" && !p.sorryFirst(s) {
		out.comment = "With keepalived " + why
	}
	if p.sorryFirst(s) {
		out.comment = joinText("The real servers that keepalived finds up weigh less than the quorum together, so that the sorry server answers.", s.whyFailed())
		out.expect = []assertion{table}
		if p.sorryAnswers(s, p.pool(s)) {
			out.do = []assertion{p.request(s, "count: 2")}
			out.expect = []assertion{{kind: "only", text: "only: " + scalar(s.sorry.node), from: s.sorry.Pos}, table}
		}
		return out
	}
	if len(s.active()) == 0 {
		out.comment = joinText("No real server has a weight, so the director refuses.", s.whyFailed())
		out.do = []assertion{p.request(s, "count: 2")}
		out.expect = []assertion{{kind: "result", text: "result: refused", from: s.Pos}, table}
		return out
	}
	sp := p.spread(s)
	out.comment, out.do = joinText(joinText(sp.comment, s.whyFailed()), out.comment), sp.requests
	if !sp.refusals {
		out.expect = append(out.expect, assertion{kind: "result", text: "result: ok", from: s.Pos})
		out.expect = append(out.expect, sp.expect...)
		out.expect = append(out.expect, p.follow(s, sp)...)
	} else {
		out.expect = append(out.expect, sp.expect...)
	}
	out.expect = append(out.expect, table)
	return out
}

// unasked says why no request is sent to a service; it is empty for most.
func (p *planner) unasked(s *placed) string {
	nat := slices.ContainsFunc(s.servers, func(d server) bool { return d.Forward == ipvs.NAT })
	switch {
	case s.PE != "":
		return fmt.Sprintf("The persistence engine %s reads the packets of its own protocol, which no client of lvslab's speaks: the table alone is looked at.", s.PE)
	case s.OnePacket && nat:
		return "One-packet scheduling remembers nothing by which the answers of NAT could find back, so that clients get none: the table alone is looked at."
	}
	return ""
}

// scheduler is the scheduler's name, by its default too.
func (s *placed) scheduler() string { return cmp.Or(s.Scheduler, ipvs.DefaultScheduler) }

// manner is what else a person would say of the service: ", dr, persistent 300 s".
func (s *placed) manner() string {
	var words []string
	for _, d := range s.servers {
		if w := d.Forward.String(); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	out := ""
	if len(words) > 0 {
		out = ", " + strings.Join(words, " and ")
	}
	if s.Persistent() {
		out += fmt.Sprintf(", persistent %d s", int64(s.Timeout.Seconds()))
	}
	if s.OnePacket {
		out += ", packet by packet"
	}
	return out
}

// active are the real servers that get new connections.
func (s *placed) active() []server {
	return slices.DeleteFunc(slices.Clone(s.servers), func(d server) bool { return d.Weight == 0 })
}

// request asks the service; more are further keys with their values.
func (p *planner) request(s *placed, more ...string) assertion {
	to := s.name
	if s.byAddress() {
		to = s.probe.String()
	}
	words := []string{"to: " + scalar(to)}
	if s.from != "" && len(p.clients) > 1 {
		words = append(words, "from: "+scalar(s.from))
	}
	if s.client != "http" && s.client != s.protocol || s.byAddress() && s.client != "http" {
		words = append(words, "client: "+scalar(s.client))
	}
	// Where nobody answers, as many of the default as a lab sends would be minutes.
	words = append(append(words, more...), "timeout: 2s")
	return assertion{kind: "request", text: "request: {" + strings.Join(words, ", ") + "}"}
}

// byAddress says that the service's own name does not say what to ask: that of a
// firewall mark, or of all ports.
func (s *placed) byAddress() bool { return s.FWMark != 0 || s.Addr.Port() == 0 }

// asked are the addresses that requests to s may come from.
func (p *planner) asked(s *placed) []string {
	list := s.sources
	if len(list) == 0 {
		list = p.sources4
		if s.probe.Addr().Is6() {
			list = p.sources6
		}
	}
	// Of two services that share their persistence each has half of the addresses,
	// so that it is asked by nobody whom the other one remembers.
	switch half := len(list) / 2; {
	case !p.withFTP(s):
	case s.Addr.Port() == ftpPort:
		list = list[:half]
	default:
		list = list[half:]
	}
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

// hasSocket says whether it is shown that a UDP socket stays with one server.
func (p *planner) hasSocket(s *placed) bool {
	return s.client == "udp" && !s.OnePacket && !s.Persistent() && len(s.active()) > 1 && !p.mayRefuse(s) &&
		p.unasked(s) == "" && len(p.services) <= mostSockets && s.room() == 0
}

// socket is the step about one UDP socket, whose datagrams stay together.
func (p *planner) socket(s *placed) step {
	return step{
		name:    s.name + ": the datagrams of one socket stay with one server",
		service: s,
		do:      []assertion{p.request(s, "count: 3", "same_socket: true")},
		expect:  []assertion{{kind: "sticky", text: "sticky: {by: connection, servers: 1}", from: s.Pos}},
	}
}
