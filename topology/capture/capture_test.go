package capture

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestCapture(t *testing.T) {
	l := newLAN(t, 2)
	begin := time.Now()
	all, err := Open(l.nodes[0].NS, "node0", "eth0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = all.Close() }()
	arp, err := Open(l.nodes[1].NS, "node1", "eth0", Options{EtherTypes: []uint16{EtherTypeARP}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = arp.Close() }()

	poke(t, l.nodes[0], address(1))
	// The datagram goes out when the ARP reply has come: the second barrier is
	// behind it.
	for range 2 {
		if err := Barrier(t.Context(), l.nodes[0], l.nodes); err != nil {
			t.Fatal(err)
		}
	}
	packets := all.Packets()
	var lines []string
	for _, p := range packets {
		lines = append(lines, Line(p))
		if p.Time.Before(begin.Add(-time.Second)) || p.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("captured at %v, it is %v", p.Time, time.Now())
		}
	}
	text := strings.Join(lines, "\n")
	t.Log("\n" + text)
	mac0, mac1 := link(t, l.nodes[0]).Attrs().HardwareAddr, link(t, l.nodes[1]).Attrs().HardwareAddr
	for _, want := range []string{
		" Out " + mac0.String() + " > ff:ff:ff:ff:ff:ff, ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
		" In  " + mac1.String() + " > " + mac0.String() + ", ARP, Reply 10.0.0.2 is-at " + mac1.String() + ", length 28",
		"IP 10.0.0.1.", " > 10.0.0.2.9: UDP, length 5",
		"IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 udp port 9 unreachable, length 41",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("wanted a line with %q", want)
		}
	}
	if err := all.Err(); err != nil {
		t.Error(err)
	}

	requests := arps(t, arp, ARPRequest)
	if len(requests) == 0 || requests[0].SenderIP != address(0).Addr() || requests[0].TargetIP != address(1).Addr() ||
		!bytes.Equal(requests[0].SenderMAC, mac0) || !bytes.Equal(requests[0].EtherSrc, mac0) ||
		requests[0].EtherDst.String() != "ff:ff:ff:ff:ff:ff" {
		t.Errorf("ARP requests seen by node1: %v", requests)
	}
	for _, p := range arp.Packets() {
		if p.EtherType != EtherTypeARP {
			t.Errorf("asked for ARP only, got %s", Line(p))
		}
	}

	for range 2 {
		if err := all.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(all.Packets()); got < len(packets) {
		t.Errorf("%d packets before Close, %d after", len(packets), got)
	}
}

func TestCaptureCountsLoss(t *testing.T) {
	l := newLAN(t, 2)
	n := l.nodes[0]
	err := n.NS.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: link(t, n).Attrs().Index, State: unix.NUD_PERMANENT,
		IP: net.IPv4(10, 0, 0, 2), HardwareAddr: link(t, l.nodes[1]).Attrs().HardwareAddr,
	})
	if err != nil {
		t.Fatal(err)
	}
	const sent, snap = 2000, 60
	c, err := Open(n.NS, n.Node, n.Device, Options{EtherTypes: []uint16{EtherTypeIPv4}, Limit: 64 << 10, SnapLen: snap})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	conn, err := n.NS.Dial(t.Context(), "udp", address(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	passed := 0
	for range sent {
		// A write that reports an earlier refusal sends nothing.
		if _, err := conn.Write(make([]byte, 1000)); err == nil {
			passed++
		}
	}
	out := 0
	for _, p := range c.Packets() {
		if p.Outgoing {
			out++
			if len(p.Data) != snap || p.Length != 1042 {
				t.Fatalf("kept %d bytes of %d, wanted %d of 1042", len(p.Data), p.Length, snap)
			}
		}
	}
	if out == 0 || c.Lost() == 0 || out+int(c.Lost()) < passed {
		t.Errorf("sent %d, have %d, lost %d", passed, out, c.Lost())
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "lost") || !strings.Contains(err.Error(), "node0 eth0") {
		t.Errorf("loss was told as: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept > 32<<10 {
		t.Errorf("keeps %d bytes", c.kept)
	}
}

// A device that goes down and comes up is captured again; one that is not there
// is an error.
func TestCaptureDevices(t *testing.T) {
	l := newLAN(t, 2)
	n := l.nodes[0]
	if _, err := Open(n.NS, n.Node, "eth7", Options{}); err == nil || !strings.Contains(err.Error(), "node0 eth7") {
		t.Errorf("no such device: %v", err)
	}
	if _, err := Open(n.NS, n.Node, "a-name-that-is-too-long", Options{}); err == nil {
		t.Error("an impossible name was taken")
	}
	c, err := Open(n.NS, n.Node, n.Device, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	eth0 := link(t, n)
	if err := n.NS.Netlink().LinkSetDown(eth0); err != nil {
		t.Fatal(err)
	}
	before := len(c.Packets())
	if err := n.NS.Netlink().LinkSetUp(eth0); err != nil {
		t.Fatal(err)
	}
	poke(t, n, address(1))
	if err := Barrier(t.Context(), n, l.nodes); err != nil {
		t.Fatal(err)
	}
	if got := len(c.Packets()); got <= before || c.Err() != nil {
		t.Errorf("%d packets before the device went down, %d after it came up, %v", before, got, c.Err())
	}
}

func TestCaptureLeavesNothing(t *testing.T) {
	l := newLAN(t, 2)
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := count()
	for range 5 {
		c, err := Open(l.nodes[0].NS, "node0", "eth0", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := Barrier(t.Context(), l.nodes[0], l.nodes); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
