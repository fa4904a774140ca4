package importer

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// readInstances finds the addresses that the director's VRRP speaks from, which
// are its own, and those of its peers, which no machine of the lab may have.
func (s *surveyor) readInstances() {
	for i := range s.c.Instances {
		v := &s.c.Instances[i]
		if s.w.managedBy != "" && v.Interface.Name == "lo" {
			s.errs.Add(v.Interface.Pos, "--with-keepalived: vrrp_instance %s is on lo, on which keepalived speaks no VRRP, so that it would not run; name another device", v.Name)
		}
		h := s.hosts[v.Source]
		switch {
		case h != nil && s.w.managedBy != "":
			s.errs.Add(v.SourcePos, "--with-keepalived: vrrp_instance %s speaks from %s, which is a real server (%s) and so another machine of the lab; leave the flag out",
				v.Name, v.Source, h.pos)
		case !v.Source.IsValid() || s.taken[v.Source] || plugged(v.Interface.Name) == "":
		default:
			s.taken[v.Source] = true
			s.speakers = append(s.speakers, v)
		}
	}
	for _, v := range s.c.Instances {
		for _, p := range v.Peers {
			s.taken[p] = true
		}
	}
}

// placeSpeakers finds the networks of those addresses, or makes them.
func (s *surveyor) placeSpeakers() {
	for _, v := range s.speakers {
		if v.Source.Is6() && v.Source.IsLinkLocalUnicast() {
			continue // it is of every network
		}
		device := v.Interface.Name
		seg := s.segmentOf(v.Source)
		if seg == nil {
			p, ok := s.freePrefix(v.Source)
			if !ok || s.overlaps(p) {
				s.errs.Add(v.SourcePos, "vrrp_instance %s speaks from %s, which is beside the known networks, and no network of its own fits between them; name one that holds it (--network)",
					v.Name, v.Source)
				continue
			}
			s.know(p, "of vrrp_instance "+v.Name, device, v.SourcePos)
			seg = s.segmentOf(v.Source)
			seg.speaker, seg.spoken = v, p
		}
		if !slices.ContainsFunc(s.segments, func(o *segment) bool { return slices.Contains(o.devices, device) }) {
			seg.devices = append(seg.devices, device)
		}
		seg.speaks = true
	}
}

// directorIn is the director's address in a prefix of a network: that which its
// VRRP speaks from, unless a further device there has that, or one that is
// nobody's.
func (s *surveyor) directorIn(seg *segment, p netip.Prefix) netip.Addr {
	for _, v := range s.speakers {
		if p.Contains(v.Source) && slices.Index(seg.devices, v.Interface.Name) < 1 {
			return v.Source
		}
	}
	return s.freeIn(seg, p, false)
}

// spokenText is the sentence on a network that is known by such an address, less
// why that is a guess.
func (seg *segment) spokenText() string {
	is := "is " + seg.spoken.String()
	if len(seg.prefixes) > 1 {
		is = "has " + seg.spoken.String() + " as well"
	}
	return fmt.Sprintf("network %s %s, from the address that vrrp_instance %s speaks from (%s)", seg.name, is, seg.speaker.Name, seg.speaker.Source)
}

// namedDevices are the director's devices that the file names and the lab needs,
// with the place of each name: all that the real keepalived looks for.
func (s *surveyor) namedDevices() []config.Device {
	var list []config.Device
	for i := range s.c.Instances {
		v := &s.c.Instances[i]
		managed := s.w.managedBy != ""
		if managed || slices.Contains(s.speakers, v) {
			list = append(list, v.Interface)
		}
		if managed {
			list = append(list, v.Tracked...)
		}
	}
	for _, a := range s.c.Addresses {
		list = append(list, config.Device{Pos: a.Pos, Name: a.Device})
	}
	return slices.DeleteFunc(list, func(d config.Device) bool { return d.Name == "" })
}

// speak gives the director the addresses that its VRRP speaks from, where it does
// not have them. One whose network is not that of the instance's device is on the
// network's: for keepalived it is enough that the director has it.
func (s *surveyor) speak(m *machine) {
	for _, v := range s.speakers {
		device := s.devices.named(v.Interface.Name)
		if k := carries(m, v.Source); k != nil {
			for j := range k.addresses {
				if k.addresses[j].Addr() == v.Source {
					k.addresses[j].pos = v.SourcePos
				}
			}
			if k.device != device {
				s.w.note(v.SourcePos, config.Assumed, "vrrp_instance %s speaks from %s, which the director has on %s in the lab, for that is on network %s; %s is not",
					v.Name, v.Source, k.device, k.network, device)
			}
			continue
		}
		i := slices.IndexFunc(m.links, func(k link) bool { return k.device == device })
		if i < 0 {
			continue // no network is there at all, which is told
		}
		bits := usual()[1] // of a link-local address (RFC 4291, 2.5.6)
		if seg := s.segmentOf(v.Source); seg != nil {
			for _, p := range seg.prefixes {
				if p.Contains(v.Source) {
					bits = p.Bits()
				}
			}
		}
		m.links[i].addresses = append(m.links[i].addresses, linkAddress{netip.PrefixFrom(v.Source, bits), v.SourcePos})
	}
}

// float gives the director the addresses of its VRRP that are no service's, such as
// the gateway of real servers behind NAT, on the link to their network. The real
// keepalived brings them itself.
func (s *surveyor) float(m *machine) {
	if s.w.managedBy != "" {
		return
	}
	for _, a := range s.c.Addresses {
		addr, seg := a.Prefix.Addr(), s.segmentOf(a.Prefix.Addr())
		if seg == nil || carries(m, addr) != nil || s.hosts[addr] != nil ||
			slices.ContainsFunc(s.w.services, func(p *placed) bool { return slices.Contains(p.vips, addr) }) {
			continue
		}
		device := s.devices.named(a.Device)
		i := slices.IndexFunc(m.links, func(k link) bool {
			return k.network == seg.name && len(k.addresses) > 0 && (device == "" || k.device == device)
		})
		at := slices.IndexFunc(seg.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
		if i >= 0 && at >= 0 {
			m.links[i].addresses = append(m.links[i].addresses, linkAddress{netip.PrefixFrom(addr, seg.prefixes[at].Bits()), a.Pos})
		}
	}
}

// carries is the link of a machine that has an address, nil for none.
func carries(m *machine, a netip.Addr) *link {
	for i := range m.links {
		if slices.ContainsFunc(m.links[i].addresses, func(l linkAddress) bool { return l.Addr() == a }) {
			return &m.links[i]
		}
	}
	return nil
}
