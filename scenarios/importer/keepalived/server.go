package keepalived

import (
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// server is a real_server block, or a sorry_server line.
type server struct {
	at   source.Pos
	addr netip.Addr
	// port is 0 where none is written.
	port         uint16
	weight       int // -1: that of the block
	method       method
	upper, lower uint32
	inhibit      *bool
	places       map[string]source.Pos
	checkers     []*checker
	of           *virtual
}

// realServer reads a real_server block. It starts with the method that the block
// has said above it (run).
func (t *translator) realServer(v *virtual, s *stmt) {
	if !t.count(s, 1, 2) || !t.needBlock(s) {
		return
	}
	rs, ok := t.newServer(v, s)
	if !ok {
		return
	}
	rs.weight = -1
	if v.method.set {
		rs.method = v.method
		rs.places["forwarding"] = v.places["forwarding"]
	}
	v.servers = append(v.servers, rs)
	for _, in := range s.block.stmts {
		switch do, ok := t.realWords[in.key()]; {
		case ok:
			do(t, rs, in)
		case slices.Contains(checkers(), in.key()):
			t.checker(rs, in)
		default:
			t.unknownIn(in, "real_server", append(slices.Sorted(maps.Keys(t.realWords)), checkers()...))
		}
	}
	if rs.lower > rs.upper {
		t.fail(rs.places["thresholds"], "lthreshold %d is above uthreshold %d, and the kernel takes no such real server", rs.lower, rs.upper)
		rs.lower = rs.upper // it is told
	}
	if v.af != unknownFamily && v.af != familyOf(rs.addr) && !rs.method.set {
		t.wrongFamily(v, rs, v.af)
		v.servers = v.servers[:len(v.servers)-1]
	}
	if v.af == unknownFamily && v.group.text == "" && (!rs.method.set || rs.method.forward != ipvs.TUN) {
		v.af = familyOf(rs.addr)
	}
}

// newServer reads the address and the port of a real or sorry server.
func (t *translator) newServer(v *virtual, s *stmt) (*server, bool) {
	a, ok := t.addr(s.key(), s.words[1])
	if !ok {
		return nil, false
	}
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		t.fail(s.words[1].at, "%s: %v is not one machine's address", s.key(), a)
		return nil, false
	}
	port, ok := t.maybePort(s.key(), s.words[2:min(3, len(s.words))])
	return &server{at: s.at(), addr: a, port: port, places: map[string]source.Pos{}, of: v}, ok
}

func (t *translator) weight(rs *server, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	if n, ok := t.whole("weight", s.words[1], 0, ipvs.MaxWeight); ok {
		rs.weight = int(n) //nolint:gosec // in range
		t.once(rs.places, "weight", s)
	}
}

func (t *translator) serverMethod(rs *server, s *stmt) {
	if m, ok := t.method(s); ok {
		delete(rs.places, "forwarding") // the block's, if any
		rs.method = m
		rs.places["forwarding"] = s.at()
	}
}

func (t *translator) threshold(rs *server, s *stmt) {
	if !t.want(s, 1, 1) {
		return
	}
	n, ok := t.whole(s.key(), s.words[1], 0, math.MaxInt32)
	if !ok {
		return
	}
	if s.key() == "uthreshold" {
		rs.upper = uint32(n) //nolint:gosec // in range
	} else {
		rs.lower = uint32(n) //nolint:gosec // in range
	}
	rs.places["thresholds"] = s.at()
}

func (t *translator) inhibit(rs *server, s *stmt) {
	if !t.want(s, 0, 1) {
		return
	}
	on := t.truth(s, false)
	rs.inhibit = &on
}

// sorry reads a sorry_server, which is a line without a block.
func (t *translator) sorry(v *virtual, s *stmt) {
	if !t.want(s, 1, 2) {
		return
	}
	if v.sorry != nil {
		t.warn(s.at(), "a second sorry_server (the first is in line %d); keepalived takes the last", v.sorry.at.Line)
	}
	rs, ok := t.newServer(v, s)
	if !ok {
		return
	}
	rs.weight = 1
	if v.method.set {
		rs.method = v.method
		rs.places["forwarding"] = v.places["forwarding"]
	}
	v.sorry = rs
}

func (t *translator) sorryInhibit(v *virtual, s *stmt) {
	if !t.want(s, 0, 0) {
		return
	}
	if v.sorry == nil {
		t.warn(s.at(), "sorry_server_inhibit counts only below a sorry_server; keepalived passes over it")
		return
	}
	on := true
	v.sorry.inhibit = &on
}

func (t *translator) sorryMethod(v *virtual, s *stmt) {
	if v.sorry == nil {
		t.warn(s.at(), "sorry_server_lvs_method counts only below a sorry_server; keepalived passes over it")
		return
	}
	t.serverMethod(v.sorry, s)
}

// fill takes over what the virtual server says for all of its servers.
func (rs *server) fill() {
	if !rs.method.set {
		rs.method = rs.of.method
		if p, ok := rs.of.places["forwarding"]; ok {
			rs.places["forwarding"] = p
		}
	}
	if rs.weight < 0 {
		rs.weight = rs.of.weight
		if p, ok := rs.of.places["weight"]; ok {
			rs.places["weight"] = p
		}
	}
}

// destination is the server with its port in one service.
func (rs *server) destination(port uint16) config.Server {
	inhibit := rs.of.inhibit
	if rs.inhibit != nil {
		inhibit = *rs.inhibit
	}
	m := rs.method
	return config.Server{
		Destination: ipvs.Destination{
			Addr: netip.AddrPortFrom(rs.addr, port), Forward: m.forward, Weight: rs.weight,
			Upper: rs.upper, Lower: rs.lower, TunType: m.tun, TunPort: m.port, TunFlags: m.flags,
		},
		Pos: rs.at, Places: rs.places, InhibitOnFailure: inhibit,
	}
}
