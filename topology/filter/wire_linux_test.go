package filter

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	clientIP = netip.MustParseAddr("172.25.12.250")
	realIP   = netip.MustParseAddr("172.25.12.2")
	vip      = netip.MustParseAddr("172.25.12.100")
	absentIP = netip.MustParseAddr("172.25.12.77")
)

// wire is two namespaces and a veth pair between them.
type wire struct {
	client, server *testNS
	mac            net.HardwareAddr
	fd             int // packet socket of the client
	ifindex        int
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{client: newNS(t), server: newNS(t)}
	for _, e := range []struct {
		ns    *testNS
		addrs []netip.Addr
	}{{w.client, []netip.Addr{clientIP}}, {w.server, []netip.Addr{realIP, vip}}} {
		h, err := netlink.NewHandleAt(netns.NsHandle(e.ns.fd), unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if e.ns == w.client {
			err = h.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.server.fd),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		l, err := h.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range e.addrs {
			err := h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if e.ns == w.client {
			w.mac, w.ifindex = l.Attrs().HardwareAddr, l.Attrs().Index
		}
	}
	w.client.must(func() (err error) {
		// Protocols are in network order.
		proto := native.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: w.ifindex})
	})
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// arpPacket is what a test looks at.
type arpPacket struct {
	op       Opcode
	src, dst netip.Addr
}

func (w *wire) ask(t *testing.T, who netip.Addr) {
	t.Helper()
	b := append(bytes.Repeat([]byte{0xff}, 6), w.mac...)
	b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, byte(Request))
	b = append(append(b, w.mac...), clientIP.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), who.AsSlice()...)
	if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrLinklayer{Ifindex: w.ifindex}); err != nil {
		t.Fatal(err)
	}
}

// until reads the client's ARP packets until one is as wanted and returns all
// before it.
func (w *wire) until(t *testing.T, what string, wanted func(arpPacket) bool) (before []arpPacket, found arpPacket) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 100)
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if n <= 0 {
			continue
		}
		var b [128]byte
		size, from, err := unix.Recvfrom(w.fd, b[:], 0)
		if err != nil {
			t.Fatal(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); size < 42 || ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		p := arpPacket{Opcode(b[21]), netip.AddrFrom4([4]byte(b[28:32])), netip.AddrFrom4([4]byte(b[38:42]))}
		if wanted(p) {
			return before, p
		}
		before = append(before, p)
	}
	t.Fatalf("no %s within 5 s; seen: %v", what, before)
	return nil, arpPacket{}
}

func isReply(from netip.Addr) func(arpPacket) bool {
	return func(p arpPacket) bool { return p.op == Reply && p.src == from }
}

// send makes the server ask who has an absent address, with the VIP as the
// source of the packet that waits for the answer.
func (w *wire) send(t *testing.T) {
	t.Helper()
	w.server.must(func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: vip.AsSlice()}, &net.UDPAddr{IP: absentIP.AsSlice(), Port: 9})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
}

func asksForAbsent(p arpPacket) bool { return p.op == Request && p.dst == absentIP }

// TestRulesWork proves on the wire what the rules are for.
func TestRulesWork(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		w := newWire(t)
		needBackend(t, w.server, b)
		w.ask(t, vip)
		w.until(t, "reply for the VIP before there are rules", isReply(vip))
		w.send(t)
		if _, p := w.until(t, "request by the server", asksForAbsent); p.src != vip {
			t.Fatalf("without rules the server asks with %v, not with the VIP; the test shows nothing", p.src)
		}

		rules := mustParse(t,
			"-A INPUT -d 172.25.12.100 -j DROP",
			"-A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2")
		w.server.must(func() error { return b.Replace(rules) })
		w.ask(t, vip)
		w.ask(t, realIP) // the barrier: answered after what the VIP would have been
		before, _ := w.until(t, "reply for the server's own address", isReply(realIP))
		if slices.ContainsFunc(before, isReply(vip)) {
			t.Errorf("the server answers for the VIP: %v", before)
		}
		// The request of before is repeated every second, now mangled.
		if _, p := w.until(t, "request by the server", func(p arpPacket) bool { return asksForAbsent(p) && p.src != vip }); p.src != realIP {
			t.Errorf("the server asks with %v, wanted %v", p.src, realIP)
		}
		var counted []Counted
		w.server.must(func() (err error) { counted, err = b.Count(); return err })
		if len(counted) != 2 || counted[0].Packets != 1 || counted[1].Packets < 1 {
			t.Errorf("counters: %+v, wanted 1 packet dropped and some mangled", counted)
		}

		w.server.must(func() error { return b.Replace(nil) })
		w.ask(t, vip)
		w.until(t, "reply for the VIP after the rules are gone", isReply(vip))
	})
}

