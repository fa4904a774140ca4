package capture

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The answer to an ARP request waits in the queue of a slow link; the barrier
// must not return before it has come.
func TestBarrierWaitsForWhatIsQueued(t *testing.T) {
	l := newLAN(t, 4)
	observer, slow := l.nodes[0], l.nodes[2]
	c, err := Open(observer.NS, observer.Node, observer.Device, Options{EtherTypes: []uint16{EtherTypeARP}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	atLeast := hold(t, slow)
	begin := time.Now()
	poke(t, observer, address(2))
	early := arps(t, c, ARPReply)
	if err := Barrier(t.Context(), observer, l.nodes); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	replies := arps(t, c, ARPReply)
	if len(replies) != 1 || replies[0].SenderIP != address(2).Addr() {
		t.Errorf("replies after the barrier: %v", replies)
	}
	if len(early) != 0 {
		t.Errorf("the link was not slow: %v came before the barrier", early)
	}
	if took < atLeast {
		t.Errorf("the barrier returned after %v, the link holds for %v", took, atLeast)
	}
	for _, p := range c.Packets() {
		t.Log(Line(p))
	}
}

// Again and again with cold caches and busy processors: after the barrier the
// reply is there, also when another processor handed it over.
func TestBarrierOrder(t *testing.T) {
	l := newLAN(t, 3)
	observer := l.nodes[0]
	var b Barriers
	defer func() { _ = b.Close() }()
	var done atomic.Bool
	defer done.Store(true)
	for range runtime.NumCPU() {
		go func() {
			for !done.Load() {
			}
		}()
	}
	c, err := Open(observer.NS, observer.Node, observer.Device, Options{EtherTypes: []uint16{EtherTypeARP}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i := range 30 {
		flushNeighbours(t, observer)
		poke(t, observer, address(1))
		if err := b.Barrier(t.Context(), observer, l.nodes); err != nil {
			t.Fatal(err)
		}
		if got := len(arps(t, c, ARPReply)); got != i+1 {
			t.Fatalf("%d replies after %d requests and barriers", got, i+1)
		}
	}
}

func flushNeighbours(tb testing.TB, s Station) {
	tb.Helper()
	h := s.NS.Netlink()
	list, err := h.NeighList(0, unix.AF_INET)
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range list {
		if n.State == unix.NUD_NOARP {
			continue
		}
		if err := h.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			tb.Fatal(err)
		}
	}
}

func TestBarrierNamesTheSilent(t *testing.T) {
	l := newLAN(t, 4)
	observer := l.nodes[0]
	if err := Barrier(t.Context(), observer, l.nodes); err != nil {
		t.Fatal(err)
	}

	// The far end is down: the frames are lost.
	port := link(t, Station{NS: l.bridge, Device: "node2"})
	if err := l.bridge.Netlink().LinkSetDown(port); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Barrier(ctx, observer, l.nodes)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "node2 eth0 (1 of 3") ||
		strings.Contains(err.Error(), "node1") {
		t.Errorf("far end down: %v", err)
	}

	// It comes up again while the barrier waits.
	var b Barriers
	defer func() { _ = b.Close() }()
	result := make(chan error)
	go func() { result <- b.Barrier(t.Context(), observer, l.nodes) }()
	if err := l.bridge.Netlink().LinkSetUp(port); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("far end up again: %v", err)
	}

	// The device itself is down: known at once.
	if err := l.nodes[3].NS.Netlink().LinkSetDown(link(t, l.nodes[3])); err != nil {
		t.Fatal(err)
	}
	err = b.Barrier(t.Context(), observer, l.nodes)
	if err == nil || !strings.Contains(err.Error(), "node3 eth0: the device is down") {
		t.Errorf("device down: %v", err)
	}
	if err := b.Barrier(t.Context(), observer, l.nodes[:3]); err != nil {
		t.Errorf("without it: %v", err)
	}

	err = b.Barrier(t.Context(), observer, []Station{{Node: "node1", NS: l.nodes[1].NS, Device: "eth7"}})
	if err == nil || !strings.Contains(err.Error(), "node1") || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("no such device: %v", err)
	}
	canceled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if err := b.Barrier(canceled, observer, l.nodes[:2]); !errors.Is(err, context.Canceled) {
		t.Errorf("context canceled: %v", err)
	}
}

// A device that went is missed, and one that changed its address is heard of.
func TestBarrierAfterDeviceChange(t *testing.T) {
	l := newLAN(t, 3)
	var b Barriers
	defer func() { _ = b.Close() }()
	if err := b.Barrier(t.Context(), l.nodes[0], l.nodes); err != nil {
		t.Fatal(err)
	}
	n := l.nodes[1]
	h := n.NS.Netlink()
	eth0 := link(t, n)
	if err := h.LinkSetHardwareAddr(eth0, []byte{2, 0, 0, 0, 0, 9}); err != nil {
		t.Fatal(err)
	}
	if err := b.Barrier(t.Context(), n, l.nodes); err != nil {
		t.Error(err)
	}
	if err := errors.Join(h.LinkSetDown(eth0), h.LinkSetName(eth0, "eth1"), h.LinkSetUp(eth0)); err != nil {
		t.Fatal(err)
	}
	if err := b.Barrier(t.Context(), l.nodes[0], l.nodes); err == nil {
		t.Error("eth0 is gone, and was heard of")
	}
	l.nodes[1].Device = "eth1"
	if err := b.Barrier(t.Context(), l.nodes[0], l.nodes); err != nil {
		t.Error(err)
	}
}

func TestBarrierIsNotCaptured(t *testing.T) {
	l := newLAN(t, 2)
	c, err := Open(l.nodes[0].NS, "node0", "eth0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := Barrier(t.Context(), l.nodes[0], l.nodes); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Packets() {
		if p.EtherType == barrierEtherType {
			t.Error(Line(p))
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	good := frame{
		to: []byte{1, 2, 3, 4, 5, 6}, from: []byte{2, 2, 3, 4, 5, 6},
		kind: kindAnswer, id: [16]byte{7}, index: 3, cpu: 9,
	}
	f.Add(good.bytes())
	f.Add(good.bytes()[:30])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseFrame(b)
		if !ok {
			return
		}
		again, ok := parseFrame(got.bytes())
		if !ok || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("%v became %v, %v", got, again, ok)
		}
	})
}

func benchmarkBarrier(b *testing.B, stations int) {
	l := newLAN(b, stations+1)
	var bs Barriers
	defer func() { _ = bs.Close() }()
	for b.Loop() {
		if err := bs.Barrier(b.Context(), l.nodes[0], l.nodes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBarrier4(b *testing.B)  { benchmarkBarrier(b, 4) }
func BenchmarkBarrier64(b *testing.B) { benchmarkBarrier(b, 64) }

func BenchmarkBarrierOnce4(b *testing.B) {
	l := newLAN(b, 5)
	for b.Loop() {
		if err := Barrier(b.Context(), l.nodes[0], l.nodes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenClose(b *testing.B) {
	l := newLAN(b, 1)
	for b.Loop() {
		c, err := Open(l.nodes[0].NS, "node0", "eth0", Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
