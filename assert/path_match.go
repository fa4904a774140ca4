package assert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/capture"
)

// problem is why a path is not as wanted.
type problem struct {
	what string
	// unfinished says that the packet has gone as wanted so far, and may yet
	// arrive.
	unfinished bool
}

func wrong(format string, args ...any) *problem { return &problem{what: fmt.Sprintf(format, args...)} }

// problem is the first thing of a flow that is not as wanted, nil when all is.
func (c *path) problem(f *flow, directors []string) *problem {
	if c.Method != "" {
		if p := pathMethods()[c.Method].problem(f, directors); p != nil {
			return p
		}
	}
	wrapped := &leg{Encapsulation: c.Encapsulation}
	for _, l := range []*leg{c.Request, wrapped} {
		if p := f.firstProblem(f.request, func(r chain) *problem { return l.problem("request", r) }); p != nil {
			return p
		}
	}
	if c.Reply == nil {
		return nil
	}
	if len(f.reply) == 0 {
		return &problem{fmt.Sprintf("no reply to %s was seen", f), true}
	}
	return f.firstProblem(f.reply, func(r chain) *problem { return c.Reply.problem("reply", r) })
}

// firstProblem is that of the first packet that has any. Whatever it is, the
// packet may yet go on while its way is not whole.
func (f *flow) firstProblem(chains []chain, problemOf func(chain) *problem) *problem {
	for _, c := range chains {
		if p := problemOf(c); p != nil {
			p.unfinished = p.unfinished || !f.whole(c)
			return p
		}
	}
	return nil
}

// whole is true for a way that begins at the client or where requests end, and
// ends at the client or where answers begin. Captures are read one after
// another, while a connection's last packets are still on their way; of those,
// any part may be missing.
func (f *flow) whole(c chain) bool {
	first, end := c[0], c.last()
	switch {
	case !first.out || end.out:
		return false
	case first.node != f.client && !slices.Contains(f.requestEnds, first.node):
		return false
	}
	return end.node == f.client || slices.ContainsFunc(f.reply, func(r chain) bool { return r[0].out && r[0].node == end.node })
}

// problem compares one packet's way; a nil leg wants nothing.
func (l *leg) problem(what string, c chain) *problem {
	if l == nil {
		return nil
	}
	seen := c.nodes()
	way := strings.Join(seen, " → ")
	if c.onTheWay() {
		way += " → nowhere"
	}
	if len(l.Nodes) > 0 {
		same := func(i int) bool { return slices.Contains(l.Nodes[i], seen[i]) }
		for i := range min(len(seen), len(l.Nodes)) {
			if !same(i) {
				return wrong("a %s went %s", what, way)
			}
		}
		if len(seen) > len(l.Nodes) {
			return wrong("a %s went %s", what, way)
		}
		if len(seen) < len(l.Nodes) || c.onTheWay() {
			return &problem{fmt.Sprintf("a %s went %s and no further", what, way), true}
		}
	}
	for _, name := range l.Never {
		if slices.Contains(seen, name) {
			return wrong("a %s went %s", what, way)
		}
	}
	for _, name := range l.Through {
		if !slices.Contains(seen, name) {
			return &problem{fmt.Sprintf("a %s went %s", what, way), c.onTheWay()}
		}
	}
	if l.Encapsulation != "" {
		if p := l.encapsulationProblem(what, c); p != nil {
			return p
		}
	}
	if end := c.last(); l.TTL > 0 && !c.onTheWay() && int(end.h.Inner().TTL) != l.TTL {
		return wrong("a %s arrived at %s with TTL %d", what, end.node, end.h.Inner().TTL)
	}
	return nil
}

