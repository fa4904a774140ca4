package assert

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// cables is a lab's links with what was captured on them.
type cables struct {
	fakeEnv
	t     testing.TB
	links []linkPackets
	now   time.Time
	lost  error
}

func newCables(t testing.TB, links ...string) *cables {
	c := &cables{t: t, now: time.Unix(1700000000, 0)}
	for _, l := range links {
		node, device, _ := strings.Cut(l, ":")
		c.links = append(c.links, linkPackets{node: node, device: device})
	}
	return c
}

func (c *cables) mac(link string) net.HardwareAddr {
	for i, l := range c.links {
		if l.node+":"+l.device == link {
			return net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}
		}
	}
	c.t.Fatalf("no link %s", link)
	return nil
}

func (c *cables) Owner(mac net.HardwareAddr) (topology.NetAddr, bool) {
	if i := int(mac[5]); mac[0] == 2 && i < len(c.links) {
		return topology.NetAddr{Node: c.links[i].node, Device: c.links[i].device, MAC: mac}, true
	}
	return topology.NetAddr{}, false
}

func (c *cables) WatchLinks() error   { return nil }
func (c *cables) Directors() []string { return []string{"director"} }

type packets struct {
	list []capture.Packet
	err  error
}

func (p packets) Packets() ([]capture.Packet, error) { return p.list, p.err }

func (c *cables) Links() []LinkCapture {
	var list []LinkCapture
	for _, l := range c.links {
		list = append(list, LinkCapture{l.node, l.device, packets{l.packets, c.lost}})
	}
	return list
}

func (c *cables) Capture(node, device string) (Capture, error) {
	for _, l := range c.links {
		if l.node == node && l.device == device {
			return packets{l.packets, c.lost}, nil
		}
	}
	return nil, net.UnknownNetworkError("no such link")
}

// asked records a request's outcome.
func (c *cables) asked(to string) {
	c.out.Replies = append(c.out.Replies, Reply{From: "client", To: to, Result: OK})
}

// segment is a TCP segment, or a datagram where udp says so.
type segment struct {
	src, dst string
	ttl      uint8
	flags    string
	seq      uint32
	udp      bool
	// in wraps it: "ipip 10.0.0.1 10.0.0.2 64".
	in string
}

// hop sends a packet from one link to another; to "" loses it. Others on the
// cable, which a switch floods, see it as well.
func (c *cables) hop(from, to string, s segment, others ...string) {
	c.t.Helper()
	src, dst := netip.MustParseAddrPort(s.src), netip.MustParseAddrPort(s.dst)
	var ls []gopacket.SerializableLayer
	eth := &layers.Ethernet{SrcMAC: c.mac(from), DstMAC: net.HardwareAddr{4, 0, 0, 0, 0, 0}, EthernetType: layers.EthernetTypeIPv4}
	if to != "" {
		eth.DstMAC = c.mac(to)
	}
	protocol := layers.IPProtocolTCP
	if s.udp {
		protocol = layers.IPProtocolUDP
	}
	var ip gopacket.SerializableLayer
	var over gopacket.NetworkLayer
	if src.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: s.ttl, Id: uint16(s.seq), Protocol: protocol, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		ip, over = v4, v4
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: s.ttl, NextHeader: protocol, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		ip, over = v6, v6
	}
	ls = append(ls, eth)
	if s.in != "" {
		w := strings.Fields(s.in)
		ls = append(ls, &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolIPv4, SrcIP: net.ParseIP(w[1]).To4(), DstIP: net.ParseIP(w[2]).To4()})
	}
	ls = append(ls, ip)
	if s.udp {
		u := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		_ = u.SetNetworkLayerForChecksum(over) // fails for what is no network layer
		ls = append(ls, u, gopacket.Payload("a question that is repeated in its answer"))
	} else {
		t := &layers.TCP{
			SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: s.seq,
			SYN: strings.Contains(s.flags, "S"), ACK: strings.Contains(s.flags, "."), FIN: strings.Contains(s.flags, "F"),
		}
		_ = t.SetNetworkLayerForChecksum(over)
		ls = append(ls, t, gopacket.Payload("some text that is long enough for Ethernet not to pad it"))
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		c.t.Fatal(err)
	}
	data := slices.Clone(buf.Bytes())
	for i, l := range c.links {
		name := l.node + ":" + l.device
		if name != from && name != to && !slices.Contains(others, name) {
			continue
		}
		c.now = c.now.Add(time.Microsecond)
		c.links[i].packets = append(c.links[i].packets, capture.Packet{
			Time: c.now, Outgoing: name == from, Hardware: unix.ARPHRD_ETHER, EtherType: uint16(eth.EthernetType), Length: len(data), Data: data,
		})
	}
}

