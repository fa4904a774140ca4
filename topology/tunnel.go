package topology

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Tunnel is a device that unwraps packets and that a node does not have by
// itself: what tunl0, sit0, gre0, ip6tnl0 and ip6gre0 do not take.
type Tunnel struct {
	Device string
	// Kind is "ip6tnl" (anything inside IPv6), "gre" or "ip6gre" (with
	// checksums inside), as ip-link(8) calls them.
	Kind  string
	Local netip.Addr
}

type tunnelOp struct {
	meta   Meta
	tunnel Tunnel
	del    bool
}

// NewTunnel is the op that makes a device which unwraps packets, whoever sent
// them, and brings it up.
func NewTunnel(m Meta, node string, t Tunnel) Op {
	m.Key = Key{node, "tunnel", t.Device}
	return tunnelOp{m, t, false}
}

func (o tunnelOp) About() Meta { return o.meta }

func (o tunnelOp) Shell(Dialect) []string {
	node := o.meta.Key.Node
	if o.del {
		return []string{fmt.Sprintf("ip -n %s link del %s", node, o.tunnel.Device)}
	}
	mode := map[string]string{"ip6tnl": " mode any", "gre": " icsum", "ip6gre": " icsum"}[o.tunnel.Kind]
	return []string{fmt.Sprintf("ip -n %s link add %s up type %s local %s remote any%s", node, o.tunnel.Device, o.tunnel.Kind, o.tunnel.Local, mode)}
}

func (o tunnelOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	if o.del {
		dev, err := LinkByName(n, o.tunnel.Device)
		if err != nil {
			return fail(o, err)
		}
		return fail(o, n.Netlink().LinkDel(dev))
	}
	attrs := netlink.LinkAttrs{Name: o.tunnel.Device, TxQLen: -1, Flags: net.FlagUp}
	local := net.IP(o.tunnel.Local.AsSlice())
	var link netlink.Link
	switch o.tunnel.Kind {
	case "ip6tnl":
		// The hop limit and the limit of tunnels in tunnels are those that ip-link
		// gives (IPV6_DEFAULT_TNL_ENCAP_LIMIT in linux/ip6_tunnel.h).
		link = &netlink.Ip6tnl{LinkAttrs: attrs, Local: local, Remote: net.IPv6zero, Ttl: 64, EncapLimit: 4}
	case "gre":
		link = &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: net.IPv4zero, IFlags: uint16(nl.GRE_CSUM)}
	case "ip6gre":
		link = &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: net.IPv6zero, IFlags: uint16(nl.GRE_CSUM)}
	default:
		return fail(o, fmt.Errorf("unknown kind of tunnel %q", o.tunnel.Kind))
	}
	if err := n.Netlink().LinkAdd(link); err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(o, err)
	}
	// Not every kind takes the flag when it is made.
	dev, err := LinkByName(n, o.tunnel.Device)
	if err != nil {
		return fail(o, err)
	}
	return fail(o, n.Netlink().LinkSetUp(dev))
}

func (o tunnelOp) Undo() (Op, bool) {
	o.del = !o.del
	return o, true
}

type gueOp struct {
	meta Meta
	fou  netlink.Fou
	del  bool
}

// NewGUE is the op that unwraps Generic UDP Encapsulation at a UDP port, for
// outer headers of the family of outer (ip-fou(8)).
func NewGUE(m Meta, node string, port uint16, outer netip.Addr) Op {
	family := unix.AF_INET
	id := fmt.Sprintf("gue %d", port)
	if outer.Is6() {
		family = unix.AF_INET6
		id += " IPv6"
	}
	m.Key = Key{node, "fou", id}
	return gueOp{m, netlink.Fou{Family: family, Port: int(port), EncapType: netlink.FOU_ENCAP_GUE}, false}
}

func (o gueOp) About() Meta { return o.meta }

func (o gueOp) Shell(Dialect) []string {
	family := ""
	if o.fou.Family == unix.AF_INET6 {
		family = " -6"
	}
	if o.del {
		return []string{fmt.Sprintf("ip -n %s fou del port %d%s", o.meta.Key.Node, o.fou.Port, family)}
	}
	return []string{fmt.Sprintf("ip -n %s fou add port %d gue%s", o.meta.Key.Node, o.fou.Port, family)}
}

func (o gueOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	// The library opens a socket of its own for it, on the calling thread.
	return fail(o, n.Do(func() error {
		if o.del {
			return netlink.FouDel(o.fou)
		}
		err := addFOU(o.fou)
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EALREADY) {
			return nil
		}
		return err
	}))
}

// addFOU opens a port for GUE. netlink.FouAdd always names an IP protocol, 0
// for GUE, which kernels refuse of late (FOU_ATTR_IPPROTO in net/ipv4/fou.c).
func addFOU(f netlink.Fou) error {
	family, err := netlink.GenlFamilyGet(netlink.FOU_GENL_NAME)
	if err != nil {
		return fmt.Errorf("this kernel has no fou: %w", err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: netlink.FOU_CMD_ADD, Version: 1})
	req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_PORT, binary.BigEndian.AppendUint16(nil, uint16(f.Port))))
	req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_TYPE, nl.Uint8Attr(uint8(f.EncapType))))
	req.AddData(nl.NewRtAttr(netlink.FOU_ATTR_AF, nl.Uint8Attr(uint8(f.Family))))
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

func (o gueOp) Undo() (Op, bool) {
	o.del = !o.del
	return o, true
}
