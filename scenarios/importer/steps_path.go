package importer

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// wire is a forwarding method as it is seen on the wire.
type wire struct{ method, wrap string }

func (w wire) String() string {
	if w.wrap == "" || w.wrap == ipvs.IPIP.String() {
		return w.method
	}
	return w.method + " in " + w.wrap
}

// path is the expectation, with more said behind the method.
func (w wire) path(more string, from source.Pos) assertion {
	if w.wrap != "" {
		more += ", encapsulation: " + w.wrap
	}
	if more == "" {
		return assertion{kind: "path", text: "path: " + w.method, from: from}
	}
	return assertion{kind: "path", text: "path: {method: " + w.method + more + "}", from: from}
}

// wayNodes are a way with the nodes of the real servers that are reached by it.
type wayNodes struct {
	wire
	from  source.Pos
	nodes []string
}

// ways are those of a service's real servers.
func (s *placed) ways() []wayNodes {
	var out []wayNodes
	for _, d := range s.active() {
		w := wire{method: d.Forward.String()}
		if d.Forward == ipvs.TUN {
			w.wrap = s.wrapping(d.Destination)
		}
		i := slices.IndexFunc(out, func(o wayNodes) bool { return o.wire == w })
		if i < 0 {
			i = len(out)
			out = append(out, wayNodes{wire: w, from: s.methodPlace(d)})
		}
		out[i].nodes = append(out[i].nodes, d.node)
	}
	return out
}

// methodPlace is where the method of a real server stands: with it, or where the
// service says it for all.
func (s *placed) methodPlace(d server) source.Pos {
	if pos, ok := d.Places["forwarding"]; ok {
		return pos
	}
	return cmp.Or(s.Places["forwarding"], d.Pos)
}

// wrapping is what the packets of a tunnel look like on the wire, in the words of
// path.
func (s *placed) wrapping(d ipvs.Destination) string {
	if d.TunType != ipvs.IPIP {
		return d.TunType.String()
	}
	switch inner, outer := s.probe.Addr().Is6(), d.Addr.Addr().Is6(); {
	case inner && outer:
		return "ip6ip6"
	case inner:
		return "sit"
	case outer:
		return "ipip6"
	}
	return "ipip"
}

// traceable says that a service's packets can be told to have gone its way.
func (s *placed) traceable() bool {
	direct := func(d server) bool { return d.Forward != ipvs.NAT }
	switch {
	case s.client == "ftp":
		return false // its data connections are the client's to open, or the server's
	case s.protocol == "sctp":
		// An association has all addresses of its server, which may answer by any.
		return !slices.ContainsFunc(s.active(), direct)
	}
	return true
}

// follow expects of the step's own requests the way of the service's method; of
// each method, where real servers differ. Where there are many services it is
// left for later.
func (p *planner) follow(s *placed, sp spread) []assertion {
	ways := s.ways()
	alone := len(ways) > 1 || s.room() > 0 || s.OnePacket
	switch {
	case !s.traceable():
		return nil
	case len(p.services) > mostInline && !alone:
		p.later = append(p.later, s)
		return nil
	case p.inline >= mostInline:
		return nil
	}
	p.inline++
	if len(ways) == 1 {
		return []assertion{ways[0].path("", ways[0].from)}
	}
	var out []assertion
	for i, w := range ways {
		// A node that is reached by two methods cannot tell them apart, and of one
		// that may not be asked nothing can be expected.
		nodes := slices.DeleteFunc(slices.Clone(w.nodes), func(n string) bool {
			for j, o := range ways {
				if i != j && slices.Contains(o.nodes, n) {
					return true
				}
			}
			return !slices.Contains(sp.sure, n)
		})
		if len(nodes) > 0 {
			out = append(out, w.path(", servers: ["+listed(nodes)+"]", w.from))
		}
	}
	return out
}

// together are the steps that follow the packets of several services of one method.
func (p *planner) together() []step {
	var order []wire
	by := make(map[wire][]*placed)
	for _, s := range p.later {
		w := s.ways()[0].wire
		if by[w] == nil {
			order = append(order, w)
		}
		by[w] = append(by[w], s)
	}
	most := mostFollowed
	if len(p.nodes) > manyNodes {
		most = fewFollowed
	}
	var out []step
	for _, w := range order {
		list := by[w]
		comment := ""
		if len(list) > most {
			comment = fmt.Sprintf("Of %d services by %s, the packets of %d are followed.", len(list), w, most)
			list = list[:most]
		}
		for some := range slices.Chunk(list, waysTogether) {
			one := step{name: fmt.Sprintf("the way of %d services by %s: %s to %s", len(some), w, some[0].name, some[len(some)-1].name), comment: comment}
			if len(some) == 1 {
				one.name, one.service = some[0].title()+", the way by "+w.String(), some[0]
			}
			for _, s := range some {
				to := s.name
				if s.byAddress() {
					to = s.probe.Addr().String()
				}
				count := fmt.Sprintf("count: %d", min(len(s.active()), max(1, min(3, p.budget/3))))
				one.do = append(one.do, p.request(s, count))
				one.expect = append(one.expect, w.path(", to: "+scalar(to), s.ways()[0].from))
			}
			out = append(out, one)
			comment = ""
		}
	}
	return out
}
