package capture

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// packetOf puts layers together as an outgoing packet on Ethernet.
func packetOf(tb testing.TB, ls ...gopacket.SerializableLayer) Packet {
	tb.Helper()
	eth := &layers.Ethernet{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4,
	}
	if ls[0].LayerType() == layers.LayerTypeIPv6 {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append([]gopacket.SerializableLayer{eth}, ls...)...)
	if err != nil {
		tb.Fatal(err)
	}
	data := slices.Clone(buf.Bytes())
	return Packet{Outgoing: true, Hardware: unix.ARPHRD_ETHER, EtherType: uint16(eth.EthernetType), Length: len(data), Data: data}
}

func ip4(src, dst string, ttl uint8, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: ttl, Id: 77, Protocol: p, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
}

func ip6(src, dst string, ttl uint8, p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: p, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

// openTCP is a TCP SYN from port 4000 to 80.
func openTCP(over gopacket.NetworkLayer) *layers.TCP {
	t := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 5, SYN: true, Window: 100}
	_ = t.SetNetworkLayerForChecksum(over) // fails for what is no network layer
	return t
}

// inGUE is the header of Generic UDP Encapsulation, variant 0.
func inGUE(protocol byte) gopacket.Payload { return gopacket.Payload{0, protocol, 0, 0} }

func TestDecodeHeaders(t *testing.T) {
	in4 := ip4("10.0.0.250", "10.0.0.100", 63, layers.IPProtocolTCP)
	in6 := ip6("fd00::250", "fd00::100", 63, layers.IPProtocolTCP)
	udp := func() *layers.UDP { return &layers.UDP{SrcPort: 999, DstPort: 6080} }
	tuple4 := Tuple{ProtocolTCP, netip.MustParseAddrPort("10.0.0.250:4000"), netip.MustParseAddrPort("10.0.0.100:80")}
	tuple6 := Tuple{ProtocolTCP, netip.MustParseAddrPort("[fd00::250]:4000"), netip.MustParseAddrPort("[fd00::100]:80")}
	gre := func(t layers.EthernetType, sum bool) *layers.GRE {
		return &layers.GRE{Protocol: t, ChecksumPresent: sum}
	}
	limit := gopacket.Payload{byte(layers.IPProtocolIPv6), 0, 4, 1, 4, 1, 0, 0} // RFC 2473 section 4.1.1
	for _, c := range []struct {
		name   string
		layers []gopacket.SerializableLayer
		inside []Encapsulation
		tuple  Tuple
		ttls   []uint8
	}{
		{"plain", []gopacket.SerializableLayer{in4, openTCP(in4)}, nil, tuple4, []uint8{63}},
		{"plain 6", []gopacket.SerializableLayer{in6, openTCP(in6)}, nil, tuple6, []uint8{63}},
		{"ipip", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolIPv4), in4, openTCP(in4)}, []Encapsulation{IPIP}, tuple4, []uint8{64, 63}},
		{"sit", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolIPv6), in6, openTCP(in6)}, []Encapsulation{SIT}, tuple6, []uint8{64, 63}},
		{"ipip6", []gopacket.SerializableLayer{ip6("fd00::1", "fd00::2", 64, layers.IPProtocolIPv4), in4, openTCP(in4)}, []Encapsulation{IPIP6}, tuple4, []uint8{64, 63}},
		{"ip6ip6", []gopacket.SerializableLayer{ip6("fd00::1", "fd00::2", 64, layers.IPProtocolIPv6), in6, openTCP(in6)}, []Encapsulation{IP6IP6}, tuple6, []uint8{64, 63}},
		{"ip6ip6 with a limit", []gopacket.SerializableLayer{ip6("fd00::1", "fd00::2", 64, layers.IPProtocolIPv6Destination), limit, in6, openTCP(in6)}, []Encapsulation{IP6IP6}, tuple6, []uint8{64, 63}},
		{"gre", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolGRE), gre(layers.EthernetTypeIPv4, false), in4, openTCP(in4)}, []Encapsulation{GRE}, tuple4, []uint8{64, 63}},
		{"gre with a checksum", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolGRE), gre(layers.EthernetTypeIPv6, true), in6, openTCP(in6)}, []Encapsulation{GRE}, tuple6, []uint8{64, 63}},
		{"gue", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolUDP), udp(), inGUE(4), in4, openTCP(in4)}, []Encapsulation{GUE}, tuple4, []uint8{64, 63}},
		{"gue of the other family", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolUDP), udp(), inGUE(41), in6, openTCP(in6)}, []Encapsulation{GUE}, tuple6, []uint8{64, 63}},
		{"gue, the packet itself", []gopacket.SerializableLayer{ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolUDP), udp(), in4, openTCP(in4)}, []Encapsulation{GUE}, tuple4, []uint8{64, 63}},
		{"gre in ipip", []gopacket.SerializableLayer{
			ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolIPv4), ip4("10.1.0.1", "10.1.0.2", 60, layers.IPProtocolGRE), gre(layers.EthernetTypeIPv4, false), in4, openTCP(in4),
		}, []Encapsulation{IPIP, GRE}, tuple4, []uint8{64, 60, 63}},
	} {
		for _, l := range c.layers {
			if u, ok := l.(*layers.UDP); ok {
				_ = u.SetNetworkLayerForChecksum(c.layers[0].(gopacket.NetworkLayer)) // it is one
			}
		}
		h, ok := DecodeHeaders(packetOf(t, c.layers...))
		if !ok {
			t.Errorf("%s: not decoded", c.name)
			continue
		}
		var ttls []uint8
		for _, i := range h.IP {
			ttls = append(ttls, i.TTL)
		}
		if !slices.Equal(h.Inside, c.inside) || h.Tuple != c.tuple || !slices.Equal(ttls, c.ttls) || h.Flags != "S" || h.Seq != 5 {
			t.Errorf("%s: %+v", c.name, h)
		}
		plain, _ := DecodeHeaders(packetOf(t, c.layers[len(c.layers)-2:]...))
		if plain.Mark != h.Mark {
			t.Errorf("%s: the mark changed on the way", c.name)
		}
	}
}

