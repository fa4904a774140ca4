package capture_test

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/capture"
)

const (
	askerMAC = "02:00:00:00:00:01"
	ownerMAC = "02:00:00:00:00:02"
)

// ndpFrame is a frame as a node sends it, with the hop limit and the payload
// that are given.
func ndpFrame(t testing.TB, hops uint8, kind uint8, src, dst string, rest gopacket.SerializableLayer) []byte {
	t.Helper()
	mac := func(s string) net.HardwareAddr {
		m, err := net.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	eth := &layers.Ethernet{SrcMAC: mac(askerMAC), DstMAC: mac("33:33:ff:00:01:00"), EthernetType: layers.EthernetTypeIPv6}
	ip := &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, icmp, rest); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func option(kind layers.ICMPv6Opt, mac string) layers.ICMPv6Options {
	m, _ := net.ParseMAC(mac)
	return layers.ICMPv6Options{{Type: kind, Data: m}}
}

func TestNDP(t *testing.T) {
	vip := net.ParseIP("fd00:a::100")
	ask := func(hops uint8, target net.IP, src string) []byte {
		return ndpFrame(t, hops, layers.ICMPv6TypeNeighborSolicitation, src, "ff02::1:ff00:100",
			&layers.ICMPv6NeighborSolicitation{TargetAddress: target, Options: option(layers.ICMPv6OptSourceAddress, askerMAC)})
	}
	say := func(o layers.ICMPv6Options) []byte {
		return ndpFrame(t, 255, layers.ICMPv6TypeNeighborAdvertisement, "fd00:a::1", "fd00:a::250",
			&layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: vip, Options: o})
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  string // who gives which MAC address; "" where it is none
	}{
		{"a question", ask(255, vip, "fd00:a::250"), "ask fd00:a::250 for fd00:a::100 " + askerMAC},
		{"a search for duplicates", ask(255, vip, "::"), "ask :: for fd00:a::100 " + askerMAC},
		{"an answer", say(option(layers.ICMPv6OptTargetAddress, ownerMAC)), "say fd00:a::1 for fd00:a::100 " + ownerMAC},
		{"an answer without the option", say(nil), "say fd00:a::1 for fd00:a::100 " + askerMAC},
		{"an answer with another option", say(option(layers.ICMPv6OptSourceAddress, ownerMAC)), "say fd00:a::1 for fd00:a::100 " + askerMAC},
		{"routed", ask(64, vip, "fd00:a::250"), ""},
		{"for a group", ask(255, net.ParseIP("ff02::1"), "fd00:a::250"), ""},
		{"cut short", ask(255, vip, "fd00:a::250")[:14+40+4+10], ""},
		{"an echo", ndpFrame(t, 255, layers.ICMPv6TypeEchoRequest, "fd00:a::250", "fd00:a::1", &layers.ICMPv6Echo{}), ""},
	} {
		m, ok := capture.NDP(capture.Packet{Hardware: unix.ARPHRD_ETHER, Data: c.frame, Length: len(c.frame)})
		got := ""
		if ok {
			verb := "ask"
			if m.Advertisement {
				verb = "say"
				if !m.Solicited || !m.Override || m.Router {
					t.Errorf("%s: flags router %v, solicited %v, override %v", c.name, m.Router, m.Solicited, m.Override)
				}
			}
			got = strings.Join([]string{verb, m.SourceIP.String(), "for", m.Target.String(), m.SenderMAC().String()}, " ")
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzNDP looks for frames that break the decoder.
func FuzzNDP(f *testing.F) {
	f.Add(ndpFrame(f, 255, layers.ICMPv6TypeNeighborSolicitation, "fd00:a::250", "ff02::1:ff00:100",
		&layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP("fd00:a::100"), Options: option(layers.ICMPv6OptSourceAddress, askerMAC)}))
	// An option of length 0, which never ends.
	zero, err := hex.DecodeString("3333ff000100020000000001" + "86dd" + "6000000000203aff" +
		strings.Repeat("00", 31) + "01" + "8700000000000000" + "fd000000000000000000000000000100" + "0100000000000000")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(zero)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, ok := capture.NDP(capture.Packet{Hardware: unix.ARPHRD_ETHER, Data: data, Length: len(data)})
		if ok && (m.Target == netip.Addr{} || len(m.SenderMAC()) != 6) {
			t.Errorf("%x: %+v", data, m)
		}
	})
}
