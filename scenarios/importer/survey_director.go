package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// makeDirector makes the director, with a link to each network that it has to
// do with.
func (s *surveyor) makeDirector() {
	m := &machine{name: s.w.director}
	s.plugIn()
	devices := s.directorDevices()
	s.devices = devices
	for _, seg := range s.ordered() {
		s.plug(m, devices.next(seg), seg, seg.directorAddr, seg.directorMore)
		for _, more := range seg.devices[min(1, len(seg.devices)):] {
			m.links = append(m.links, link{device: devices.named(more), network: seg.name})
		}
	}
	// Devices whose addresses are on no network are plugged in beside the others.
	for _, d := range s.namedDevices() {
		if d.Name == "lo" || slices.ContainsFunc(m.links, func(k link) bool { return k.device == devices.named(d.Name) }) || len(m.links) == 0 {
			continue
		}
		m.links = append(m.links, link{device: devices.named(d.Name), network: m.links[0].network})
	}
	s.speak(m)
	s.float(m)
	if s.shape == routed {
		for _, f := range s.families() {
			if gateway := s.home[f].routerAddr[f]; gateway.IsValid() {
				m.routes = append(m.routes, "default via "+gateway.String())
			}
		}
	}
	m.iptables, m.ip6tables = s.markRules(0), s.markRules(1)
	at := len(s.w.clients)
	if s.w.router != "" {
		at++
	}
	s.w.nodes = slices.Insert(s.w.nodes, at, m)
}

// ordered are the networks of the director, the outer ones first.
func (s *surveyor) ordered() []*segment {
	var list []*segment
	for _, home := range s.home {
		if home != nil && !slices.Contains(list, home) {
			list = append(list, home)
		}
	}
	for _, seg := range s.segments {
		if seg.director && !slices.Contains(list, seg) {
			list = append(list, seg)
		}
	}
	return list
}

// plugIn says which networks the director's devices are on whose addresses have
// no prefix length, so that the file itself does not tell.
func (s *surveyor) plugIn() {
	used := make(map[string]bool)
	for _, seg := range s.segments {
		for _, d := range seg.devices {
			used[d] = true
		}
	}
	for _, a := range s.c.Addresses {
		device, seg := plugged(a.Device), s.segmentOf(a.Prefix.Addr())
		if device == "" || used[device] || seg == nil || !seg.director {
			continue
		}
		seg.devices, used[device] = append(seg.devices, device), true
	}
}

// devices gives out the names of the director's devices: keepalived.conf's own,
// or eth0 and so on.
type devices struct {
	said map[string]string // by keepalived.conf's, the lab's
	used map[string]bool
	n    int
}

func (s *surveyor) directorDevices() *devices {
	d := &devices{said: make(map[string]string), used: make(map[string]bool)}
	var others []config.Device
	for _, a := range s.namedDevices() {
		switch {
		case d.said[a.Name] != "":
		case deviceName(a.Name) == a.Name && !everywhere(a.Name):
			d.said[a.Name], d.used[a.Name] = a.Name, true
		default:
			others = append(others, a)
		}
	}
	for _, a := range others {
		if d.said[a.Name] != "" {
			continue
		}
		name, why := deviceName(a.Name), "a lab's devices have letters, digits, -, _ and dots in their names, at most 15 in all, and begin with a letter"
		switch {
		case everywhere(a.Name):
			name, why = d.free(), "every node has a "+a.Name+" by itself"
		case d.used[name]:
			name, why = d.free(), "another one is called "+name+" already"
		}
		d.said[a.Name], d.used[name] = name, true
		if s.w.managedBy != "" {
			s.errs.Add(a.Pos, "--with-keepalived: device %s would be called %s in the lab, since %s; the real keepalived looks for %s and would not run: "+
				"give it another name here, or leave the flag out", a.Name, name, why, a.Name)
			continue
		}
		s.w.note(a.Pos, config.Assumed, "device %s is called %s in the lab, since %s", a.Name, name, why)
	}
	return d
}

// everywhere says that each node has a device of that name without a link: no
// lab file can have one that is plugged in.
func everywhere(device string) bool {
	return strings.HasPrefix(device, "tunl") || slices.Contains([]string{"gre0", "ip6gre0", "ip6tnl0", "sit0"}, device)
}

// deviceName is a device's name as a lab can have it.
func deviceName(s string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.':
			return c
		}
		return '-'
	}, s)
	name = strings.TrimLeft(name, "0123456789-_.")
	if name == "" {
		return "eth0"
	}
	return name[:min(len(name), 15)]
}

func (d *devices) named(device string) string { return d.said[device] }

// next is the name of the device on a network.
func (d *devices) next(seg *segment) string {
	if len(seg.devices) > 0 {
		return d.named(seg.devices[0])
	}
	return d.free()
}

// free is the next name that nobody has.
func (d *devices) free() string {
	for {
		name := fmt.Sprintf("eth%d", d.n)
		if d.n++; !d.used[name] {
			return name
		}
	}
}

// placeVIPs says where virtual IPs are carried, where that is not what a lab file
// has without a word.
func (s *surveyor) placeVIPs() {
	for _, p := range s.w.services {
		p.directorVIP = s.directorVIP(p)
	}
}

// directorVIP is the device and prefix length of a service's addresses on the
// director: keepalived.conf's word, or for tunnels the device that they are
// asked on, and not tunl0 as in the tutorial.
func (s *surveyor) directorVIP(p *placed) string {
	if len(p.vips) == 0 {
		return ""
	}
	a, said := s.w.carried[p.vips[0]]
	d := s.machineOf(s.w.director)
	if said && a.Device != "" {
		device := a.Device
		if device != "lo" {
			device = s.devices.named(device)
		}
		return fmt.Sprintf("%s/%d", device, s.bitsFor(d, device, a.Prefix))
	}
	if !slices.ContainsFunc(p.servers, func(r server) bool { return r.Forward == ipvs.TUN }) && p.sorry == nil {
		return ""
	}
	seg := s.segmentOf(p.vips[0])
	if seg == nil || !seg.director {
		seg = s.home[p.AddrFamily()]
	}
	for _, k := range d.links {
		if seg != nil && k.network == seg.name {
			return fmt.Sprintf("%s/%d", k.device, p.vips[0].BitLen())
		}
	}
	return ""
}

// bitsFor is the prefix length of an address on a device: a longer one than a
// single address only where that device is on the network, since it brings a
// route.
func (s *surveyor) bitsFor(m *machine, device string, p netip.Prefix) int {
	for _, k := range m.links {
		if k.device == device && slices.ContainsFunc(k.addresses, func(a linkAddress) bool { return a.Masked() == p.Masked() }) {
			return p.Bits()
		}
	}
	return p.Addr().BitLen()
}

func (s *surveyor) machineOf(name string) *machine {
	for _, m := range s.w.nodes {
		if m.name == name {
			return m
		}
	}
	return nil
}