const (
	vipPort    = "10.0.0.100:80"
	clientPort = "10.0.0.250:4000"
)

// drRequest is a request by direct routing, and its reply.
func drRequest(c *cables, port, server string, seq uint32) {
	src := "10.0.0.250:" + port
	c.asked(vipPort)
	for i, f := range []string{"S", "."} {
		s := segment{src: src, dst: vipPort, ttl: 64, flags: f, seq: seq + uint32(i)}
		c.hop("client:eth0", "director:eth0", s, "web1:eth0", "web2:eth0")
		s.ttl = 63
		c.hop("director:eth0", server+":eth0", s)
		c.hop(server+":eth0", "client:eth0", segment{src: vipPort, dst: src, ttl: 64, flags: "S.", seq: seq + 1000 + uint32(i)})
	}
}

func lan(t testing.TB) *cables {
	return newCables(t, "client:eth0", "director:eth0", "web1:eth0", "web2:eth0")
}

func TestPathDR(t *testing.T) {
	c := lan(t)
	drRequest(c, "4000", "web1", 100)
	drRequest(c, "4001", "web2", 200)
	for check, seen := range map[string]string{
		"path: dr": "1× client → director → web1 → client, 1× client → director → web2 → client",
		"path: {method: dr, to: 10.0.0.100, from: client, encapsulation: none}":                                       "",
		"path: {request: [client, director, [web1, web2]], reply: [[web1, web2], client]}":                            "",
		"path: {request: {through: [director], ttl: 63}, reply: {never: [director], ttl: 64}}":                        "",
		"cost: {node: director, packets: 4, bytes: \">0\", packets_in: 2, packets_out: \"1..2\", bytes_in: \"<999\"}": "",
		"cost: {node: web1, packets: \"<4\"}":                                                                         "web1 carried 2 packets of 192 bytes for each of 2 requests: in 1 of 96 bytes, out 1 of 96 bytes",
	} {
		if r := judgeOnce(t, check, c); !r.Pass || seen != "" && r.Seen != seen {
			t.Errorf("%s: %t, seen %q\n%v", check, r.Pass, r.Seen, r.Evidence)
		}
	}
	for check, seen := range map[string]string{
		"path: tun":     "director passed a request on without encapsulating it (2 of 2 requests did not go as wanted)",
		"path: nat":     "director left the destination of a request as it was, 10.0.0.100:80 (2 of 2 requests did not go as wanted)",
		"path: fullnat": "director left the source of a request as it was, 10.0.0.250:4000 (2 of 2 requests did not go as wanted)",
		"path: {request: [client, director, web1]}":          "a request went client → director → web2 (1 of 2 requests did not go as wanted)",
		"path: {reply: {through: [director]}}":               "a reply went web1 → client (2 of 2 requests did not go as wanted)",
		"path: {request: {never: [director]}}":               "a request went client → director → web1 (2 of 2 requests did not go as wanted)",
		"path: {request: {ttl: 64}}":                         "a request arrived at web1 with TTL 63 (2 of 2 requests did not go as wanted)",
		"path: {encapsulation: gre}":                         "a request was not encapsulated (2 of 2 requests did not go as wanted)",
		"path: {request: [client, director, web1, web2]}":    "a request went client → director → web1 and no further (2 of 2 requests did not go as wanted)",
		"path: {from: web1, method: dr}":                     errNoStimulus.Error(),
		"cost: {node: director, packets: 5}":                 "director carried 4 packets of 384 bytes for each of 2 requests: in 2 of 192 bytes, out 2 of 192 bytes",
		"cost: {node: director, packets: \"5..6\"}":          "director carried 4 packets of 384 bytes for each of 2 requests: in 2 of 192 bytes, out 2 of 192 bytes",
		"cost: {node: director, bytes: \"<10\", packets: 4}": "director carried 4 packets of 384 bytes for each of 2 requests: in 2 of 192 bytes, out 2 of 192 bytes",
	} {
		if r := judgeOnce(t, check, c); r.Pass || r.Seen != seen {
			t.Errorf("%s: %t, seen %q, want %q", check, r.Pass, r.Seen, seen)
		}
	}
}

