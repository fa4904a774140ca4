package keepalived

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// group is a virtual_server_group: addresses, ranges and marks.
type group struct {
	at   source.Pos
	name string
	// addrs are unfolded, in their order; keepalived adds them before marks.
	addrs []target
	marks []target
	seen  map[netip.AddrPort]source.Pos
	full  bool
	used  bool
}

// target is one thing that a virtual server is for.
type target struct {
	at   source.Pos
	addr netip.AddrPort
	mark uint32
	af   family
}

func (t *translator) serverGroup(s *stmt) {
	if !t.count(s, 1, 1) || !t.needBlock(s) {
		return
	}
	g := &group{at: s.at(), name: s.words[1].text, seen: map[netip.AddrPort]source.Pos{}}
	if first := t.group(g.name); first != nil {
		t.fail(s.at(), "a second virtual_server_group %s (the first is in line %d)", quote(g.name), first.at.Line)
		return
	}
	for _, in := range s.block.stmts {
		switch {
		case in.block != nil:
			t.fail(in.block.open, "a virtual_server_group has one address or mark a line, and no blocks")
		case in.key() == "fwmark":
			t.groupMark(g, in)
		default:
			t.groupAddrs(g, in)
		}
	}
	if len(s.block.stmts) == 0 {
		t.warn(s.at(), "virtual_server_group %s is empty; keepalived takes it out", quote(g.name))
		return
	}
	t.groups = append(t.groups, g)
}

// group finds a group by its name.
func (t *translator) group(name string) *group {
	for _, g := range t.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// groupMark reads "fwmark N [inet|inet6]".
func (t *translator) groupMark(g *group, s *stmt) {
	if !t.count(s, 1, 2) {
		return
	}
	n, ok := t.whole("fwmark", s.words[1], 1, math.MaxUint32)
	if !ok {
		return
	}
	m := target{at: s.at(), mark: uint32(n)} //nolint:gosec // in range
	if len(s.words) > 2 {
		if m.af, ok = familyWord(s.words[2].text); !ok {
			t.fail(s.words[2].at, "fwmark: wanted inet or inet6, found %s", quote(s.words[2].text))
			return
		}
	}
	for _, o := range g.marks {
		if o.mark == m.mark && o.af == m.af {
			t.warn(s.at(), "fwmark %d is in the group already (line %d)", m.mark, o.at.Line)
			return
		}
	}
	g.marks = append(g.marks, m)
}

// groupAddrs reads "ADDRESS [PORT]", where the address may be a range or a
// network.
func (t *translator) groupAddrs(g *group, s *stmt) {
	if g.full || !t.count(s, 0, 1) {
		return
	}
	first, last, ok := t.span(s.words[0])
	if !ok || !t.counts(s.words[0], first, last) {
		return
	}
	port, ok := t.maybePort("virtual_server_group", s.args()[:min(1, len(s.args()))])
	if !ok {
		return
	}
	twice := false
	for a := first; ; a = a.Next() {
		ap := netip.AddrPortFrom(a, port)
		if o, again := g.seen[ap]; again && !twice {
			t.warn(s.at(), "%v is in the group already (line %d)", ap, o.Line)
			twice = true
		} else if !again {
			g.seen[ap] = s.at()
			g.addrs = append(g.addrs, target{at: s.at(), addr: ap, af: familyOf(a)})
		}
		if len(g.addrs) > maxServices {
			t.fail(s.at(), "virtual_server_group %s has more than %d addresses", quote(g.name), maxServices)
			g.full = true
			return
		}
		if a == last {
			return
		}
	}
}

// span reads an address, or the first and last one of A.B.C.D-E, A-B, A/N and the
// like for IPv6.
func (t *translator) span(w word) (first, last netip.Addr, ok bool) {
	if strings.Contains(w.text, "/") {
		return t.network(w)
	}
	from, to, ranged := strings.Cut(w.text, "-")
	if first, ok = t.addr("virtual_server_group", word{from, w.at}); !ok || !ranged {
		return first, first, ok
	}
	bad := func(format string, args ...any) (netip.Addr, netip.Addr, bool) {
		t.fail(w.at, "virtual_server_group: "+format, args...)
		return first, first, false
	}
	if a, err := netip.ParseAddr(to); err == nil {
		switch {
		case familyOf(a) != familyOf(first) || a.Zone() != "":
			return bad("the ends of %s are of two families", quote(w.text))
		case a.Less(first):
			return bad("the end of %s is before its beginning", quote(w.text))
		}
		return first, a, true
	}
	base, bits, what := 10, 8, "the last number of an IPv4 address, 0 to 255"
	if first.Is6() {
		base, bits, what = 16, 16, "the last group of an IPv6 address, 0 to ffff"
	}
	n, err := strconv.ParseUint(to, base, bits)
	if err != nil {
		return bad("behind the - of %s wanted an address or %s", quote(w.text), what)
	}
	last = withTail(first, uint16(n), bits) //nolint:gosec // of so many bits
	if !first.Less(last) {
		return bad("the end of %s is not after its beginning", quote(w.text))
	}
	return first, last, true
}

// counts refuses a range in which more than the last number of an IPv4 address, or
// the last group of an IPv6 one, changes: keepalived 2.2.7 counts in that alone and
// begins anew at its 0 (run), so it would add addresses that nobody wrote.
func (t *translator) counts(w word, first, last netip.Addr) bool {
	bits := 8
	if first.Is6() {
		bits = 16
	}
	a, _ := first.Prefix(first.BitLen() - bits)
	if a.Contains(last) {
		return true
	}
	part := "last number"
	if first.Is6() {
		part = "last group"
	}
	t.fail(w.at, "virtual_server_group: %s crosses from %v into %v; keepalived counts in the %s of an address alone, so write a line for each",
		quote(w.text), a, netip.PrefixFrom(last, a.Bits()).Masked(), part)
	return false
}

// withTail is a with its last bits replaced.
func withTail(a netip.Addr, n uint16, bits int) netip.Addr {
	if bits == 8 {
		b := a.As4()
		b[3] = byte(n)
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	binary.BigEndian.PutUint16(b[14:], n)
	return netip.AddrFrom16(b)
}

// network reads A/N, all of whose addresses count, the first and last as well
// (run).
func (t *translator) network(w word) (first, last netip.Addr, ok bool) {
	p, err := netip.ParsePrefix(w.text)
	switch {
	case err != nil:
		t.fail(w.at, "virtual_server_group: wanted an address, a range or a network, found %s", quote(w.text))
		return first, last, false
	case p.Masked() != p:
		t.fail(w.at, "virtual_server_group: %s is not the first address of its network; write %v", quote(w.text), p.Masked())
		return first, last, false
	case p.Addr().BitLen()-p.Bits() > 16:
		t.fail(w.at, "virtual_server_group: %s has more than %d addresses", quote(w.text), maxServices)
		return first, last, false
	}
	first = p.Addr()
	b := first.AsSlice()
	host := p.Addr().BitLen() - p.Bits()
	for i := len(b) - 1; host > 0; i, host = i-1, host-8 {
		b[i] |= byte(1<<min(host, 8) - 1)
	}
	last, _ = netip.AddrFromSlice(b)
	return first, last, true
}
