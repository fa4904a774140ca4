package keepalived

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// whole reads a whole number in a range, in decimal digits alone as keepalived
// does.
func (t *translator) whole(what string, w word, least, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(w.text, 10, 64)
	if err != nil || n < least || n > most {
		t.fail(w.at, "%s: wanted a whole number from %d to %d, found %s", what, least, most, quote(w.text))
		return 0, false
	}
	return n, true
}

// port reads a port that is not 0. keepalived takes no names of services (run).
func (t *translator) port(what string, w word) (uint16, bool) {
	if n, err := strconv.ParseUint(w.text, 10, 64); err == nil && n >= 1 && n <= math.MaxUint16 {
		return uint16(n), true
	}
	msg := "%s: wanted a port from 1 to 65535, found %s"
	if nameLen(w.text) > 0 {
		msg += "; keepalived takes no names of services"
	}
	t.fail(w.at, msg, what, quote(w.text))
	return 0, false
}

// maybePort reads a port; 0 means none (run).
func (t *translator) maybePort(what string, words []word) (uint16, bool) {
	if len(words) == 0 || words[0].text != "" && strings.Trim(words[0].text, "0") == "" {
		return 0, true
	}
	return t.port(what, words[0])
}

// addr reads an address of a virtual, real or sorry server. keepalived does not
// look at a prefix length or a range behind it (run).
func (t *translator) addr(what string, w word) (netip.Addr, bool) {
	text := w.text
	if i := strings.IndexAny(text, "/-"); i > 0 {
		hint := ""
		if text[i] == '-' {
			hint = "; a range belongs into a virtual_server_group"
		}
		t.warn(w.at, "%s: keepalived does not look at %s%s", what, quote(text[i:]), hint)
		text = text[:i]
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		hint := ""
		if _, err := netip.ParseAddrPort(text); err == nil {
			hint = "; a blank stands before the port"
		} else if strings.HasPrefix(text, "[") {
			hint = "; an IPv6 address has no brackets here"
		}
		t.fail(w.at, "%s: wanted an IP address, found %s%s", what, quote(w.text), hint)
	case a.Zone() != "":
		t.fail(w.at, "%s: %s has a zone, which neither keepalived nor IPVS takes", what, quote(w.text))
	case a.Is4In6():
		t.fail(w.at, "%s: %s is an IPv4 address in IPv6 clothes; write %v", what, quote(w.text), a.Unmap())
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// seconds reads a time in seconds and fractions. One that keepalived would not
// take is a warning and its default: it decides when is checked, not what.
func (t *translator) seconds(what string, w word, otherwise time.Duration) time.Duration {
	const shortest = 1e-6
	f, err := strconv.ParseFloat(w.text, 64)
	if err != nil || math.IsNaN(f) || f < shortest || f > float64(math.MaxInt64)/float64(time.Second) {
		t.warn(w.at, "%s: wanted seconds, found %s; keepalived takes %v s", what, quote(w.text), otherwise.Seconds())
		return otherwise
	}
	return time.Duration(f * float64(time.Second))
}

// truth reads on, true, yes or off, false, no; nothing is on.
func (t *translator) truth(s *stmt, was bool) bool {
	if len(s.args()) == 0 {
		return true
	}
	switch w := s.words[1]; w.text {
	case "true", "on", "yes":
		return true
	case "false", "off", "no":
		return false
	default:
		t.fail(w.at, "%s: wanted on, true, yes or off, false, no; found %s", s.key(), quote(w.text))
		return was
	}
}

// netmask reads an IPv4 mask in dots as its length.
func netmask(s string) (int, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for ; m&(1<<31) != 0; m <<= 1 {
		n++
	}
	return n, m == 0 && n > 0
}
