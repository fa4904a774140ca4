package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// shape is how clients, director and real servers stand to one another.
type shape int

const (
	// oneLAN: all are on one network, as most tutorials have it; for DR alone.
	oneLAN shape = iota
	// between: the director stands between the client and the real servers; for
	// NAT alone.
	between
	// routed: a router stands between the client and everything else, so that
	// replies of DR and TUN do not have to pass the director, which drops
	// packets from its own virtual IP, and tunnels have networks to cross.
	routed
)

// clientAddresses is how many addresses a client has, of each family.
const clientAddresses = 8

// chooseShape decides on the shape, and on the network where the client's side
// meets the director.
func (s *surveyor) chooseShape() {
	var nat, direct bool
	for _, h := range s.hostList {
		nat, direct = nat || h.nat, direct || h.direct
	}
	switch {
	case !direct:
		s.shape = between
	case !nat && s.isOneLAN():
		s.shape = oneLAN
	default:
		s.shape = routed
	}
	for f, asked := range s.asked() {
		if asked && s.shape == oneLAN {
			s.home[f] = s.hostList[0].seg
		}
	}
	if s.shape != oneLAN {
		s.chooseHomes()
	}
	for _, seg := range s.segments {
		seg.director = seg.nat || seg.dr || seg.vips > 0 || len(seg.devices) > 0 || seg.speaks || seg == s.home[0] || seg == s.home[1]
		if s.shape == routed {
			seg.router = seg.dr || seg.tun || seg.vips > 0 && !seg.nat || seg == s.home[0] || seg == s.home[1]
		}
		if !seg.director && !seg.router {
			s.w.note(seg.pos, config.Warning, "nothing is on network %s; the lab leaves it out", seg.prefixes[0])
		}
	}
	s.segments = slices.DeleteFunc(s.segments, func(seg *segment) bool { return !seg.director && !seg.router })
}

// isOneLAN reports whether all is on one network, with room for a client.
func (s *surveyor) isOneLAN() bool {
	lan := s.hostList[0].seg
	for _, h := range s.hostList {
		if h.seg != lan || !h.dr {
			return false
		}
	}
	for _, a := range s.vips() {
		if !lan.contains(a) {
			return false
		}
	}
	if len(s.segments) > 1 || len(lan.further(0))+len(lan.further(1)) > 0 {
		return false
	}
	for f, asked := range s.asked() {
		if asked && !s.room(lan, f, clientAddresses+4) {
			return false
		}
	}
	return true
}

// chooseHomes finds the network on which the director is asked, for each family:
// that of most virtual IPs, where no real server is that answers by NAT. Such a
// server's replies would come in and go out by one device of the director's,
// which would tell it by ICMP that there is a shorter way.
func (s *surveyor) chooseHomes() {
	for _, f := range s.families() {
		var best *segment
		for _, seg := range s.segments {
			_, ok := seg.prefix(f)
			if !ok || seg.nat || !seg.dr && seg.vips == 0 && len(seg.devices) == 0 {
				continue
			}
			if s.shape == between && !s.room(seg, f, clientAddresses+2) {
				continue
			}
			if best == nil || seg.vips > best.vips {
				best = seg
			}
		}
		if p, why, vips := s.homePrefix(f); best == nil || vips > best.vips {
			best = s.makeHome(f, p, why, vips)
		}
		s.home[f] = best
	}
}

// makeHome makes a network for the director's outer side: that of the virtual
// IPs that are on none so far, or one of those kept for documentation.
func (s *surveyor) makeHome(f int, p netip.Prefix, why string, vips int) *segment {
	if !p.IsValid() {
		if p = s.documentation(f); !p.IsValid() {
			s.errs.Add(s.file(), "no network that is kept for documentation is free, for the lab's client to be on")
			return nil
		}
	}
	home := s.home[1-f]
	if home == nil || !home.made {
		home = &segment{network: new(network), made: true}
		s.segments = append([]*segment{home}, s.segments...)
	}
	home.prefixes = append(home.prefixes, p)
	if home.why != "" && why != "" {
		home.why += ", "
	}
	home.why += why
	home.vips += vips
	s.inferred[p] = home
	return home
}

// homePrefix is the prefix that holds the most virtual IPs that are on no
// network, with the reason and their number. It is invalid where there is none.
func (s *surveyor) homePrefix(f int) (best netip.Prefix, why string, vips int) {
	count := make(map[netip.Prefix]int)
	first := make(map[netip.Prefix]netip.Addr)
	for _, a := range s.vips() {
		if family(a) != f || s.segmentOf(a) != nil {
			continue
		}
		p, ok := s.homeFor(a)
		if !ok {
			continue
		}
		if count[p]++; count[p] == 1 {
			first[p] = a
		}
		if !best.IsValid() || count[p] > count[best] {
			best = p
		}
	}
	if !best.IsValid() {
		return best, "", 0
	}
	return best, first[best].String() + andMore(count[best]), count[best]
}

