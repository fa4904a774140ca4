package capture

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// needRoot skips where no namespace can be made, or fails when LVSLAB_REQUIRE=1
// says that it must be possible here.
func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "making network namespaces needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		tb.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
	}
	tb.Skip(why)
}

// lan is a bridge with a number of nodes: node0 has 10.0.0.1, and so on, each
// on its eth0.
type lan struct {
	bridge *netns.Namespace
	nodes  []Station
}

func newLAN(tb testing.TB, count int) *lan {
	tb.Helper()
	needRoot(tb)
	newNamespace := func(name string) *netns.Namespace {
		n, err := netns.New(name)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := n.Close(); err != nil {
				tb.Error(err)
			}
		})
		for _, key := range []string{"net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"} {
			_ = n.SetSysctl(key, "1") // a kernel without IPv6 has no such key
		}
		return n
	}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	l := &lan{bridge: newNamespace("bridge")}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	must(l.bridge.Netlink().LinkAdd(br))
	must(l.bridge.Netlink().LinkSetUp(br))
	for i := range count {
		name := fmt.Sprintf("node%d", i)
		s := Station{Node: name, NS: newNamespace(name), Device: "eth0"}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: name, MTU: 1500},
			PeerName:      s.Device,
			PeerNamespace: netlink.NsFd(s.NS.Fd()),
		}
		h := l.bridge.Netlink()
		must(h.LinkAdd(veth))
		must(h.LinkSetMaster(veth, br))
		must(h.LinkSetUp(veth))
		eth0 := link(tb, s)
		must(s.NS.Netlink().AddrAdd(eth0, &netlink.Addr{
			IPNet: &net.IPNet{IP: address(i).Addr().AsSlice(), Mask: net.CIDRMask(16, 32)},
		}))
		must(s.NS.Netlink().LinkSetUp(eth0))
		l.nodes = append(l.nodes, s)
	}
	// The kernel notices a carrier by itself, a moment after both ends are up
	// (net/core/link_watch.c), and the switch passes nothing on before that.
	for _, s := range l.nodes {
		awaitUp(tb, s)
		awaitUp(tb, Station{Node: "bridge", NS: l.bridge, Device: s.Node})
	}
	return l
}

func awaitUp(tb testing.TB, s Station) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); link(tb, s).Attrs().OperState != netlink.OperUp; <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s found no carrier", s)
		}
	}
}

func link(tb testing.TB, s Station) netlink.Link {
	tb.Helper()
	link, err := s.NS.Netlink().LinkByName(s.Device)
	if err != nil {
		tb.Fatal(err)
	}
	return link
}

// address is a node's, with a port that nothing listens on.
func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)}), 9)
}

// poke sends one UDP datagram, which makes the node ask for the other's address
// when it does not know it.
func poke(tb testing.TB, from Station, to netip.AddrPort) {
	tb.Helper()
	c, err := from.NS.Dial(tb.Context(), "udp", to)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("hello")); err != nil {
		tb.Fatal(err)
	}
}

// hold makes what the station sends from now on wait for at least the time that
// it answers: by netem, or on a kernel without it by a token bucket that is
// empty.
func hold(tb testing.TB, s Station) time.Duration {
	tb.Helper()
	const delay = 100 * time.Millisecond
	attrs := netlink.QdiscAttrs{
		LinkIndex: link(tb, s).Attrs().Index,
		Handle:    netlink.MakeHandle(1, 0),
		Parent:    netlink.HANDLE_ROOT,
	}
	h := s.NS.Netlink()
	err := h.QdiscAdd(netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(delay.Microseconds())}))
	if err == nil {
		tb.Log("held by netem")
		return delay
	}
	const rate, bucket = 10000, 2000 // bytes a second, bytes
	tbf := &netlink.Tbf{QdiscAttrs: attrs, Rate: rate, Limit: 100000}
	tbf.Buffer = uint32(float64(bucket) / rate * 1e9 / 64) // in ticks of 64 ns
	if err := h.QdiscAdd(tbf); err != nil {
		tb.Fatal(err)
	}
	tb.Log("held by tbf; netem:", err)
	// Two frames: the first empties the bucket, the second waits until it has
	// filled again.
	sock, err := openPacketSocket(s.NS, s.Device, 0, func(int) error { return nil })
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = unix.Close(sock.fd) }()
	filler := make([]byte, 1514)
	for i := range 6 {
		filler[i] = 0xff
	}
	copy(filler[6:], sock.mac)
	filler[12], filler[13] = 0x88, 0xb6 // Local Experimental EtherType 2
	for range 2 {
		if err := unix.Sendto(sock.fd, filler, 0, &unix.SockaddrLinklayer{Ifindex: sock.index}); err != nil {
			tb.Fatal(err)
		}
	}
	return delay / 2
}

// arps are the ARP messages of a capture that must be complete.
func arps(tb testing.TB, c *Capture, op uint16) []ARPMessage {
	tb.Helper()
	if err := c.Err(); err != nil {
		tb.Fatal(err)
	}
	var list []ARPMessage
	for _, p := range c.Packets() {
		if m, ok := ARP(p); ok && m.Op == op {
			list = append(list, m)
		}
	}
	return list
}
