package capture

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// deepest is how many headers of IP inside IP a line follows.
const deepest = 4

// Line is the packet on one line, in tcpdump's words: time, direction, the
// Ethernet addresses where there are any, then what is inside.
//
//	15:04:05.000000 Out 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28
//
// A packet that is cut or damaged is told as far as it goes, with [|tcp] (the
// protocol that is incomplete) where it ends.
func Line(p Packet) string {
	var b strings.Builder
	b.WriteString(p.Time.Format("15:04:05.000000"))
	if p.Outgoing {
		b.WriteString(" Out ")
	} else {
		b.WriteString(" In  ")
	}
	etherType, data := p.EtherType, p.Data
	if hasEthernet(p) {
		if len(data) < 14 {
			fmt.Fprintf(&b, "[|ether], length %d", p.Length)
			return b.String()
		}
		fmt.Fprintf(&b, "%s > %s, ", net.HardwareAddr(data[6:12]), net.HardwareAddr(data[:6]))
		etherType, data = binary.BigEndian.Uint16(data[12:]), data[14:]
	}
	switch etherType {
	case EtherTypeARP:
		arpWords(&b, data)
	case EtherTypeIPv4:
		ipv4Words(&b, data, deepest)
	case EtherTypeIPv6:
		ipv6Words(&b, data)
	default:
		fmt.Fprintf(&b, "ethertype Unknown (0x%04x), length %d", etherType, p.Length)
	}
	return b.String()
}

func hasEthernet(p Packet) bool {
	return p.Hardware == unix.ARPHRD_ETHER || p.Hardware == unix.ARPHRD_LOOPBACK
}

func arpWords(b *strings.Builder, data []byte) {
	m, ok := decodeARP(data)
	if !ok {
		b.WriteString("ARP, [|arp]")
		return
	}
	b.WriteString("ARP, ")
	switch m.Op {
	case ARPRequest:
		fmt.Fprintf(b, "Request who-has %s", m.TargetIP)
		if m.TargetMAC.String() != "00:00:00:00:00:00" {
			fmt.Fprintf(b, " (%s)", m.TargetMAC)
		}
		fmt.Fprintf(b, " tell %s", m.SenderIP)
	case ARPReply:
		fmt.Fprintf(b, "Reply %s is-at %s", m.SenderIP, m.SenderMAC)
	default:
		fmt.Fprintf(b, "Unknown (%d)", m.Op)
	}
	fmt.Fprintf(b, ", length %d", len(data))
}

func ipv4Words(b *strings.Builder, data []byte, depth int) {
	b.WriteString("IP ")
	var ip layers.IPv4
	if depth == 0 || ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		b.WriteString("[|ip]")
		return
	}
	src, dst := addr(ip.SrcIP), addr(ip.DstIP)
	// What the header says, not what was kept.
	length := int(ip.Length) - 4*int(ip.IHL)
	if ip.FragOffset != 0 {
		fmt.Fprintf(b, "%s > %s: %s, frag offset %d, length %d", src, dst, protocolName(ip.Protocol), 8*int(ip.FragOffset), length)
		return
	}
	switch ip.Protocol {
	case layers.IPProtocolTCP:
		tcpWords(b, src, dst, ip.Payload, length)
	case layers.IPProtocolUDP:
		udpWords(b, src, dst, ip.Payload)
	case layers.IPProtocolICMPv4:
		fmt.Fprintf(b, "%s > %s: ", src, dst)
		icmpWords(b, ip.Payload, length)
	case layers.IPProtocolIPv4:
		fmt.Fprintf(b, "%s > %s: ", src, dst)
		ipv4Words(b, ip.Payload, depth-1)
	case layers.IPProtocolGRE:
		fmt.Fprintf(b, "%s > %s: ", src, dst)
		greWords(b, ip.Payload, length, depth-1)
	default:
		fmt.Fprintf(b, "%s > %s: %s %d", src, dst, protocolName(ip.Protocol), length)
	}
}

func ipv6Words(b *strings.Builder, data []byte) {
	var ip layers.IPv6
	if ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		b.WriteString("IP6 [|ip6]")
		return
	}
	src, dst := addr(ip.SrcIP), addr(ip.DstIP)
	b.WriteString("IP6 ")
	switch ip.NextHeader {
	case layers.IPProtocolTCP:
		tcpWords(b, src, dst, ip.Payload, int(ip.Length))
	case layers.IPProtocolUDP:
		udpWords(b, src, dst, ip.Payload)
	default:
		fmt.Fprintf(b, "%s > %s: %s %d", src, dst, protocolName(ip.NextHeader), ip.Length)
	}
}

func tcpWords(b *strings.Builder, src, dst netip.Addr, data []byte, length int) {
	// The ports are worth telling even where the rest is cut off.
	if len(data) < 4 {
		fmt.Fprintf(b, "%s > %s: [|tcp]", src, dst)
		return
	}
	fmt.Fprintf(b, "%s.%d > %s.%d: ", src, binary.BigEndian.Uint16(data), dst, binary.BigEndian.Uint16(data[2:]))
	var tcp layers.TCP
	if tcp.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		b.WriteString("Flags [|tcp]")
		return
	}
	fmt.Fprintf(b, "Flags [%s], seq %d", tcpFlags(&tcp), tcp.Seq)
	payload := max(0, length-4*int(tcp.DataOffset))
	if payload > 0 {
		fmt.Fprintf(b, ":%d", tcp.Seq+uint32(payload))
	}
	if tcp.ACK {
		fmt.Fprintf(b, ", ack %d", tcp.Ack)
	}
	fmt.Fprintf(b, ", win %d, length %d", tcp.Window, payload)
}