// TestMark holds what keeps a packet's mark and what does not.
func TestMark(t *testing.T) {
	mark := func(ip *layers.IPv4, change func(*layers.TCP), payload string) uint64 {
		tcp := openTCP(ip)
		change(tcp)
		h, ok := DecodeHeaders(packetOf(t, ip, tcp, gopacket.Payload(payload)))
		if !ok {
			t.Fatal("not decoded")
		}
		return h.Mark
	}
	same := func(*layers.TCP) {}
	base := mark(ip4("10.0.0.250", "10.0.0.100", 64, layers.IPProtocolTCP), same, "x")
	other := ip4("10.0.0.1", "10.0.0.2", 12, layers.IPProtocolTCP)
	if mark(other, func(t *layers.TCP) { t.SrcPort, t.DstPort = 1, 8080 }, "x") != base {
		t.Error("address translation changes the mark")
	}
	for what, m := range map[string]uint64{
		"a sequence number": mark(other, func(t *layers.TCP) { t.Seq++ }, "x"),
		"a flag":            mark(other, func(t *layers.TCP) { t.FIN = true }, "x"),
		"the payload":       mark(other, same, "y"),
		"an ID":             mark(&layers.IPv4{Version: 4, TTL: 1, Id: 78, Protocol: layers.IPProtocolTCP, SrcIP: other.SrcIP, DstIP: other.DstIP}, same, "x"),
	} {
		if m == base {
			t.Errorf("another of %s leaves the mark", what)
		}
	}
}

func TestDecodeOtherProtocols(t *testing.T) {
	over := ip4("10.0.0.250", "10.0.0.100", 64, layers.IPProtocolSCTP)
	sctp := make([]byte, 16) // ports, tag, checksum, a chunk
	binary.BigEndian.PutUint16(sctp, 4000)
	binary.BigEndian.PutUint16(sctp[2:], 80)
	h, ok := DecodeHeaders(packetOf(t, over, gopacket.Payload(sctp)))
	if !ok || h.Tuple != (Tuple{ProtocolSCTP, netip.MustParseAddrPort("10.0.0.250:4000"), netip.MustParseAddrPort("10.0.0.100:80")}) {
		t.Errorf("sctp: %+v, %t", h, ok)
	}
	sctp[8]++ // the checksum, which follows the ports
	if again, _ := DecodeHeaders(packetOf(t, over, gopacket.Payload(sctp))); again.Mark != h.Mark {
		t.Error("sctp: the checksum changes the mark")
	}

	ping := ip4("10.0.0.250", "10.0.0.2", 64, layers.IPProtocolICMPv4)
	ask, ok := DecodeHeaders(packetOf(t, ping, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 9, Seq: 1}))
	pong := ip4("10.0.0.2", "10.0.0.250", 64, layers.IPProtocolICMPv4)
	answer, ok2 := DecodeHeaders(packetOf(t, pong, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: 9, Seq: 1}))
	if !ok || !ok2 || ask.Tuple.Reverse() != answer.Tuple || ask.Tuple.Src.Port() != 9 {
		t.Errorf("ping: %v and %v", ask.Tuple, answer.Tuple)
	}

	later := ip4("10.0.0.250", "10.0.0.100", 64, layers.IPProtocolUDP)
	later.FragOffset = 3
	h, ok = DecodeHeaders(packetOf(t, later, gopacket.Payload("later")))
	if !ok || h.Tuple.Src.Port() != 0 || h.Inner().Offset != 24 {
		t.Errorf("fragment: %+v, %t", h, ok)
	}
}

