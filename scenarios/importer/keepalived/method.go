package keepalived

import (
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// method is a forwarding method, if one was set.
type method struct {
	set     bool
	forward ipvs.Forward
	tun     ipvs.TunType
	port    uint16
	flags   ipvs.TunFlags
}

// methods are keepalived's words, in capitals alone (run).
func methods() []string { return []string{"NAT", "DR", "TUN"} }

func (t *translator) kind(v *virtual, s *stmt) {
	if m, ok := t.method(s); ok {
		v.method = m
		t.once(v.places, "forwarding", s)
	}
}

// method reads NAT, DR, or TUN with the tunnel's type, port and checksum.
func (t *translator) method(s *stmt) (method, bool) {
	if !t.want(s, 1, len(s.args())) {
		return method{}, false
	}
	m := method{set: true}
	w := s.words[1]
	switch w.text {
	case "NAT":
		m.forward = ipvs.NAT
	case "DR":
		m.forward = ipvs.DR
	case "TUN":
		m.forward = ipvs.TUN
	default:
		t.fail(w.at, "%s", source.Unknown("forwarding method", w.text, methods()))
		return m, false
	}
	ok := t.tunnel(s, &m)
	if ok && m.forward != ipvs.TUN && len(s.words) > 2 {
		t.warn(s.words[2].at, "%s says nothing without TUN", quote(joined(s.words[2:])))
		m = method{set: true, forward: m.forward}
	}
	return m, ok
}

func joined(words []word) string {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.text
	}
	return strings.Join(parts, " ")
}

// tunnel reads the words behind TUN.
func (t *translator) tunnel(s *stmt, m *method) bool {
	rest := s.words[2:]
	for len(rest) > 0 {
		w := rest[0]
		rest = rest[1:]
		switch w.text {
		case "nocsum":
			m.flags = ipvs.NoChecksum
		case "csum":
			m.flags = ipvs.Checksum
		case "remcsum":
			m.flags = ipvs.RemoteChecksum
		case "type", "port":
			if len(rest) == 0 {
				t.fail(w.at, "%s: %s needs a word behind it", s.key(), w.text)
				return false
			}
			if !t.tunnelWord(w.text, rest[0], m) {
				return false
			}
			rest = rest[1:]
		default:
			t.fail(w.at, "%s", source.Unknown("tunnel option", w.text, []string{"type", "port", "nocsum", "csum", "remcsum"}))
			return false
		}
	}
	wrong := ""
	switch {
	case m.tun == ipvs.GUE && m.port == 0:
		wrong = "a gue tunnel needs its port: TUN type gue port 6080"
	case m.tun != ipvs.GUE && m.port != 0:
		wrong = "a port is for gue tunnels alone"
	case m.tun == ipvs.IPIP && m.flags != 0:
		wrong = "an ipip tunnel has no checksum"
	case m.tun == ipvs.GRE && m.flags == ipvs.RemoteChecksum:
		wrong = "remcsum is for gue tunnels alone"
	}
	if wrong != "" {
		t.fail(s.at(), "%s: %s", s.key(), wrong)
	}
	return wrong == ""
}

func (t *translator) tunnelWord(what string, w word, m *method) (ok bool) {
	if what == "port" {
		m.port, ok = t.port("the tunnel's port", w)
		return ok
	}
	types := []string{ipvs.IPIP.String(), ipvs.GUE.String(), ipvs.GRE.String()}
	i := slices.Index(types, w.text)
	if i < 0 {
		t.fail(w.at, "%s", source.Unknown("tunnel type", w.text, types))
		return false
	}
	m.tun = ipvs.TunType(i) //nolint:gosec // one of three
	return true
}
