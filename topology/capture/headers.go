package capture

import (
	"encoding/binary"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Encapsulation is how one IP packet lies in another, in the words of
// ip-tunnel(8).
type Encapsulation string

// The encapsulations.
const (
	IPIP   Encapsulation = "ipip"   // IPv4 in IPv4
	SIT    Encapsulation = "sit"    // IPv6 in IPv4
	IPIP6  Encapsulation = "ipip6"  // IPv4 in IPv6
	IP6IP6 Encapsulation = "ip6ip6" // IPv6 in IPv6
	GRE    Encapsulation = "gre"    // RFC 2784, in either family
	GUE    Encapsulation = "gue"    // draft-ietf-intarea-gue, in UDP of either family
)

// Encapsulations are all of them.
func Encapsulations() []Encapsulation { return []Encapsulation{IPIP, SIT, IPIP6, IP6IP6, GRE, GUE} }

// Protocol numbers of IP that Headers have ports of
// (https://www.iana.org/assignments/protocol-numbers).
const (
	ProtocolICMP   = uint8(layers.IPProtocolICMPv4)
	ProtocolTCP    = uint8(layers.IPProtocolTCP)
	ProtocolUDP    = uint8(layers.IPProtocolUDP)
	ProtocolICMPv6 = uint8(layers.IPProtocolICMPv6)
	ProtocolSCTP   = uint8(layers.IPProtocolSCTP)
)

// IPHeader is one IP header of a packet.
type IPHeader struct {
	Src, Dst netip.Addr
	// TTL is the hop limit for IPv6.
	TTL uint8
	// Length is the header's word for the whole packet, headers included, in
	// bytes.
	Length int
	// ID identifies a datagram's fragments. It is 0 for IPv6 but in a fragment.
	ID uint32
	// Offset is a fragment's, in bytes; More says that others follow.
	Offset int
	More   bool
}

// Tuple is what a connection is known by.
type Tuple struct {
	Protocol uint8
	// Ports are 0 where the protocol has none. An ICMP echo has its identifier
	// as the port of who asks.
	Src, Dst netip.AddrPort
}

// Reverse is the tuple of the answers.
func (t Tuple) Reverse() Tuple { return Tuple{t.Protocol, t.Dst, t.Src} }

// Headers is what the headers of an IP packet on Ethernet say.
type Headers struct {
	EtherSrc, EtherDst net.HardwareAddr
	// IP are the IP headers, the outermost first, and Inside is how each but
	// the first lies in the one before it.
	IP     []IPHeader
	Inside []Encapsulation
	// Tuple is of the innermost packet. A fragment but the first has no ports.
	Tuple Tuple
	// Flags are TCP's in tcpdump's letters, and Seq its sequence number.
	Flags string
	Seq   uint32
	// Mark is a hash of what neither routers nor address translation nor
	// tunnels change: sequence numbers, the payload, the innermost IPv4
	// packet's ID. Packets with different marks are different packets.
	Mark uint64
}

// Inner is the innermost IP header.
func (h *Headers) Inner() IPHeader { return h.IP[len(h.IP)-1] }

// DecodeHeaders decodes a packet as far as its headers go. It is false for what
// is no IP over Ethernet or is cut off or damaged in its headers.
func DecodeHeaders(p Packet) (Headers, bool) {
	var h Headers
	var eth layers.Ethernet
	if !hasEthernet(p) || eth.DecodeFromBytes(p.Data, gopacket.NilDecodeFeedback) != nil {
		return h, false
	}
	h.EtherSrc, h.EtherDst = net.HardwareAddr(p.Data[6:12]), net.HardwareAddr(p.Data[:6])
	ok := false
	switch eth.EthernetType {
	case layers.EthernetTypeIPv4:
		ok = h.ipv4(eth.Payload, deepest)
	case layers.EthernetTypeIPv6:
		ok = h.ipv6(eth.Payload, deepest)
	}
	return h, ok
}

func (h *Headers) ipv4(data []byte, depth int) bool {
	var ip layers.IPv4
	if depth == 0 || ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil || ip.Version != 4 {
		return false
	}
	i := IPHeader{
		Src: addr(ip.SrcIP), Dst: addr(ip.DstIP), TTL: ip.TTL, Length: int(ip.Length), ID: uint32(ip.Id),
		Offset: 8 * int(ip.FragOffset), More: ip.Flags&layers.IPv4MoreFragments != 0,
	}
	payload := ip.Payload
	if n, ok := longerUDP(uint8(ip.Protocol), i, data[4*int(ip.IHL):], len(payload)); ok {
		i.Length, payload = 4*int(ip.IHL)+n, data[4*int(ip.IHL):][:n]
	}
	h.IP = append(h.IP, i)
	return h.transport(uint8(ip.Protocol), payload, depth)
}

// longerUDP is the length of a datagram that is longer than the IP header above
// it says. Who receives GUE shortens that header in place, in memory that the
// capture shares (fou_recv_pull in net/ipv4/fou_core.c); the datagram's own
// length stays.
func longerUDP(protocol uint8, ip IPHeader, data []byte, have int) (int, bool) {
	if protocol != ProtocolUDP || ip.Offset > 0 || ip.More || len(data) < 8 {
		return 0, false
	}
	n := int(binary.BigEndian.Uint16(data[4:]))
	return n, n > have && n <= len(data)
}

func (h *Headers) ipv6(data []byte, depth int) bool {
	var ip layers.IPv6
	// A jumbo payload is nothing that a link of a lab could carry.
	if depth == 0 || len(data) < 40 || ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil || ip.Version != 6 {
		return false
	}
	i := IPHeader{Src: addr(ip.SrcIP), Dst: addr(ip.DstIP), TTL: ip.HopLimit, Length: 40 + int(ip.Length)}
	next, rest := uint8(ip.NextHeader), data[40:]
	if n, ok := longerUDP(next, i, rest, int(ip.Length)); ok {
		i.Length, rest = 40+n, rest[:n]
	} else if len(rest) > int(ip.Length) {
		rest = rest[:ip.Length] // Ethernet's padding
	}
	// Extension headers (RFC 8200 section 4); a tunnel of the kernel's has one
	// of destination options, with its limit of encapsulations.
	for range 8 {
		switch layers.IPProtocol(next) {
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			if len(rest) < 8 || len(rest) < 8*(1+int(rest[1])) {
				return false
			}
			next, rest = rest[0], rest[8*(1+int(rest[1])):]
			continue
		case layers.IPProtocolIPv6Fragment:
			if len(rest) < 8 {
				return false
			}
			word := binary.BigEndian.Uint16(rest[2:])
			i.Offset, i.More, i.ID = int(word&^7), word&1 != 0, binary.BigEndian.Uint32(rest[4:])
			next, rest = rest[0], rest[8:]
			continue
		}
		break
	}
	h.IP = append(h.IP, i)
	return h.transport(next, rest, depth)
}

// inside goes on with a packet in this one.
func (h *Headers) inside(e Encapsulation, v6 bool, data []byte, depth int) bool {
	h.Inside = append(h.Inside, e)
	if v6 {
		return h.ipv6(data, depth-1)
	}
	return h.ipv4(data, depth-1)
}

func (h *Headers) transport(protocol uint8, data []byte, depth int) bool {
	ip := h.Inner()
	h.Tuple = Tuple{protocol, netip.AddrPortFrom(ip.Src, 0), netip.AddrPortFrom(ip.Dst, 0)}
	if ip.Offset > 0 {
		h.mark(data)
		return true
	}
	v4 := ip.Src.Is4()
	switch layers.IPProtocol(protocol) {
	case layers.IPProtocolIPv4:
		if v4 {
			return h.inside(IPIP, false, data, depth)
		}
		return h.inside(IPIP6, false, data, depth)
	case layers.IPProtocolIPv6:
		if v4 {
			return h.inside(SIT, true, data, depth)
		}
		return h.inside(IP6IP6, true, data, depth)
	case layers.IPProtocolGRE:
		return h.gre(data, depth)
	case layers.IPProtocolTCP:
		return h.tcp(data)
	case layers.IPProtocolUDP:
		return h.udp(data, depth)
	case layers.IPProtocolSCTP:
		// RFC 9260 section 3: ports, verification tag, checksum, chunks.
		if len(data) < 12 {
			return false
		}
		h.ports(data)
		h.mark(data[4:8], data[12:])
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6:
		return h.icmp(data)
	default:
		h.mark(data)
	}
	return true
}

func (h *Headers) ports(data []byte) {
	h.Tuple.Src = netip.AddrPortFrom(h.Tuple.Src.Addr(), binary.BigEndian.Uint16(data))
	h.Tuple.Dst = netip.AddrPortFrom(h.Tuple.Dst.Addr(), binary.BigEndian.Uint16(data[2:]))
}

// gre reads RFC 2784 and RFC 2890: flags, protocol, then the fields that the
// flags name.
func (h *Headers) gre(data []byte, depth int) bool {
	if len(data) < 4 || data[0]&0x4f != 0 || data[1]&7 != 0 { // routing, or version 1
		return false
	}
	n := 4
	for _, flag := range []byte{0x80, 0x20, 0x10} { // checksum, key, sequence number
		if data[0]&flag != 0 {
			n += 4
		}
	}
	if len(data) < n {
		return false
	}
	switch layers.EthernetType(binary.BigEndian.Uint16(data[2:])) {
	case layers.EthernetTypeIPv4:
		return h.inside(GRE, false, data[n:], depth)
	case layers.EthernetTypeIPv6:
		return h.inside(GRE, true, data[n:], depth)
	}
	h.mark(data)
	return true
}

func (h *Headers) tcp(data []byte) bool {
	var tcp layers.TCP
	if tcp.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		return false
	}
	h.ports(data)
	h.Flags, h.Seq = tcpFlags(&tcp), tcp.Seq
	// Options are left out: a router may change the largest segment.
	h.mark(data[4:12], data[13:14], tcp.Payload)
	return true
}