func TestPackets(t *testing.T) {
	c := lan(t)
	drRequest(c, "4000", "web1", 100)
	for check, seen := range map[string]string{
		"packets: {at: web1:eth0, count: 4}":                                                    "4 of 6 packets",
		"packets: {at: web1:eth0, protocol: tcp, direction: in, count: 2}":                      "2 of 6 packets",
		"packets: {at: web1:eth0, source: 10.0.0.100, destination: client, port: 80, count: 2}": "2 of 6 packets",
		"packets: {at: web2:eth0, count: 0}":                                                    "0 of 2 packets",
		"packets: {at: web1:eth0, protocol: udp, count: 0}":                                     "0 of 6 packets",
		"packets: {at: web1:eth0, protocol: arp, count: 0}":                                     "0 of 6 packets",
		"packets: {at: web1:eth0, encapsulation: ipip, count: 0}":                               "0 of 6 packets",
		"packets: {at: web1:eth0, port: 4001, count: 0}":                                        "0 of 6 packets",
	} {
		if r := judgeOnce(t, check, c); !r.Pass || r.Seen != seen {
			t.Errorf("%s: %t, %s", check, r.Pass, r.Seen)
		}
	}
	r := judgeOnce(t, "packets: {at: web1:eth0, protocol: tcp, direction: out, port: 80, count: 0}", c)
	if r.Pass || r.Wanted != "at web1:eth0 =0 packets of tcp with port 80, going out" || r.Seen != "2 of 6 packets" {
		t.Errorf("%+v", r)
	}
}

