package capture

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// What waits in the queue of a slow link, and the answer to it, has arrived when
// the sweep is over, wherever it was sent.
func TestSweepWaitsForWhatIsQueued(t *testing.T) {
	l := newLAN(t, 4)
	asker, slow := l.nodes[3], l.nodes[2]
	c, err := Open(asker.NS, asker.Node, asker.Device, Options{EtherTypes: []uint16{EtherTypeARP}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	atLeast := hold(t, slow)
	begin := time.Now()
	poke(t, asker, address(2))
	var b Barriers
	defer func() { _ = b.Close() }()
	if err := b.Sweep(t.Context(), l.nodes); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if replies := arps(t, c, ARPReply); len(replies) != 1 || replies[0].SenderIP != address(2).Addr() {
		t.Errorf("replies after the sweep: %v", replies)
	}
	if took < atLeast {
		t.Errorf("the sweep returned after %v, the link holds for %v", took, atLeast)
	}
}

func TestSweepEnds(t *testing.T) {
	l := newLAN(t, 3)
	var b Barriers
	defer func() { _ = b.Close() }()
	if err := b.Sweep(t.Context(), l.nodes[:1]); err != nil {
		t.Errorf("one station alone: %v", err)
	}
	hold(t, l.nodes[1])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Sweep(ctx, l.nodes)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not heard of "+l.nodes[0].String()) {
		t.Errorf("a sweep that is given up: %v", err)
	}
}

func BenchmarkSweep64(b *testing.B) {
	l := newLAN(b, 64)
	var bs Barriers
	defer func() { _ = bs.Close() }()
	for b.Loop() {
		if err := bs.Sweep(b.Context(), l.nodes); err != nil {
			b.Fatal(err)
		}
	}
}