func (h *Headers) udp(data []byte, depth int) bool {
	if len(data) < 8 {
		return false
	}
	length := int(binary.BigEndian.Uint16(data[4:]))
	payload := data[8:]
	if length >= 8 && length-8 < len(payload) {
		payload = payload[:length-8]
	}
	if inner, v6, ok := gue(payload); ok {
		return h.inside(GUE, v6, inner, depth)
	}
	h.ports(data)
	h.mark(payload)
	return true
}

// gue is the packet inside a datagram of Generic UDP Encapsulation
// (draft-ietf-intarea-gue-09, variants 0 and 1). A port does not tell: a lab
// chooses it. So what is inside must be an IP packet that fills the datagram to
// its last byte, and for IPv4 has the right checksum.
func gue(data []byte) (inner []byte, v6, ok bool) {
	if len(data) < 4 {
		return nil, false, false
	}
	switch data[0] >> 6 {
	case 0:
		n := 4 + 4*int(data[0]&0x1f)
		if data[0]&0x20 != 0 || len(data) < n { // a control message
			return nil, false, false
		}
		switch layers.IPProtocol(data[1]) {
		case layers.IPProtocolIPv4:
		case layers.IPProtocolIPv6:
			v6 = true
		default:
			return nil, false, false
		}
		inner = data[n:]
	case 1: // the packet itself, whose version is 4 or 6
		inner, v6 = data, data[0]>>4 == 6
	default:
		return nil, false, false
	}
	if v6 {
		return inner, v6, len(inner) >= 40 && inner[0]>>4 == 6 && 40+int(binary.BigEndian.Uint16(inner[4:])) == len(inner)
	}
	if len(inner) < 20 || inner[0]>>4 != 4 || int(binary.BigEndian.Uint16(inner[2:])) != len(inner) {
		return nil, false, false
	}
	size := 4 * int(inner[0]&0xf)
	if size < 20 || size > len(inner) {
		return nil, false, false
	}
	var sum uint32
	for i := 0; i < size; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(inner[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return inner, false, sum == 0xffff
}

// icmp reads an echo's identifier. What else there is has no ports.
func (h *Headers) icmp(data []byte) bool {
	if len(data) < 8 {
		return false
	}
	id := binary.BigEndian.Uint16(data[4:])
	switch {
	case h.Tuple.Protocol == ProtocolICMP && data[0] == layers.ICMPv4TypeEchoRequest, h.Tuple.Protocol == ProtocolICMPv6 && data[0] == layers.ICMPv6TypeEchoRequest:
		h.Tuple.Src = netip.AddrPortFrom(h.Tuple.Src.Addr(), id)
	case h.Tuple.Protocol == ProtocolICMP && data[0] == layers.ICMPv4TypeEchoReply, h.Tuple.Protocol == ProtocolICMPv6 && data[0] == layers.ICMPv6TypeEchoReply:
		h.Tuple.Dst = netip.AddrPortFrom(h.Tuple.Dst.Addr(), id)
	}
	h.mark(data[:2], data[6:])
	return true
}

func (h *Headers) mark(parts ...[]byte) {
	ip := h.Inner()
	sum := fnv.New64a()
	var head [16]byte
	head[0] = h.Tuple.Protocol
	binary.BigEndian.PutUint32(head[4:], ip.ID)
	binary.BigEndian.PutUint32(head[8:], uint32(ip.Offset))
	_, _ = sum.Write(head[:]) // a hash takes everything
	for _, p := range parts {
		_, _ = sum.Write(p)
	}
	h.Mark = sum.Sum64()
}

// ProtocolWord is a protocol's name in small letters, "tcp", or its number.
func ProtocolWord(p uint8) string {
	switch p {
	case ProtocolICMP, ProtocolICMPv6:
		return "icmp"
	case ProtocolTCP, ProtocolUDP, ProtocolSCTP:
		return strings.ToLower(layers.IPProtocol(p).String())
	}
	return protocolName(layers.IPProtocol(p))
}