func TestPathLadder(t *testing.T) {
	c := lan(t)
	drRequest(c, "4000", "web1", 100)
	r := judgeOnce(t, "path: tun", c)
	want := `tcp 10.0.0.250:4000 > 10.0.0.100:80
  request, 2 packets
    client:eth0    →  director:eth0  10.0.0.250:4000 > 10.0.0.100:80  ttl 64
    director:eth0  →  web1:eth0      10.0.0.250:4000 > 10.0.0.100:80  ttl 63
  reply, 2 packets
    web1:eth0  →  client:eth0  10.0.0.100:80 > 10.0.0.250:4000  ttl 64
`
	if got := r.Evidence[0].Text; strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestPathTUN(t *testing.T) {
	c := newCables(t, "client:eth0", "director:eth0", "router:eth0", "router:eth1", "web1:eth0")
	c.asked(vipPort)
	s := segment{src: clientPort, dst: vipPort, ttl: 64, flags: "S", seq: 1}
	c.hop("client:eth0", "director:eth0", s)
	s.ttl, s.in = 63, "ipip 10.0.0.1 10.1.0.2"
	c.hop("director:eth0", "web1:eth0", s)
	c.hop("web1:eth0", "client:eth0", segment{src: vipPort, dst: clientPort, ttl: 64, flags: "S.", seq: 50})
	for _, check := range []string{"path: tun", "path: {method: tun, encapsulation: ipip}"} {
		if r := judgeOnce(t, check, c); !r.Pass || r.Seen != "1× client → director (ipip) → web1 → client" {
			t.Errorf("%s: %s", check, r.Seen)
		}
	}
	for check, seen := range map[string]string{
		"path: dr":                   "director encapsulated a request: ipip",
		"path: {encapsulation: gue}": "a request was encapsulated otherwise: ipip",
		"path: {request: {nodes: [client, director, web1], encapsulation: none}}": "a request was encapsulated: none, ipip",
	} {
		if r := judgeOnce(t, check, c); r.Pass || r.Seen != seen {
			t.Errorf("%s: %t, %s", check, r.Pass, r.Seen)
		}
	}
}

// natRequest goes through the director both ways; snat is the source that the
// server sees, back what its answer is turned into.
func natRequest(c *cables, server, snat string, udp bool) {
	c.asked(vipPort)
	s := segment{src: clientPort, dst: vipPort, ttl: 64, flags: "S", seq: 9, udp: udp}
	c.hop("client:eth0", "director:eth0", s)
	s.src, s.dst, s.ttl = snat, "10.1.0.2:8080", 63
	c.hop("director:eth1", server+":eth0", s)
	r := segment{src: "10.1.0.2:8080", dst: snat, ttl: 64, flags: "S.", seq: 70, udp: udp}
	c.hop(server+":eth0", "director:eth1", r)
	r.src, r.dst, r.ttl = vipPort, clientPort, 63
	c.hop("director:eth0", "client:eth0", r)
}

func TestPathNAT(t *testing.T) {
	for _, udp := range []bool{false, true} {
		for method, snat := range map[string]string{"nat": clientPort, "fullnat": "10.1.0.1:61000"} {
			c := newCables(t, "client:eth0", "director:eth0", "director:eth1", "web1:eth0")
			natRequest(c, "web1", snat, udp)
			for _, m := range pathMethodNames() {
				r := judgeOnce(t, "path: "+m, c)
				if r.Pass != (m == method) || r.Pass && r.Seen != "1× client → director → web1 → director → client" {
					t.Errorf("udp %t, path: %s of %s: %t, %s\n%v", udp, m, method, r.Pass, r.Seen, r.Evidence)
				}
			}
			check := "path: {request: [client, director, web1], reply: [web1, director, client], encapsulation: none}"
			if r := judgeOnce(t, check, c); !r.Pass {
				t.Errorf("%s: %s", check, r.Seen)
			}
			if r := judgeOnce(t, "cost: {node: director, packets: 4, packets_in: 2}", c); !r.Pass {
				t.Error(r.Seen)
			}
		}
	}
}

// TestPathFaults is what labs about mistakes look like.
func TestPathFaults(t *testing.T) {
	t.Run("a reply through the director", func(t *testing.T) {
		c := lan(t)
		c.asked(vipPort)
		s := segment{src: clientPort, dst: vipPort, ttl: 64, flags: "S", seq: 1}
		c.hop("client:eth0", "director:eth0", s)
		s.ttl--
		c.hop("director:eth0", "web1:eth0", s)
		back := segment{src: vipPort, dst: clientPort, ttl: 64, flags: "S.", seq: 2}
		c.hop("web1:eth0", "director:eth0", back)
		back.ttl--
		c.hop("director:eth0", "client:eth0", back)
		if r := judgeOnce(t, "path: dr", c); r.Pass || r.Seen != "a reply went web1 → director → client, and so through the director" {
			t.Error(r.Seen)
		}
	})
	t.Run("one packet past the director", func(t *testing.T) {
		c := lan(t)
		drRequest(c, "4000", "web1", 1)
		c.hop("client:eth0", "web1:eth0", segment{src: clientPort, dst: vipPort, ttl: 64, flags: "F.", seq: 30})
		if r := judgeOnce(t, "path: dr", c); r.Pass || r.Seen != "a request went client → web1, which is not through one director" {
			t.Error(r.Seen)
		}
	})
	t.Run("no request left", func(t *testing.T) {
		c := lan(t)
		c.asked(vipPort)
		if r := judgeOnce(t, "path: dr", c); r.Pass || r.Seen != "no request of client to 10.0.0.100:80 left it" {
			t.Error(r.Seen)
		}
		drRequest(c, "4000", "web1", 1)
		if r := judgeOnce(t, "path: dr", c); r.Pass || r.Seen != "of 2 requests of client to 10.0.0.100:80 only 1 left it" {
			t.Error(r.Seen)
		}
	})
	t.Run("lost on the wire", func(t *testing.T) {
		c := lan(t)
		c.asked(vipPort)
		s := segment{src: clientPort, dst: vipPort, ttl: 64, flags: "S", seq: 1}
		c.hop("client:eth0", "director:eth0", s)
		s.ttl--
		c.hop("director:eth0", "", s)
		r := judgeOnce(t, "path: dr", c)
		if r.Pass || r.Seen != "a request went client → director and no further" || !strings.Contains(r.Evidence[0].Text, "and nobody received it") {
			t.Error(r.Seen, r.Evidence)
		}
	})
	t.Run("a wrong TTL", func(t *testing.T) {
		c := lan(t)
		c.asked(vipPort)
		s := segment{src: clientPort, dst: vipPort, ttl: 64, flags: "S", seq: 1}
		c.hop("client:eth0", "director:eth0", s)
		c.hop("director:eth0", "web1:eth0", s)
		if r := judgeOnce(t, "path: dr", c); r.Pass || r.Seen != "director passed a request on with TTL 64 that came with 64" {
			t.Error(r.Seen)
		}
	})
	t.Run("a capture that lost packets", func(t *testing.T) {
		c := lan(t)
		drRequest(c, "4000", "web1", 1)
		c.lost = net.UnknownNetworkError("7 packets were lost")
		for _, check := range []string{"path: dr", "cost: {node: director, packets: 4}"} {
			if r := judgeOnce(t, check, c); r.Pass || r.Untold == nil || !strings.Contains(r.Untold.Error(), "the path cannot be told: ") {
				t.Errorf("%s: %s, %v", check, r.Seen, r.Untold)
			}
		}
	})
}

// TestPathEcho holds equal datagrams apart: an answer that repeats its question
// is not the question, passed on.
func TestPathEcho(t *testing.T) {
	c := newCables(t, "client:eth0", "web1:eth0")
	for _, port := range []string{"[fd00::250]:4000", "[fd00::250]:4001"} {
		c.asked("[fd00::2]:53")
		c.hop("client:eth0", "web1:eth0", segment{src: port, dst: "[fd00::2]:53", ttl: 64, udp: true})
	}
	for _, port := range []string{"[fd00::250]:4000", "[fd00::250]:4001"} {
		c.hop("web1:eth0", "client:eth0", segment{src: "[fd00::2]:53", dst: port, ttl: 64, udp: true})
	}
	r := judgeOnce(t, "path: {request: [client, web1], reply: [web1, client]}", c)
	if !r.Pass || r.Seen != "2× client → web1 → client" {
		t.Errorf("%s\n%v", r.Seen, r.Evidence)
	}
}

func TestPathDecodeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"path: snat":                 `f:1:7: unknown method "snat", did you mean "nat"? Allowed: dr, tun, nat, fullnat`,
		"path: {to: web}":            "f:1:7: path needs a method (dr, tun, nat, fullnat), request:, reply: or encapsulation:",
		"path: {request: []}":        "this says nothing",
		"path: {request: [a]}":       "a path has at least two nodes",
		"path: {reply: {ttl: 256}}":  "ttl is from 1 to 255, found 256",
		"path: {encapsulation: ipi}": `unknown encapsulation "ipi", did you mean "ipip"? Allowed: none, ipip, sit, ipip6, ip6ip6, gre, gue`,
		"path: {encapsulation: gre, request: {encapsulation: gre}}": "encapsulation: is said twice",
		"path: {request: [a, []]}":                                  "wanted the names of nodes, found an empty list",
		"cost: {node: a}":                                           "cost bounds no figure",
		"packets: {at: web1, count: 1}":                             "wanted a node and its device such as web1:eth0",
		"packets: {at: a:b, count: 1, protocol: tpc}":               `unknown protocol "tpc", did you mean "tcp"?`,
		"packets: {at: a:b, count: 1, direction: up}":               `unknown direction "up"`,
		"packets: {at: a:b, count: x}":                              "count: wanted a condition",
		"packets: {at: a:b, count: 1, protocol: arp, port: 80}":     "of arp only direction: and count:",
		"cost: {packets: 1}":                                        "cost needs node:",
		"cost: {node: a, packet: 1}":                                `unknown key "packet", did you mean "packets"?`,
		"cost: {node: a, packets: 4..2}":                            `wanted a range such as "10..14", found "4..2"`,
		"cost: {node: a, packets: many}":                            "wanted a condition such as",
		"cost: {node: a, bytes: 99999999999999}":                    "more than any lab carries",
	} {
		if _, err := decode(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n  %v\nwant\n  %s", text, err, want)
		}
	}
	c, err := decode(t, "path: {method: dr, to: web, from: a, request: [a, [b, c]], reply: {through: [d], never: [e]}}")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range c.Refs() {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "web a a b c d e" {
		t.Errorf("names %s", got)
	}
}

