package assert

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// wireEnv is a client's device with packets on it.
type wireEnv struct {
	fakeEnv
	packets []capture.Packet
}

func (e wireEnv) Packets() ([]capture.Packet, error)           { return e.packets, nil }
func (e wireEnv) Capture(string, string) (Capture, error)      { return e, nil }
func (e wireEnv) DeviceFor(string, netip.Addr) (string, error) { return "eth0", nil }
func (e wireEnv) Resolve(name string) (netip.Addr, error) {
	if name == "web1" {
		return netip.MustParseAddr("fd00::2"), nil
	}
	return netip.ParseAddr(name)
}

// Owner takes the last byte of a MAC address for the node's number.
func (e wireEnv) Owner(mac net.HardwareAddr) (topology.NetAddr, bool) {
	node, ok := map[byte]string{1: "director", 2: "web1", 250: "client"}[mac[5]]
	return topology.NetAddr{Node: node, Device: "eth0", MAC: mac}, ok
}

// ndp is a neighbour solicitation of a node, or its advertisement.
func ndp(t *testing.T, answer bool, node byte, src, target string, outgoing bool) capture.Packet {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, node}
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(src), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	var rest gopacket.SerializableLayer = &layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP(target)}
	if answer {
		icmp.TypeCode = layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)
		rest = &layers.ICMPv6NeighborAdvertisement{TargetAddress: net.ParseIP(target)}
	}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, icmp, rest); err != nil {
		t.Fatal(err)
	}
	return capture.Packet{Hardware: unix.ARPHRD_ETHER, EtherType: uint16(layers.EthernetTypeIPv6), Outgoing: outgoing, Length: len(buf.Bytes()), Data: buf.Bytes()}
}

func TestNDPOwner(t *testing.T) {
	const vip = "fd00::100"
	ask := ndp(t, false, 250, "fd00::250", vip, true)
	for _, c := range []struct {
		name, check  string
		packets      []capture.Packet
		pass         bool
		wanted, seen string
	}{
		{"the director alone", "is: director", []capture.Packet{ask, ndp(t, true, 1, "fd00::1", vip, false)}, true, "client hears NDP answers for fd00::100 from director alone", "answers from director"},
		{"two", "is: director", []capture.Packet{ask, ndp(t, true, 1, "fd00::1", vip, false), ndp(t, true, 2, "fd00::2", vip, false)}, false, "client hears NDP answers for fd00::100 from director alone", "answers from director, web1"},
		{"of another address", "is: director", []capture.Packet{ask, ndp(t, true, 1, "fd00::1", "fd00::1", false)}, false, "client hears NDP answers for fd00::100 from director alone", "no answer"},
		{"nobody", "is: []", []capture.Packet{ask}, true, "client hears no NDP answer for fd00::100", "no answer"},
		{"nobody asked", "is: []", []capture.Packet{ndp(t, false, 1, "fd00::1", vip, false)}, false, "client hears no NDP answer for fd00::100", "nobody at client asked who has fd00::100, so nothing is known; flush its neighbours first"},
		{"a search for duplicates", "is: []", []capture.Packet{ndp(t, false, 250, "::", vip, true)}, false, "client hears no NDP answer for fd00::100", "nobody at client asked who has fd00::100, so nothing is known; flush its neighbours first"},
	} {
		r := judgeWire(t, "arp_owner: {address: \""+vip+"\", at: client, "+c.check+"}", wireEnv{packets: c.packets})
		if r.Pass != c.pass || r.Wanted != c.wanted || r.Seen != c.seen {
			t.Errorf("%s: pass %v\n  wanted %q\n  want   %q\n  seen %q\n  want %q", c.name, r.Pass, r.Wanted, c.wanted, r.Seen, c.seen)
		}
		if !r.Pass && r.Evidence[0].Title != "NDP at client:eth0" {
			t.Errorf("%s: evidence %q", c.name, r.Evidence[0].Title)
		}
	}
	r := judgeWire(t, "arp_requests: {from: web1, sender: own, at: client}", wireEnv{packets: []capture.Packet{ndp(t, false, 2, "fd00::2", "fd00::250", false)}})
	if !r.Pass || r.Wanted != "NDP questions of web1 give its own address as the sender" || r.Seen != "web1 asks for fd00::250 as fd00::2" {
		t.Errorf("%+v", r)
	}
	r = judgeWire(t, "arp_requests: {from: web1, sender: own, at: client}", wireEnv{packets: []capture.Packet{ndp(t, false, 2, vip, "fd00::250", false)}})
	if r.Pass || r.Seen != "web1 asks for fd00::250 as fd00::100" {
		t.Errorf("%+v", r)
	}
}

func judgeWire(t *testing.T, text string, env wireEnv) Result {
	t.Helper()
	c, err := decode(t, text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Begin(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := p.Judge(context.Background())
	return r
}