func (l *leg) encapsulationProblem(what string, c chain) *problem {
	var found []string
	for _, s := range c {
		if w := inside(&s.h); !slices.Contains(found, w) {
			found = append(found, w)
		}
	}
	if l.Encapsulation == noEncapsulation {
		if len(found) > 1 || found[0] != noEncapsulation {
			return wrong("a %s was encapsulated: %s", what, strings.Join(found, ", "))
		}
		return nil
	}
	if slices.Contains(found, l.Encapsulation) {
		return nil
	}
	if len(found) == 1 && found[0] == noEncapsulation {
		return &problem{fmt.Sprintf("a %s was not encapsulated", what), c.onTheWay()}
	}
	return wrong("a %s was encapsulated otherwise: %s", what, strings.Join(slices.DeleteFunc(found, func(s string) bool { return s == noEncapsulation }), ", "))
}

// pathMethod is what a forwarding method claims of packets.
type pathMethod struct {
	claim string
	// tunnel: between director and real server each request is wrapped.
	tunnel bool
	// destination and source: the director rewrites the request's, and on the
	// reply the other way round. Where it does, replies come back through it.
	destination, source bool
}

// pathMethods are the methods whose claim can be checked by name.
func pathMethods() map[string]pathMethod {
	return map[string]pathMethod{
		"dr": {
			claim: "each request goes client → director → real server with only the MAC addresses rewritten, each reply straight from the real server to the client",
		},
		"tun": {
			claim:  "each request goes client → director → real server, from the director on inside another IP packet; each reply goes straight from the real server to the client",
			tunnel: true,
		},
		"nat": {
			claim:       "each request goes client → director → real server with its destination rewritten, each reply back through the director with its source rewritten",
			destination: true,
		},
		"fullnat": {
			claim:       "by FullNAT (NAT + conntrack + SNAT), each request goes client → director → real server with destination and source rewritten, each reply back through the director with both rewritten",
			destination: true, source: true,
		},
	}
}

func pathMethodNames() []string { return []string{"dr", "tun", "nat", "fullnat"} }

func (m pathMethod) problem(f *flow, directors []string) *problem {
	if p := f.firstProblem(f.request, func(c chain) *problem { return m.requestProblem(c, directors) }); p != nil {
		return p
	}
	if len(f.reply) == 0 {
		return &problem{fmt.Sprintf("no reply to %s was seen", f), true}
	}
	return f.firstProblem(f.reply, func(c chain) *problem { return m.replyProblem(f, c, directors) })
}

// directorOf is the index of the one director among the visits, and -1 when
// there is none or there are several.
func directorOf(vs []visit, directors []string) int {
	at := -1
	for i, v := range vs {
		if slices.Contains(directors, v.node) {
			if at >= 0 {
				return -1
			}
			at = i
		}
	}
	return at
}

func (m pathMethod) requestProblem(c chain, directors []string) *problem {
	vs := c.visits()
	way := strings.Join(c.nodes(), " → ")
	at := directorOf(vs, directors)
	switch {
	case at < 0 && c.onTheWay():
		return &problem{fmt.Sprintf("a request went %s → nowhere", way), true}
	case at < 0:
		return wrong("a request went %s, which is not through one director", way)
	case c.onTheWay(), at == len(vs)-1:
		return &problem{fmt.Sprintf("a request went %s and no further", way), true}
	case at == 0:
		return wrong("a request came from the director itself: %s", way)
	}
	if !m.tunnel && !m.destination && at != len(vs)-2 {
		return wrong("a request went %s, and not from the director straight to a real server", way)
	}
	for i, v := range vs {
		if v.in == nil || v.out == nil {
			continue
		}
		if p := passed(v, "request"); p != nil {
			return p
		}
		if i != at {
			if p := unchanged(v, "request"); p != nil {
				return p
			}
			continue
		}
		if p := m.rewritten(v, "request", m.source, m.destination); p != nil {
			return p
		}
		before, after := inside(&v.in.h), inside(&v.out.h)
		switch {
		case before != noEncapsulation:
			return wrong("a request came to %s encapsulated already: %s", v.node, before)
		case m.tunnel && after == noEncapsulation:
			return wrong("%s passed a request on without encapsulating it", v.node)
		case !m.tunnel && after != noEncapsulation:
			return wrong("%s encapsulated a request: %s", v.node, after)
		}
	}
	return nil
}

