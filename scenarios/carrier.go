package scenarios

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// The roles of a virtual IP on a node.
const (
	roleDirectorVIP   topology.Role = "vip-on-director"
	roleRealServerVIP topology.Role = "vip-on-real-server"
)

// carrier is a node that carries a virtual IP, or that a tunnel ends on.
type carrier struct {
	node, service string
	role          topology.Role
	vip           netip.Addr
	place         forward.Placement
	// tunnel is what the node unwraps packets with; its Device is empty where
	// it has nothing to unwrap.
	tunnel forward.Tunnel
	pos    source.Pos
}

// carriers are all nodes that need the virtual IP, directors first. One whose
// place has no device carries none, but may need its tunnel up.
func (l *Lab) carriers() []carrier { return l.carriersIf(func(string) bool { return true }) }

// carriersAt are those of one node.
func (l *Lab) carriersAt(node string) []carrier {
	if l.near != nil && l.near.carriers != nil {
		return l.near.carriers[node]
	}
	return l.carriersIf(func(n string) bool { return n == node })
}

func (l *Lab) carriersIf(wanted func(node string) bool) []carrier {
	var cs []carrier
	for _, e := range l.VirtualServices {
		v := e.Value
		for _, vip := range v.vips() {
			for _, d := range v.Directors {
				if wanted(d) {
					cs = append(cs, l.directorCarrier(e.Name, v, d, vip))
				}
			}
			for _, r := range v.RealServers {
				if wanted(r.Node) {
					cs = append(cs, l.serverCarrier(e.Name, v, r, vip))
				}
			}
		}
	}
	return cs
}

func (l *Lab) directorCarrier(service string, v *VirtualService, director string, vip netip.Addr) carrier {
	c := carrier{node: director, service: service, role: roleDirectorVIP, vip: vip, pos: v.Pos, place: v.Forwarding.DirectorVIP}
	if c.place.Device == forward.TunnelDevice {
		// As the tutorial has it: the virtual IP on tunl0 of the director, too.
		c.place.Device = ""
		if t := v.Forwarding.Tunnel(vip, vip); t.Device == "tunl0" {
			c.place.Device, c.tunnel = t.Device, forward.Tunnel{Device: t.Device, Needs: deviceNeeds(t.Device)}
		}
	}
	if p := v.VIP.Directors; p != nil {
		c.place, c.pos = p.Placement, p.Pos
	} else if c.place.Device == "" {
		var err error
		if c.place.Device, err = l.DeviceFor(director, vip); err != nil {
			c.place.Device = "lo" // it is routed there
		}
	}
	return c
}

func (l *Lab) serverCarrier(service string, v *VirtualService, r RealServer, vip netip.Addr) carrier {
	m := v.methodOf(r)
	c := carrier{node: r.Node, service: service, role: roleRealServerVIP, vip: vip, pos: r.Pos, place: m.RealServerVIP}
	if m.Forward == ipvs.TUN {
		outer := vip
		if len(v.Directors) > 0 {
			if a, err := l.realServerAddress(v.Directors[0], v, r); err == nil {
				outer = a
			}
		}
		c.tunnel = m.Tunnel(outer, vip)
	}
	if c.place.Device == forward.TunnelDevice {
		c.place.Device = c.tunnel.Device
	}
	if p := v.VIP.RealServers; p != nil {
		c.place, c.pos = p.Placement, p.Pos
	}
	return c
}

// usesDevice reports whether a node has anything to do with a device that
// tunnels end on.
func (l *Lab) usesDevice(node string, n Node, device string) bool {
	_, named := n.Devices.Get(device)
	return named || slices.ContainsFunc(l.carriersAt(node), func(c carrier) bool {
		return c.tunnel.Device == device || c.place.Device == device
	})
}

