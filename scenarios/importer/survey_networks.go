package importer

import (
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// segment is a network that directors, real servers or clients are on.
type segment struct {
	*network
	// why is how its prefix is known.
	why string
	// devices are those that keepalived.conf names for it on the director.
	devices []string
	// nat, dr and tun say by which methods real servers on it are reached; vips
	// and servers count what is on it, and first is the first real server.
	nat, dr, tun  bool
	vips, servers int
	first         *host
	// assumed says that its prefix is a guess, made that nobody told at all.
	assumed, made bool
	// added is a prefix that it has besides, see addFamilies.
	added netip.Prefix
	// speaker is the vrrp_instance from whose own address spoken, one of its
	// prefixes, is taken.
	speaker *config.Instance
	spoken  netip.Prefix
	// speaks says that such an address is on it.
	speaks bool
	// director, router and client are who has a leg on it.
	director, router bool
	// gateways are the addresses of director and router, by family.
	directorAddr, routerAddr [2]netip.Addr
	// directorMore and routerMore are the same on its further prefixes of a family:
	// one device may have virtual IPs of several networks.
	directorMore, routerMore []netip.Prefix
}

// Bounds of inferred networks. A /24 and a /64 are what most networks are; DR
// needs one segment, which is not taken for larger than widest. No lab has more
// inferred networks than mostNetworks: they are taken larger then.
const mostNetworks = 32

func usual() [2]int  { return [2]int{24, 64} }
func widest() [2]int { return [2]int{16, 48} }

// smallest is the longest prefix that holds a director, a router and some real
// servers, by family.
func smallest() [2]int { return [2]int{29, 125} }

// findSegments works out the networks of virtual IPs and real servers.
func (s *surveyor) findSegments() {
	s.knownSegments()
	s.chooseBits()
	s.widenForDR()
	for _, h := range s.hostList {
		seg := s.segmentOf(h.addr)
		if seg == nil {
			seg = s.infer(h.addr)
		}
		h.seg = seg
		seg.nat, seg.dr, seg.tun = seg.nat || h.nat, seg.dr || h.dr, seg.tun || h.direct && !h.dr
		if seg.first == nil {
			seg.first = h
		}
		seg.servers++
	}
	s.placeSpeakers()
	for _, a := range s.vips() {
		if seg := s.segmentOf(a); seg != nil {
			seg.vips++
		}
	}
}

// knownSegments are those that the user has named, and those of keepalived's
// virtual IPs that have a prefix length.
func (s *surveyor) knownSegments() {
	for _, p := range s.o.Networks {
		if p != p.Masked() || p.Bits() > smallest()[family(p.Addr())] {
			s.errs.Add(source.Pos{}, "network %s: wanted a prefix of at most %d bits without host bits, such as %s", p,
				smallest()[family(p.Addr())], netip.PrefixFrom(p.Addr(), min(p.Bits(), usual()[family(p.Addr())])).Masked())
			continue
		}
		s.know(p, "as given", "", source.Pos{})
	}
	list := slices.Clone(s.c.Addresses)
	slices.SortStableFunc(list, func(a, b config.Address) int { return a.Prefix.Bits() - b.Prefix.Bits() }) // the widest first
	for _, a := range list {
		if a.Prefix.Bits() <= smallest()[family(a.Prefix.Addr())] {
			s.know(a.Prefix.Masked(), "of the virtual IP "+a.Prefix.String(), plugged(a.Device), a.Pos)
		}
	}
	for _, a := range list {
		if seg := s.segmentOf(a.Prefix.Addr()); seg != nil && plugged(a.Device) != "" && !slices.Contains(seg.devices, a.Device) {
			seg.devices = append(seg.devices, a.Device)
		}
	}
}

// plugged is a device that can be on a network, which lo cannot.
func plugged(device string) string {
	if device == "lo" {
		return ""
	}
	return device
}

// know adds a prefix that somebody has said, to the network of its device if
// there is one.
func (s *surveyor) know(p netip.Prefix, why, device string, pos source.Pos) {
	for _, seg := range s.known {
		for _, o := range seg.prefixes {
			if o.Overlaps(p) {
				return // the wider one came first, or was given by hand
			}
		}
	}
	for _, seg := range s.known {
		if device != "" && slices.Contains(seg.devices, device) {
			seg.prefixes = append(seg.prefixes, p)
			return
		}
	}
	seg := &segment{network: &network{prefixes: []netip.Prefix{p}, pos: pos}, why: why}
	if device != "" {
		seg.devices = []string{device}
	}
	s.known = append(s.known, seg)
	s.segments = append(s.segments, seg)
}

// chooseBits takes inferred networks as large as must be so that there are not
// too many of them.
func (s *surveyor) chooseBits() {
	s.bits = usual()
	for f := range s.bits {
		for step := s.bits[f] / 6; s.bits[f] > step; s.bits[f] -= step {
			seen := make(map[netip.Prefix]bool)
			for _, h := range s.hostList {
				if family(h.addr) == f && s.segmentOf(h.addr) == nil {
					seen[netip.PrefixFrom(h.addr, s.bits[f]).Masked()] = true
				}
			}
			if len(seen) <= mostNetworks {
				break
			}
		}
	}
}

// widenForDR takes the networks of a DR service's real servers as one, since
// only the MAC address leads there: where they are not too far apart for that.
func (s *surveyor) widenForDR() {
	for _, p := range s.w.services {
		var prefixes [2]netip.Prefix
		for i := range p.servers {
			a := p.servers[i].Addr.Addr()
			if p.servers[i].Forward != ipvs.DR || s.segmentOf(a) != nil {
				continue
			}
			f := family(a)
			if q := netip.PrefixFrom(a, s.bits[f]).Masked(); !prefixes[f].IsValid() {
				prefixes[f] = q
			} else {
				prefixes[f] = common(prefixes[f], q)
			}
		}
		for f, q := range prefixes {
			if q.IsValid() && q.Bits() < s.bits[f] && q.Bits() >= widest()[f] && !s.overlapsKnown(q) && !slices.Contains(s.wide, q) {
				s.wide = append(s.wide, q)
			}
		}
	}
	s.widenCrowded()
	slices.SortFunc(s.wide, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	var kept []netip.Prefix
	for _, q := range s.wide {
		if !slices.ContainsFunc(kept, q.Overlaps) {
			kept = append(kept, q)
		}
	}
	s.wide = kept
}

// widenCrowded takes networks larger in which no address would be left for the
// lab's own machines.
func (s *surveyor) widenCrowded() {
	const spare = 20
	count := make(map[netip.Prefix]int)
	for a := range s.taken {
		count[netip.PrefixFrom(a, s.bits[family(a)]).Masked()]++
	}
	for p, n := range count {
		hostBits := p.Addr().BitLen() - p.Bits()
		for hostBits < 16 && n > 1<<hostBits-spare {
			hostBits, n = hostBits+1, 0
			p = netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
			for a := range s.taken {
				if p.Contains(a) {
					n++
				}
			}
		}
		if q := p; q.Bits() < s.bits[family(q.Addr())] && !s.overlapsKnown(q) && !slices.Contains(s.wide, q) {
			s.wide = append(s.wide, q)
		}
	}
}

// common is the longest prefix that holds two others.
func common(a, b netip.Prefix) netip.Prefix {
	for bits := min(a.Bits(), b.Bits()); ; bits-- {
		if p := netip.PrefixFrom(a.Addr(), bits).Masked(); p.Contains(b.Addr()) {
			return p
		}
	}
}

func (s *surveyor) overlapsKnown(p netip.Prefix) bool {
	return slices.ContainsFunc(s.known, func(seg *segment) bool { return slices.ContainsFunc(seg.prefixes, p.Overlaps) })
}

// segmentOf is the network that an address is on, nil for none.
func (s *surveyor) segmentOf(a netip.Addr) *segment {
	for _, seg := range s.known {
		if seg.contains(a) {
			return seg
		}
	}
	f := family(a)
	for bits := s.bits[f]; bits > 0 && bits <= smallest()[f]; bits++ {
		if seg := s.inferred[netip.PrefixFrom(a, bits).Masked()]; seg != nil {
			return seg
		}
	}
	for _, q := range s.wide {
		if q.Contains(a) {
			return s.inferred[q]
		}
	}
	return nil
}

func (seg *segment) contains(a netip.Addr) bool {
	return slices.ContainsFunc(seg.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// firstContains reports whether an address is of the network's first prefix of its family.
func (seg *segment) firstContains(a netip.Addr) bool {
	p, ok := seg.prefix(family(a))
	return ok && p.Contains(a)
}

// further are the network's prefixes of a family but the first.
func (seg *segment) further(f int) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range seg.prefixes {
		if family(p.Addr()) == f {
			list = append(list, p)
		}
	}
	return list[min(1, len(list)):]
}

// prefix is the network's first one of a family.
func (seg *segment) prefix(f int) (netip.Prefix, bool) {
	for _, p := range seg.prefixes {
		if family(p.Addr()) == f {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// infer makes the network of an address of which nothing is known.
func (s *surveyor) infer(a netip.Addr) *segment {
	p, ok := s.freePrefix(a)
	if !ok {
		s.errs.Add(s.hosts[a].pos, "real server %s is beside the known networks, and no network of its own fits between them; name one that holds it (--network)", a)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	seg := &segment{network: &network{prefixes: []netip.Prefix{p}}, assumed: true}
	s.inferred[p] = seg
	s.segments = append(s.segments, seg)
	return seg
}

// freePrefix is the prefix that a network of an address is taken to have.
func (s *surveyor) freePrefix(a netip.Addr) (netip.Prefix, bool) {
	for _, q := range s.wide {
		if q.Contains(a) {
			return q, true
		}
	}
	f := family(a)
	for bits := s.bits[f]; bits <= smallest()[f]; bits++ {
		if p := netip.PrefixFrom(a, bits).Masked(); !s.overlapsKnown(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// free takes an address of a network that is nobody's, from its beginning or
// its end. A network that is full is an error.
func (s *surveyor) free(seg *segment, f int, fromEnd bool) netip.Addr {
	p, ok := seg.prefix(f)
	if !ok {
		return netip.Addr{}
	}
	return s.freeIn(seg, p, fromEnd)
}

// freeIn does so in one of its prefixes.
func (s *surveyor) freeIn(seg *segment, p netip.Prefix, fromEnd bool) netip.Addr {
	a, step := p.Addr().Next(), netip.Addr.Next
	if fromEnd {
		a, step = lastOf(p), netip.Addr.Prev
	}
	for ; p.Contains(a) && a != p.Addr() && (p.Addr().Is6() || a != broadcast(p)); a = step(a) {
		if !s.taken[a] {
			s.taken[a] = true
			return a
		}
	}
	if fromEnd {
		return s.freeIn(seg, p, false) // an IPv6 network goes on behind lastOf
	}
	s.errs.Add(s.placeOf(seg), "network %s has no address left for the lab's own machines; name a larger one that holds it (--network)", p)
	return netip.Addr{}
}

// placeOf is where a network comes from: its first real server, its own place,
// or the file.
func (s *surveyor) placeOf(seg *segment) source.Pos {
	switch {
	case seg.first != nil:
		return seg.first.pos
	case seg.pos.IsValid():
		return seg.pos
	}
	return s.file()
}

// lastOf is the last address of a network that a person would give to a machine:
// .254, or ::fe.
func lastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return broadcast(p).Prev()
	}
	bytes := p.Addr().As16()
	bytes[15] |= 0xfe & byte(1<<min(8, 128-p.Bits())-1)
	return netip.AddrFrom16(bytes)
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// room reports whether a network has so many addresses that are nobody's.
func (s *surveyor) room(seg *segment, f, count int) bool {
	p, ok := seg.prefix(f)
	if !ok {
		return false
	}
	hostBits := p.Addr().BitLen() - p.Bits()
	return hostBits > 16 || 1<<hostBits-2 >= count+seg.servers+seg.vips+len(s.c.Addresses)
}