// homeFor is the usual prefix of a virtual IP that is on no network, unless
// others are inside.
func (s *surveyor) homeFor(a netip.Addr) (netip.Prefix, bool) {
	p := netip.PrefixFrom(a, usual()[family(a)]).Masked()
	if s.overlaps(p) {
		return p, false
	}
	free := 0
	for b := p.Addr(); p.Contains(b) && free < clientAddresses+4; b = b.Next() {
		if !s.taken[b] {
			free++
		}
	}
	return p, free >= clientAddresses+4
}

func (s *surveyor) overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(s.segments, func(seg *segment) bool { return slices.ContainsFunc(seg.prefixes, p.Overlaps) }) ||
		slices.ContainsFunc(s.askers, func(seg *segment) bool { return slices.ContainsFunc(seg.prefixes, p.Overlaps) })
}

// documentation is a network that is kept for documentation (RFC 5737, RFC 3849)
// or for measurements (RFC 2544), and that has nothing in common with what the
// configuration names.
func (s *surveyor) documentation(f int) netip.Prefix {
	free := func(p netip.Prefix) bool {
		if s.overlaps(p) {
			return false
		}
		for a := range s.taken {
			if p.Contains(a) {
				return false
			}
		}
		return true
	}
	for _, p := range documentationPrefixes(f) {
		if free(p) {
			return p
		}
	}
	return netip.Prefix{}
}

func documentationPrefixes(f int) []netip.Prefix {
	var list []netip.Prefix
	if f == 1 {
		for n := range 256 {
			list = append(list, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/64", n+1)))
		}
		return list
	}
	for _, p := range []string{"198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	for n := range 256 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(n), 0}), 24))
	}
	return list
}

// nameSegments names the networks by what they are for, and gives director and
// router their addresses.
func (s *surveyor) nameSegments() {
	for _, seg := range s.segments {
		seg.name = s.names.unique(s.segmentBase(seg))
		if text := s.assumption(seg); text != "" {
			s.w.note(s.placeOf(seg), config.Assumed, "%s", text)
			seg.comment = "Assumed: " + text + "."
		} else if seg.made {
			seg.comment = "Made up: the client's side, of which the file says nothing."
		}
		for _, f := range []int{0, 1} {
			first, ok := seg.prefix(f)
			if !ok {
				continue
			}
			if seg.director {
				seg.directorAddr[f] = s.directorIn(seg, first)
			}
			if seg.router {
				seg.routerAddr[f] = s.free(seg, f, true)
			}
			for _, p := range seg.further(f) {
				if seg.director {
					seg.directorMore = append(seg.directorMore, netip.PrefixFrom(s.directorIn(seg, p), p.Bits()))
				}
				if seg.router {
					seg.routerMore = append(seg.routerMore, netip.PrefixFrom(s.freeIn(seg, p, true), p.Bits()))
				}
			}
		}
	}
}

// assumption is the sentence on a network that nobody has named, "" for one that
// somebody has, or that has nothing to do with the file.
func (s *surveyor) assumption(seg *segment) string {
	const since = ", since the file gives no prefix length"
	text := ""
	switch {
	case seg.made && seg.why != "":
		text = fmt.Sprintf("network %s is %s, from the virtual IPs (%s)", seg.name, joined(seg.prefixes), seg.why) + since
	case seg.speaker != nil:
		text = seg.spokenText() + since
	case seg.assumed:
		text = fmt.Sprintf("network %s is %s, from the real servers' addresses (%s%s)", seg.name, seg.prefixes[0], seg.first.addr, andMore(seg.servers)) + since
	}
	if seg.added.IsValid() {
		text = strings.TrimPrefix(text+fmt.Sprintf("; %s has %s as well, for replies to what comes in tunnels of the other family", seg.name, seg.added), "; ")
	}
	return text
}

// andMore is " and N more" of a count that one is told of.
func andMore(count int) string {
	if count < 2 {
		return ""
	}
	return fmt.Sprintf(" and %d more", count-1)
}

func joined(prefixes []netip.Prefix) string {
	var words []string
	for _, p := range prefixes {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

// addFamilies gives networks a prefix of the other family, where tunnels bring
// real servers packets of a family that they have no address of.
func (s *surveyor) addFamilies() {
	for _, h := range s.hostList {
		f := 1 - family(h.addr)
		if _, has := h.seg.prefix(f); has || !h.cross {
			continue
		}
		h.seg.added = s.documentation(f)
		h.seg.prefixes = append(h.seg.prefixes, h.seg.added)
	}
}

// segmentBase is what a network is for.
func (s *surveyor) segmentBase(seg *segment) string {
	switch {
	case seg.dr:
		return "lan"
	case seg.nat:
		return "inside"
	case seg.made && s.shape == between && seg.vips == 0:
		return "clients"
	case seg == s.home[0] || seg == s.home[1], seg.made:
		if s.shape == between {
			return "outside"
		}
		return "front"
	case seg.tun:
		return "far"
	}
	return "front"
}