// FuzzPath judges captures of anything.
func FuzzPath(f *testing.F) {
	c := lan(f)
	drRequest(c, "4000", "web1", 100)
	for _, l := range c.links {
		for _, p := range l.packets[:min(3, len(l.packets))] {
			f.Add(p.Data, p.Data, uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte, at uint8) {
		c := lan(t)
		drRequest(c, "4000", "web1", 100)
		for i := range c.links {
			p := capture.Packet{Time: c.now, Outgoing: at>>i&1 == 1, Hardware: unix.ARPHRD_ETHER, Length: len(a), Data: a}
			c.links[i].packets = append(c.links[i].packets, p)
			p.Outgoing, p.Data, p.Length = at>>(i+4)&1 == 1, b, len(b)
			c.links[i].packets = append(c.links[i].packets, p)
		}
		for _, check := range []string{"path: dr", "path: nat", "path: {request: [client, director, web1], reply: {ttl: 64}}", "cost: {node: director, bytes: 0}"} {
			judgeOnce(t, check, c)
		}
		chains := trace(c.links, c.Owner)
		seen := make(map[*sighting]bool)
		for _, ch := range chains {
			for _, s := range ch {
				if seen[s] {
					t.Fatal("a packet is on two ways")
				}
				seen[s] = true
			}
		}
	})
}

// TestPathInTime holds that a path is not judged for good while packets are on
// their way: captures are read one after another, so of the last packets any
// part may be missing.
func TestPathInTime(t *testing.T) {
	routed := func() *cables {
		c := newCables(t, "client:eth0", "web1:eth0", "router:eth0", "router:eth1", "director:eth0")
		drRequest(c, "4000", "web1", 1) // so that there is an answer
		c.asked(vipPort)
		for i, flags := range []string{"S", "F."} {
			seq := 50 + uint32(i)
			s := segment{src: "10.0.0.250:4001", dst: vipPort, ttl: 64, flags: flags, seq: seq}
			c.hop("client:eth0", "director:eth0", s)
			s.ttl--
			c.hop("director:eth0", "web1:eth0", s)
			back := segment{src: vipPort, dst: "10.0.0.250:4001", ttl: 64, flags: "S.", seq: seq + 1000}
			c.hop("web1:eth0", "router:eth1", back)
			back.ttl--
			c.hop("router:eth0", "client:eth0", back)
		}
		return c
	}
	translated := func() *cables {
		c := newCables(t, "web1:eth0", "client:eth0", "director:eth1", "director:eth0")
		natRequest(c, "web1", "10.1.0.1:61000", false)
		return c
	}
	for check, lab := range map[string]func() *cables{
		"path: dr": routed, "path: {request: {through: [director], ttl: 63}, reply: {never: [director]}}": routed,
		"path: fullnat": translated, "path: {reply: [web1, director, client]}": translated, "path: {reply: {ttl: 63}}": translated,
	} {
		whole := lab()
		if r := judgeOnce(t, check, whole); !r.Pass {
			t.Fatalf("%s: %s", check, r.Seen)
		}
		for missing := 1; missing < 1<<len(whole.links); missing++ {
			c := lab()
			for i := range c.links {
				if list := &c.links[i].packets; missing>>i&1 == 1 && len(*list) > 0 {
					*list = (*list)[:len(*list)-1]
				}
			}
			k, err := decode(t, check)
			if err != nil {
				t.Fatal(err)
			}
			p, err := k.Begin(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if r, again := p.Judge(t.Context()); !r.Pass && !again {
				t.Errorf("%s, links %b read too early: for good, %s", check, missing, r.Seen)
			}
		}
	}
}
