package assert

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/capture"
)

// ways are the paths in short, each with how many requests took it:
// "client → director → web1 → client (2), …".
func (st *followedStep) ways() string {
	var order []string
	count := make(map[string]int)
	for _, f := range st.flows {
		w := f.way()
		if count[w] == 0 {
			order = append(order, w)
		}
		count[w] += f.requests
	}
	const most = 6
	var parts []string
	for i, w := range order {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more ways", len(order)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%d× %s", count[w], w))
	}
	return strings.Join(parts, ", ")
}

// way is the requests' way there and the replies' way back, with what they were
// wrapped in on the links where they were.
func (f *flow) way() string {
	legs := func(chains []chain) string {
		var words []string
		for _, c := range chains {
			if w := c.way(); !slices.Contains(words, w) {
				words = append(words, w)
			}
		}
		return strings.Join(words, " | ")
	}
	there, back := legs(f.request), legs(f.reply)
	if back == "" {
		return there
	}
	// The way back begins where the way there ended.
	if node, rest, ok := strings.Cut(back, " →"); ok && strings.HasSuffix(there, "→ "+node) && !strings.Contains(back, "|") {
		return there + " →" + rest
	}
	return there + ", back " + back
}

func (c chain) way() string {
	var b strings.Builder
	for i, v := range c.visits() {
		if i > 0 {
			b.WriteString(" → ")
		}
		b.WriteString(v.node)
		if v.out != nil && len(v.out.h.Inside) > 0 {
			fmt.Fprintf(&b, " (%s)", inside(&v.out.h))
		}
	}
	if c.onTheWay() {
		b.WriteString(" → nowhere")
	}
	return b.String()
}

// mostLadders bounds what a failure shows: requests, and ways of each.
const mostLadders = 3

// ladders draws the ways of some flows, one hop a line: the requests' down, then
// the replies'. nil means all flows.
func (st *followedStep) ladders(env Env, list []*flow) string {
	if list == nil {
		list = st.flows
	}
	if len(list) == 0 {
		return st.strays(env)
	}
	var lines []string
	for i, f := range list {
		if i == mostLadders {
			lines = append(lines, fmt.Sprintf("… and %d more", len(list)-mostLadders))
			break
		}
		lines = append(lines, f.String())
		lines = append(lines, rungs(env, "request", f.request)...)
		if len(f.reply) == 0 {
			lines = append(lines, "  no reply")
		}
		lines = append(lines, rungs(env, "reply", f.reply)...)
	}
	return text(lines)
}

// strays says where anything was seen at all.
func (st *followedStep) strays(Env) string {
	var lines []string
	for _, l := range st.links {
		lines = append(lines, fmt.Sprintf("%s:%s  %d packets", l.node, l.device, len(l.packets)))
	}
	return text(lines)
}

// rungs are the hops of chains. Packets that went the same way are drawn once.
func rungs(env Env, what string, chains []chain) []string {
	var shapes [][]string
	var count []int
	for _, c := range chains {
		shape := c.rungs(env)
		i := slices.IndexFunc(shapes, func(o []string) bool { return slices.Equal(o, shape) })
		if i < 0 {
			shapes, count = append(shapes, shape), append(count, 1)
			continue
		}
		count[i]++
	}
	var lines []string
	for i, shape := range shapes {
		if i == mostLadders {
			lines = append(lines, fmt.Sprintf("  … and %d more ways", len(shapes)-mostLadders))
			break
		}
		packets := "packet"
		if count[i] > 1 {
			packets = "packets"
		}
		lines = append(lines, fmt.Sprintf("  %s, %d %s", what, count[i], packets))
		lines = append(lines, shape...)
	}
	return lines
}

// rungs are the hops of one packet.
func (c chain) rungs(env Env) []string {
	var rows [][]string
	for i := 0; i < len(c); i++ {
		s := c[i]
		row := []string{"", "→", macName(env, s.h.EtherDst), tupleWords(s.h.Tuple), fmt.Sprintf("ttl %d", s.h.Inner().TTL), outerWords(&s.h)}
		switch {
		case !s.out: // nobody's packet: only its end of the cable was seen
			row[0] = macName(env, s.h.EtherSrc)
		default:
			row[0] = s.node + ":" + s.device
			if name := macName(env, s.h.EtherSrc); name != row[0] {
				row[0] += " (as " + name + ")"
			}
			if i+1 < len(c) {
				i++ // the other end of the cable shows the same
			} else {
				row[5] = strings.TrimLeft(row[5]+"  and nobody received it", " ")
			}
		}
		rows = append(rows, row)
	}
	if end := c.last(); !end.out && end.h.Tuple.Dst.Addr().IsValid() && len(end.h.Inside) > 0 {
		rows = append(rows, []string{end.node, "", "unwraps it", "", "", ""})
	}
	return columns("    ", rows)
}

func tupleWords(t capture.Tuple) string { return endpoint(t.Src) + " > " + endpoint(t.Dst) }

// outerWords are the outer headers, the outermost first.
func outerWords(h *capture.Headers) string {
	var parts []string
	for i, e := range h.Inside {
		parts = append(parts, fmt.Sprintf("in %s %s > %s ttl %d", e, h.IP[i].Src, h.IP[i].Dst, h.IP[i].TTL))
	}
	return strings.Join(parts, " ")
}

func macName(env Env, mac net.HardwareAddr) string {
	if o, ok := env.Owner(mac); ok {
		return o.Node + ":" + o.Device
	}
	return mac.String()
}

// columns lines up rows, whose last cell may be of any length.
func columns(indent string, rows [][]string) []string {
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var lines []string
	for _, r := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range r {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+2))
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}