// tcpFlags uses tcpdump's letters: "S", "S.", "P.", "none".
func tcpFlags(t *layers.TCP) string {
	var s []byte
	for _, f := range []struct {
		on     bool
		letter byte
	}{
		{t.FIN, 'F'},
		{t.SYN, 'S'},
		{t.RST, 'R'},
		{t.PSH, 'P'},
		{t.ACK, '.'},
		{t.URG, 'U'},
		{t.ECE, 'E'},
		{t.CWR, 'W'},
	} {
		if f.on {
			s = append(s, f.letter)
		}
	}
	if len(s) == 0 {
		return "none"
	}
	return string(s)
}

func udpWords(b *strings.Builder, src, dst netip.Addr, data []byte) {
	if len(data) < 8 {
		fmt.Fprintf(b, "%s > %s: [|udp]", src, dst)
		return
	}
	fmt.Fprintf(b, "%s.%d > %s.%d: UDP, length %d", src, binary.BigEndian.Uint16(data), dst,
		binary.BigEndian.Uint16(data[2:]), max(0, int(binary.BigEndian.Uint16(data[4:]))-8))
}

func icmpWords(b *strings.Builder, data []byte, length int) {
	var icmp layers.ICMPv4
	if icmp.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		b.WriteString("ICMP [|icmp]")
		return
	}
	b.WriteString("ICMP ")
	kind, code := icmp.TypeCode.Type(), icmp.TypeCode.Code()
	switch kind {
	case layers.ICMPv4TypeEchoRequest:
		fmt.Fprintf(b, "echo request, id %d, seq %d", icmp.Id, icmp.Seq)
	case layers.ICMPv4TypeEchoReply:
		fmt.Fprintf(b, "echo reply, id %d, seq %d", icmp.Id, icmp.Seq)
	case layers.ICMPv4TypeDestinationUnreachable:
		unreachableWords(b, code, icmp.Payload, icmp.Seq)
	case layers.ICMPv4TypeRedirect:
		var about string
		if inner := innerIPv4(icmp.Payload); inner != nil {
			about = " " + addr(inner.DstIP).String()
		}
		// The gateway lies where an echo has its id and sequence number.
		gateway := netip.AddrFrom4([4]byte{byte(icmp.Id >> 8), byte(icmp.Id), byte(icmp.Seq >> 8), byte(icmp.Seq)})
		what := "host"
		if code == layers.ICMPv4CodeNet {
			what = "net"
		}
		fmt.Fprintf(b, "redirect%s to %s %s", about, what, gateway)
	case layers.ICMPv4TypeTimeExceeded:
		if code == layers.ICMPv4CodeTTLExceeded {
			b.WriteString("time exceeded in-transit")
		} else {
			b.WriteString("ip reassembly time exceeded")
		}
	default:
		fmt.Fprintf(b, "type-#%d", kind)
	}
	fmt.Fprintf(b, ", length %d", length)
}

func unreachableWords(b *strings.Builder, code uint8, quoted []byte, mtu uint16) {
	inner := innerIPv4(quoted)
	if inner == nil {
		fmt.Fprintf(b, "unreachable, code %d", code)
		return
	}
	dst := addr(inner.DstIP)
	switch code {
	case layers.ICMPv4CodeNet:
		fmt.Fprintf(b, "net %s unreachable", dst)
	case layers.ICMPv4CodeHost:
		fmt.Fprintf(b, "host %s unreachable", dst)
	case layers.ICMPv4CodeProtocol:
		fmt.Fprintf(b, "%s protocol %d unreachable", dst, inner.Protocol)
	case layers.ICMPv4CodePort:
		if len(inner.Payload) >= 4 && (inner.Protocol == layers.IPProtocolTCP || inner.Protocol == layers.IPProtocolUDP) {
			fmt.Fprintf(b, "%s %s port %d unreachable", dst, strings.ToLower(inner.Protocol.String()), binary.BigEndian.Uint16(inner.Payload[2:]))
		} else {
			fmt.Fprintf(b, "%s port unreachable", dst)
		}
	case layers.ICMPv4CodeFragmentationNeeded:
		fmt.Fprintf(b, "%s unreachable - need to frag (mtu %d)", dst, mtu)
	case layers.ICMPv4CodeNetAdminProhibited, layers.ICMPv4CodeHostAdminProhibited, layers.ICMPv4CodeCommAdminProhibited:
		fmt.Fprintf(b, "host %s unreachable - admin prohibited", dst)
	default:
		fmt.Fprintf(b, "%s unreachable - #%d", dst, code)
	}
}

// innerIPv4 is the packet that an ICMP error quotes, nil when it is cut.
func innerIPv4(quoted []byte) *layers.IPv4 {
	var ip layers.IPv4
	if ip.DecodeFromBytes(quoted, gopacket.NilDecodeFeedback) != nil {
		return nil
	}
	return &ip
}

func greWords(b *strings.Builder, data []byte, length, depth int) {
	var gre layers.GRE
	if len(data) < 4 || gre.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		b.WriteString("GRE [|gre]")
		return
	}
	fmt.Fprintf(b, "GREv%d, length %d: ", gre.Version, length)
	if gre.Protocol == layers.EthernetTypeIPv4 {
		ipv4Words(b, gre.Payload, depth)
		return
	}
	fmt.Fprintf(b, "gre-proto-0x%04x", uint16(gre.Protocol))
}

func protocolName(p layers.IPProtocol) string { return fmt.Sprintf("ip-proto-%d", uint8(p)) }

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}
