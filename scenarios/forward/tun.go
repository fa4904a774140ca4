package forward

import (
	"net/netip"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
)

// tun is tunnelling: the director wraps the packet in another one to the real
// server, which unwraps it and answers the client by itself. A prefix of one
// address adds no second route to the network (see the lab tun/prefix-24).
func tun() Method {
	return Method{
		Name: "tun", Forward: ipvs.TUN, Title: "tunnelling",
		RealServerVIP: Placement{Device: TunnelDevice},
		DirectorVIP:   Placement{Device: TunnelDevice},
	}
}

// Tunnel is what a real server needs to unwrap what the director sends, which
// itself needs nothing but IPVS (all of it run on Linux 6.1).
type Tunnel struct {
	// Device is that from which the inner packets come; it must be up.
	Device string
	// Kind is empty for a device that is in every namespace once its module is
	// there; any other must be made, see topology.Tunnel.
	Kind string
	// Needs are the kernel features of the device.
	Needs []topology.Feature
	// GUEPort is the UDP port at which GUE is unwrapped, 0 for no GUE.
	GUEPort uint16
	// Outer is the real server's address.
	Outer netip.Addr
}

// Tunnel is what unwraps the method's packets at the address outer, which carry
// packets for the address inner; it has no Device where the method wraps
// nothing.
func (m Method) Tunnel(outer, inner netip.Addr) Tunnel {
	if m.Forward != ipvs.TUN {
		return Tunnel{}
	}
	t := Tunnel{Outer: outer, GUEPort: m.TunPort}
	set := func(device, kind string, needs ...topology.Feature) { t.Device, t.Kind, t.Needs = device, kind, needs }
	gre := m.TunType == ipvs.GRE
	// gre0 and its like drop packets with a checksum, and a device with
	// checksums those without.
	summed := gre && m.TunFlags == ipvs.Checksum
	switch {
	case summed && outer.Is4():
		set("gre-csum", "gre", "ip_gre")
	case summed:
		set("gre-csum", "ip6gre", "ip6_gre")
	case gre && outer.Is4():
		set("gre0", "", "ip_gre")
	case gre:
		set("ip6gre0", "", "ip6_gre")
	case outer.Is4() && inner.Is4():
		set("tunl0", "", "ipip")
	case outer.Is4():
		set("sit0", "", "sit")
	case inner.Is6():
		set("ip6tnl0", "", "ip6_tunnel")
	default:
		// ip6tnl0 takes IPv6 alone.
		set("ip6any", "ip6tnl", "ip6_tunnel")
	}
	if m.TunType == ipvs.GUE {
		t.Needs = append(t.Needs, "fou")
	}
	return t
}