// tunnelOps bring up the devices that tunnels end on, and the ports at which
// GUE is unwrapped: where the node says so, or a forwarding method needs it and
// the node does not say no.
func (l *Lab) tunnelOps(node string, n Node) []topology.Op {
	var ops []topology.Op
	add := func(op topology.Op) {
		if !slices.ContainsFunc(ops, func(o topology.Op) bool { return o.About().Key == op.About().Key }) {
			ops = append(ops, op)
		}
	}
	up := func(device, why string, pos source.Pos, needs []topology.Feature) {
		add(topology.NewDeviceUp(topology.Meta{Role: "tunnel-up", Why: why, Pos: pos, Needs: needs}, node, device))
	}
	said := func(device string) (Device, bool) {
		d, ok := n.Devices.Get(device)
		return d, ok && d.Up != nil
	}
	for _, e := range n.Devices {
		if d, ok := said(e.Name); ok && *d.Up && e.Name != "lo" {
			up(e.Name, node+"'s "+e.Name+" is up", d.Pos, deviceNeeds(e.Name))
		}
	}
	for _, c := range l.carriersAt(node) {
		device := c.tunnel.Device
		if device == "" && len(deviceNeeds(c.place.Device)) > 0 {
			device = c.place.Device
		}
		if device == "" {
			continue
		}
		if c.tunnel.Kind != "" {
			add(topology.NewTunnel(topology.Meta{
				Role: "tunnel-up", Why: fmt.Sprintf("%s unwraps what is for %s by a device of its own", node, c.vip), Pos: c.pos, Needs: c.tunnel.Needs,
			}, node, topology.Tunnel{Device: c.tunnel.Device, Kind: c.tunnel.Kind, Local: c.tunnel.Outer}))
		} else if _, ok := said(device); !ok {
			why := "tunnelled packets are unwrapped by a device that is up"
			if c.role == roleDirectorVIP {
				why = "an address on a device that is down is local all the same, but the tutorial brings it up on the director too"
			}
			up(device, why, c.pos, append(deviceNeeds(device), c.tunnel.Needs...))
		}
		if c.tunnel.GUEPort != 0 {
			add(topology.NewGUE(topology.Meta{
				Role: "tunnel-port", Why: fmt.Sprintf("%s unwraps what comes to UDP port %d", node, c.tunnel.GUEPort), Pos: c.pos, Needs: c.tunnel.Needs,
			}, node, c.tunnel.GUEPort, c.tunnel.Outer))
		}
	}
	return ops
}

// tunnelDevices are the devices that the tunnel modules put into every network
// namespace, with the module of each.
func tunnelDevices() map[string]topology.Feature {
	return map[string]topology.Feature{
		"tunl0": "ipip", "gre0": "ip_gre", "sit0": "sit", "ip6tnl0": "ip6_tunnel", "ip6gre0": "ip6_gre",
	}
}

func deviceNeeds(device string) []topology.Feature {
	if f, ok := tunnelDevices()[device]; ok {
		return []topology.Feature{f}
	}
	return nil
}

// familyNeeds are what an address needs of a kernel.
func familyNeeds(a netip.Addr) []topology.Feature {
	if a.Is6() {
		return []topology.Feature{"ipv6"}
	}
	return nil
}

// NeedsIPv6 reports whether the lab has IPv6 addresses, as it is or after one of
// its steps: its kernel must have ipv6 from the beginning.
func (l *Lab) NeedsIPv6() bool { return l.ipv6 || l.UsesIPv6() }

// UsesIPv6 reports whether any address of the lab is an IPv6 one. Where none is,
// IPv6 is off on every node.
func (l *Lab) UsesIPv6() bool {
	for _, w := range l.Networks {
		if slices.ContainsFunc(w.Value.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			return true
		}
	}
	for _, e := range l.VirtualServices {
		if slices.ContainsFunc(e.Value.vips(), netip.Addr.Is6) {
			return true
		}
	}
	has := func(as []Address) bool {
		return slices.ContainsFunc(as, func(a Address) bool { return a.Prefix.Addr().Is6() })
	}
	for _, n := range l.Nodes {
		for _, k := range n.Value.Links {
			if has(k.Value.Addresses) {
				return true
			}
		}
		for _, d := range n.Value.Devices {
			if has(d.Value.Addresses) {
				return true
			}
		}
	}
	return false
}
