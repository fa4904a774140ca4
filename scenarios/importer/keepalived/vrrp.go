package keepalived

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// instance reads a vrrp_instance for the addresses that it carries.
func (t *translator) instance(s *stmt) {
	if !t.count(s, 1, 1) || !t.needBlock(s) {
		return
	}
	name := s.words[1].text
	if first, twice := t.instances[name]; twice {
		t.fail(s.at(), "a second vrrp_instance %s (the first is in line %d)", quote(name), first.Line)
		return
	}
	t.instances[name] = s.at()
	var left []string
	var lists []*stmt
	v := &speaker{Instance: config.Instance{Pos: s.at(), Name: name}}
	for _, in := range s.block.stmts {
		switch key := in.key(); key {
		case "virtual_ipaddress", "virtual_ipaddress_excluded":
			if t.needBlock(in) {
				lists = append(lists, in)
			}
			continue
		case "interface":
			if t.want(in, 1, 1) {
				v.Interface = config.Device{Pos: in.at(), Name: in.words[1].text}
			}
			continue
		case "unicast_src_ip", "mcast_src_ip":
			t.source(v, in)
			continue
		case "state":
			t.state(name, in)
		default:
			t.speak(v, in)
		}
		if !slices.Contains(left, in.key()) {
			left = append(left, in.key())
		}
	}
	for _, l := range lists {
		t.addresses(l.block, name, v.Interface.Name)
		v.carry(l.block)
	}
	t.sameRouter(v)
	t.cfg.Instances = append(t.cfg.Instances, v.Instance)
	if len(left) > 0 {
		t.ignore(s.at(), "of vrrp_instance %s only its addresses count; left out: %s", name, strings.Join(left, ", "))
	}
}

// state tells that an instance which begins as BACKUP is taken for the master.
func (t *translator) state(name string, s *stmt) {
	if len(s.words) > 1 && s.words[1].text == "BACKUP" {
		t.assume(s.at(), "vrrp_instance %s begins as BACKUP; taken as if it had become master: the director carries its addresses", name)
	}
}

// ownServers tells of real servers that are the director itself, by its VRRP's
// word: two machines that balance for each other have such a file.
func (t *translator) ownServers() {
	for _, v := range t.cfg.Services {
		for _, d := range v.Servers {
			at, own := t.own[d.Addr.Addr()]
			if !own {
				continue
			}
			delete(t.own, d.Addr.Addr())
			t.assume(d.Pos, "real_server %v is the director itself, whose VRRP speaks from that address (%s); taken as another machine", d.Addr.Addr(), inLine(at, d.Pos))
		}
	}
}

func (t *translator) staticAddresses(s *stmt) {
	if t.needBlock(s) {
		t.addresses(s.block, "", t.defaultDevice)
	}
}

// addressWords are what may follow an address, each with the number of words
// behind it.
func addressWords() map[string]int {
	return map[string]int{
		"dev": 1, "brd": 1, "broadcast": 1, "scope": 1, "label": 1, "peer": 1, "track_group": 1, "preferred_lft": 1,
		"home": 0, "-nodad": 0, "nodad": 0, "mngtmpaddr": 0, "noprefixroute": 0, "autojoin": 0, "no_track": 0, "use_vmac": 0,
	}
}

// addresses reads the lines of virtual_ipaddress and static_ipaddress.
func (t *translator) addresses(b *block, instance, device string) {
	for _, s := range b.stmts {
		if s.block != nil {
			t.fail(s.block.open, "a list of addresses has one address a line, and no blocks")
			continue
		}
		p, ok := t.prefix(s.words[0])
		if !ok {
			continue
		}
		a := config.Address{Pos: s.at(), Prefix: p, Device: device, Instance: instance}
		t.addressOptions(&a, s)
		if first, twice := t.carried[p.Addr().String()]; twice {
			t.warn(s.at(), "%v is carried already (line %d)", p.Addr(), first.Line)
			continue
		}
		t.carried[p.Addr().String()] = s.at()
		t.cfg.Addresses = append(t.cfg.Addresses, a)
	}
}

// prefix reads an address and its length, which is that of one address where
// none is written.
func (t *translator) prefix(w word) (netip.Prefix, bool) {
	text := w.text
	if !strings.Contains(text, "/") {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			return netip.PrefixFrom(a, a.BitLen()), true
		}
	} else if p, err := netip.ParsePrefix(text); err == nil {
		return p, true
	}
	t.fail(w.at, "wanted an address such as 10.0.0.100/24, found %s", quote(text))
	return netip.Prefix{}, false
}

func (t *translator) addressOptions(a *config.Address, s *stmt) {
	known := addressWords()
	for i := 1; i < len(s.words); i++ {
		w := s.words[i]
		n, ok := known[w.text]
		switch {
		case !ok:
			t.warn(w.at, "%s behind an address; keepalived passes over it", quote(w.text))
		case i+n >= len(s.words):
			t.fail(w.at, "%s needs a word behind it", w.text)
		case w.text == "dev":
			a.Device = s.words[i+1].text
		case w.text == "use_vmac":
			// Its name and base may follow, and nothing else does.
			return
		}
		i += n
	}
}

// inLine is a place as "line 5", or "FILE:5" when it is in another file.
func inLine(at, from source.Pos) string {
	if at.File != from.File {
		at.Col = 0
		return at.String()
	}
	at.File, at.Col = "line ", 0
	return strings.Replace(at.String(), ":", "", 1)
}