func (m pathMethod) replyProblem(f *flow, c chain, directors []string) *problem {
	vs := c.visits()
	way := strings.Join(c.nodes(), " → ")
	if !slices.Contains(f.requestEnds, vs[0].node) {
		return wrong("a reply came from %s, to which no request went", vs[0].node)
	}
	back := m.destination
	at := directorOf(vs, directors)
	through := slices.ContainsFunc(vs, func(v visit) bool { return slices.Contains(directors, v.node) })
	if through && !back {
		return wrong("a reply went %s, and so through the director", way)
	}
	for i, v := range vs {
		if v.in == nil || v.out == nil {
			continue
		}
		if p := passed(v, "reply"); p != nil {
			return p
		}
		if back && i == at {
			if p := m.rewritten(v, "reply", true, m.source); p != nil {
				return p
			}
		} else if p := unchanged(v, "reply"); p != nil {
			return p
		}
	}
	for _, s := range c {
		if w := inside(&s.h); w != noEncapsulation {
			return wrong("a reply was encapsulated: %s", w)
		}
	}
	end := c.last()
	switch {
	case c.onTheWay():
		return &problem{fmt.Sprintf("a reply went %s → nowhere", way), !back || at >= 0}
	case end.node != f.client && back && at >= 0 && at == len(vs)-1:
		return &problem{fmt.Sprintf("a reply went %s and no further", way), true}
	case end.node != f.client:
		return wrong("a reply went %s and no further", way)
	case back && at < 0:
		return wrong("a reply went %s, and not back through the director", way)
	case end.h.Tuple != f.tuple.Reverse():
		return wrong("a reply came to the client as %s > %s", endpoint(end.h.Tuple.Src), endpoint(end.h.Tuple.Dst))
	}
	return nil
}

// passed checks what every node does to a packet that it passes on: the header
// that it routes by loses one of its TTL. To one that wraps the packet, that is
// the packet's own.
func passed(v visit, what string) *problem {
	in, out := v.in.h.Inner().TTL, v.out.h.Inner().TTL
	if len(v.in.h.IP) == len(v.out.h.IP) {
		in, out = v.in.h.IP[0].TTL, v.out.h.IP[0].TTL
	}
	if out+1 != in {
		return wrong("%s passed a %s on with TTL %d that came with %d", v.node, what, out, in)
	}
	return nil
}

// unchanged checks what a router does to a packet: nothing else.
func unchanged(v visit, what string) *problem {
	if v.in.h.Tuple != v.out.h.Tuple {
		return wrong("%s changed a %s: %s", v.node, what, change(v))
	}
	if a, b := inside(&v.in.h), inside(&v.out.h); a != b {
		return wrong("%s changed the encapsulation of a %s from %s to %s", v.node, what, a, b)
	}
	return nil
}

// rewritten checks that a director rewrites the source and destination
// addresses that it shall, and leaves the others.
func (m pathMethod) rewritten(v visit, what string, source, destination bool) *problem {
	a, b := v.in.h.Tuple, v.out.h.Tuple
	for _, part := range []struct {
		name   string
		want   bool
		before netip.AddrPort
		after  netip.AddrPort
	}{{"source", source, a.Src, b.Src}, {"destination", destination, a.Dst, b.Dst}} {
		switch {
		case part.want && part.before.Addr() == part.after.Addr():
			return wrong("%s left the %s of a %s as it was, %s", v.node, part.name, what, endpoint(part.before))
		case !part.want && part.before != part.after:
			return wrong("%s rewrote the %s of a %s: %s", v.node, part.name, what, change(v))
		}
	}
	return nil
}

func change(v visit) string {
	pair := func(t capture.Tuple) string { return endpoint(t.Src) + " > " + endpoint(t.Dst) }
	return pair(v.in.h.Tuple) + " became " + pair(v.out.h.Tuple)
}
