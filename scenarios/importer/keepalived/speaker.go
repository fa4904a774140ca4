package keepalived

import (
	"net/netip"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// speaker is a vrrp_instance as it speaks VRRP.
type speaker struct {
	config.Instance
	// id is its virtual_router_id as written, "" for none, in the line of idPos.
	id    string
	idPos source.Pos
	// ipv6 is the family of its VRRP: that of its first address, unless
	// native_ipv6 says it. unicast says that it speaks to single machines.
	ipv6, carries, unicast bool
}

// routerKey is what keepalived wants no two instances to have in common
// (vrrp_complete_init in keepalived/vrrp/vrrp.c).
type routerKey struct {
	device, id string
	ipv6       bool
}

// speak reads a keyword of a vrrp_instance that says how it speaks VRRP.
func (t *translator) speak(v *speaker, s *stmt) {
	switch key := s.key(); {
	case key == "virtual_router_id" && len(s.args()) > 0:
		v.id, v.idPos = s.words[1].text, s.at()
	case key == "native_ipv6":
		v.ipv6, v.carries = true, true
	case s.block == nil:
	case key == "unicast_peer":
		v.unicast = v.unicast || len(s.block.stmts) > 0
		for _, in := range s.block.stmts {
			if a, err := netip.ParseAddr(in.key()); err == nil && a.Zone() == "" {
				v.Peers = append(v.Peers, a)
			}
		}
	case key == "track_interface":
		for _, in := range s.block.stmts {
			v.Tracked = append(v.Tracked, config.Device{Pos: in.at(), Name: in.key()})
		}
	}
}

// source reads the address that the director's VRRP speaks from.
func (t *translator) source(v *speaker, s *stmt) {
	if len(s.args()) == 0 {
		return
	}
	if a, err := netip.ParseAddr(s.words[1].text); err == nil && a.Zone() == "" {
		t.own[a] = s.at()
		v.Source, v.SourcePos = a, s.at()
	}
}

// carry looks at a list of addresses for the family of the first.
func (v *speaker) carry(b *block) {
	for _, s := range b.stmts {
		if !v.carries {
			v.carries, v.ipv6 = true, isIPv6(s.key())
		}
	}
}

// isIPv6 says that an address, with or without a length, is one of IPv6.
func isIPv6(text string) bool {
	p, err := netip.ParsePrefix(text)
	if err == nil {
		return p.Addr().Is6()
	}
	a, err := netip.ParseAddr(text)
	return err == nil && a.Is6()
}

// sameRouter tells of a second virtual router with the number of the first on one
// device, with which keepalived does not run. Those that speak to single machines
// may have one number (run).
func (t *translator) sameRouter(v *speaker) {
	if v.id == "" || v.unicast {
		return
	}
	key := routerKey{v.Interface.Name, v.id, v.ipv6}
	first, twice := t.routers[key]
	if !twice {
		t.routers[key] = v
		return
	}
	t.warn(v.idPos, "vrrp_instance %s has virtual_router_id %s on %s, as vrrp_instance %s has (%s); keepalived refuses to run with both",
		quote(v.Name), v.id, quote(v.Interface.Name), quote(first.Name), inLine(first.idPos, v.idPos))
}