// TestNotGUE holds what must not be taken for a tunnel.
func TestNotGUE(t *testing.T) {
	inner := packetOf(t, ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolTCP), gopacket.Payload(make([]byte, 40))).Data[14:]
	good := append([]byte{0, 4, 0, 0}, inner...)
	if _, _, ok := gue(good); !ok {
		t.Error("a tunnel's packet was not taken for one")
	}
	broken := slices.Clone(good)
	broken[4+8]++ // the TTL: its checksum is wrong now
	control := slices.Clone(good)
	control[0] |= 0x20
	for name, data := range map[string][]byte{
		"empty": nil, "text": []byte("GET / HTTP/1.1\r\n"), "zeros": make([]byte, 64), "a wrong checksum": broken, "a control message": control,
		"a byte more": append(slices.Clone(good), 0), "a byte less": good[:len(good)-1],
	} {
		if _, _, ok := gue(data); ok {
			t.Errorf("%s was taken for a tunnel's packet", name)
		}
	}
}

// TestShortenedGUE decodes what a receiver of GUE has shortened in place: 12
// bytes of UDP and GUE less than there are.
func TestShortenedGUE(t *testing.T) {
	in := ip4("10.0.0.250", "10.0.0.100", 63, layers.IPProtocolTCP)
	out := ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: 999, DstPort: 6080}
	_ = udp.SetNetworkLayerForChecksum(out) // it is one
	p := packetOf(t, out, udp, inGUE(4), in, openTCP(in), gopacket.Payload("text"))
	whole, ok := DecodeHeaders(p)
	if !ok {
		t.Fatal("not decoded")
	}
	length := binary.BigEndian.Uint16(p.Data[16:])
	binary.BigEndian.PutUint16(p.Data[16:], length-12)
	short, ok := DecodeHeaders(p)
	if !ok || short.Mark != whole.Mark || short.Tuple != whole.Tuple || short.IP[0].Length != int(length) {
		t.Errorf("%+v\nwant\n%+v", short, whole)
	}
}

func FuzzDecodeHeaders(f *testing.F) {
	in := ip4("10.0.0.250", "10.0.0.100", 63, layers.IPProtocolTCP)
	out := ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolUDP)
	f.Add(packetOf(f, in, openTCP(in)).Data)
	f.Add(packetOf(f, ip4("10.0.0.1", "10.0.0.2", 64, layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4}, in, openTCP(in)).Data)
	f.Add(packetOf(f, out, gopacket.Payload{3, 231, 23, 192, 0, 12, 0, 0, 0, 4, 0, 0}).Data)
	f.Add(packetOf(f, ip6("fd00::1", "fd00::2", 64, layers.IPProtocolIPv6Destination), gopacket.Payload{44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 8, 0, 0, 0, 1}).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ok := DecodeHeaders(Packet{Hardware: unix.ARPHRD_ETHER, Length: len(data), Data: data})
		if !ok {
			return
		}
		if len(h.IP) != len(h.Inside)+1 || len(h.IP) > deepest {
			t.Errorf("%d headers with %d encapsulations", len(h.IP), len(h.Inside))
		}
		if h.Tuple.Src.Addr() != h.Inner().Src || !h.Inner().Dst.IsValid() {
			t.Errorf("%+v", h)
		}
		again, ok := DecodeHeaders(Packet{Hardware: unix.ARPHRD_ETHER, Length: len(data), Data: data})
		if !ok || again.Mark != h.Mark {
			t.Error("decoded otherwise the second time")
		}
	})
}
