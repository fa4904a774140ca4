package capture

import (
	"net"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// NDPMessage is a neighbour solicitation or advertisement (RFC 4861, sections
// 4.3 and 4.4): what ARP's request and reply are to IPv6.
type NDPMessage struct {
	// Advertisement tells the answer from the question.
	Advertisement bool
	// SourceIP is of the IPv6 header; unspecified in a node's own search for
	// duplicates of its address.
	SourceIP, DestIP netip.Addr
	// Target is the address that is asked for, or that the answer is about.
	Target netip.Addr
	// LinkAddr is the link-layer address in the message's options: that of who
	// asks, or the target's. It is nil where the option is left out, as it may
	// be in an answer to a question that was sent to one node alone.
	LinkAddr net.HardwareAddr
	// Router, Solicited and Override are the flags of an advertisement.
	Router, Solicited, Override bool
	// EtherSrc and EtherDst are of the Ethernet header that carried it.
	EtherSrc, EtherDst net.HardwareAddr
}

// SenderMAC is the link-layer address that the message gives: its option, or
// else who sent the frame.
func (m NDPMessage) SenderMAC() net.HardwareAddr {
	if m.LinkAddr != nil {
		return m.LinkAddr
	}
	return m.EtherSrc
}

// NDP decodes a packet. It is false for anything but a whole neighbour
// solicitation or advertisement over Ethernet, and for one that a receiver must
// drop since a router had its hands on it (hop limit, RFC 4861, section 7.1).
func NDP(p Packet) (NDPMessage, bool) {
	var eth layers.Ethernet
	var ip layers.IPv6
	var icmp layers.ICMPv6
	if !hasEthernet(p) || eth.DecodeFromBytes(p.Data, gopacket.NilDecodeFeedback) != nil || eth.EthernetType != layers.EthernetTypeIPv6 ||
		ip.DecodeFromBytes(eth.Payload, gopacket.NilDecodeFeedback) != nil || ip.NextHeader != layers.IPProtocolICMPv6 || ip.HopLimit != 255 ||
		icmp.DecodeFromBytes(ip.Payload, gopacket.NilDecodeFeedback) != nil || icmp.TypeCode.Code() != 0 {
		return NDPMessage{}, false
	}
	m := NDPMessage{EtherSrc: slices.Clone(eth.SrcMAC), EtherDst: slices.Clone(eth.DstMAC)}
	m.SourceIP, _ = netip.AddrFromSlice(ip.SrcIP)
	m.DestIP, _ = netip.AddrFromSlice(ip.DstIP)
	var target net.IP
	var options layers.ICMPv6Options
	wanted := layers.ICMPv6OptSourceAddress
	switch icmp.TypeCode.Type() {
	case layers.ICMPv6TypeNeighborSolicitation:
		var ns layers.ICMPv6NeighborSolicitation
		if ns.DecodeFromBytes(icmp.Payload, gopacket.NilDecodeFeedback) != nil {
			return NDPMessage{}, false
		}
		target, options = ns.TargetAddress, ns.Options
	case layers.ICMPv6TypeNeighborAdvertisement:
		var na layers.ICMPv6NeighborAdvertisement
		if na.DecodeFromBytes(icmp.Payload, gopacket.NilDecodeFeedback) != nil {
			return NDPMessage{}, false
		}
		target, options, wanted = na.TargetAddress, na.Options, layers.ICMPv6OptTargetAddress
		m.Advertisement, m.Router, m.Solicited, m.Override = true, na.Router(), na.Solicited(), na.Override()
	default:
		return NDPMessage{}, false
	}
	var ok bool
	if m.Target, ok = netip.AddrFromSlice(target); !ok || m.Target.IsMulticast() {
		return NDPMessage{}, false
	}
	for _, o := range options {
		if o.Type == wanted && len(o.Data) == 6 {
			m.LinkAddr = slices.Clone(net.HardwareAddr(o.Data))
		}
	}
	return m, true
}