// TestTestsWork shows that the fields and "!" test what they say, on both
// kernels' ways alike.
func TestTestsWork(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		w := newWire(t)
		needBackend(t, w.server, b)
		mac := w.mac.String()
		for _, c := range []struct {
			tests string
			drops bool
		}{
			{"-d 172.25.12.100", true},
			{"! -d 172.25.12.2", true},
			{"-d 172.25.12.96/29", true},
			{"-d 172.25.12.64/27 ", false},
			{"-d 172.25.12.100 ! -s 172.25.12.250", false},
			{"-d 172.25.12.100 -s 172.25.0.0/16", true},
			{"-d 172.25.12.100 -i eth0", true},
			{"-d 172.25.12.100 -i et+", true},
			{"-d 172.25.12.100 -i eth", false},
			{"-d 172.25.12.100 -i eth00", false},
			{"-d 172.25.12.100 ! -i lo", true},
			{"-d 172.25.12.100 ! -i e+", false},
			{"-d 172.25.12.100 --opcode Request", true},
			{"-d 172.25.12.100 --opcode Reply", false},
			{"-d 172.25.12.100 ! --opcode Reply", true},
			{"-d 172.25.12.100 --h-length 6", true},
			{"-d 172.25.12.100 ! --h-length 6", false},
			{"-d 172.25.12.100 --source-mac " + mac, true},
			{"-d 172.25.12.100 ! --source-mac " + mac, false},
			{"-d 172.25.12.100 --source-mac " + mac[:8] + ":00:00:00/ff:ff:ff:00:00:00", true},
			{"-d 172.25.12.100 --destination-mac 00:00:00:00:00:00", true},
			{"-d 172.25.12.100 --destination-mac 00:00:00:00:00:01", false},
		} {
			w.server.must(func() error { return b.Replace(mustParse(t, "-A INPUT "+c.tests+" -j DROP")) })
			w.ask(t, vip)
			w.ask(t, realIP)
			before, _ := w.until(t, "reply for the server's own address with "+c.tests, isReply(realIP))
			if answered := slices.ContainsFunc(before, isReply(vip)); answered == c.drops {
				t.Errorf("%s: the VIP is answered: %v", c.tests, answered)
			}
		}
	})
}

// TestMangleTargets shows what follows the rewriting.
func TestMangleTargets(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		w := newWire(t)
		needBackend(t, w.server, b)
		const mangle = "-A OUTPUT --opcode Reply -s 172.25.12.100 -j mangle --mangle-ip-s 192.0.2.1"
		const drop = "-A OUTPUT -s 192.0.2.1 -j DROP"
		for _, c := range []struct {
			rules    []string
			answered bool
		}{
			{[]string{mangle, drop}, true},
			{[]string{mangle + " --mangle-target CONTINUE", drop}, false},
			{[]string{mangle + " --mangle-target CONTINUE"}, true},
			{[]string{mangle + " --mangle-target DROP"}, false},
		} {
			w.server.must(func() error { return b.Replace(mustParse(t, c.rules...)) })
			w.ask(t, vip)
			w.ask(t, realIP)
			before, _ := w.until(t, "reply for the server's own address", isReply(realIP))
			if got := slices.ContainsFunc(before, isReply(netip.MustParseAddr("192.0.2.1"))); got != c.answered {
				t.Errorf("%v: a mangled answer comes: %v; seen %v", c.rules, got, before)
			}
			if slices.ContainsFunc(before, isReply(vip)) {
				t.Errorf("%v: an answer that was not mangled comes", c.rules)
			}
		}
	})
}
