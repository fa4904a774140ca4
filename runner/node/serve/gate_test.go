package serve

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestGate(t *testing.T) {
	g := new(gate)
	if err := g.pass(); err != nil {
		t.Fatal(err)
	}
	g.close()
	g.close()
	passed := make(chan error)
	go func() { passed <- g.pass() }()
	select {
	case <-passed:
		t.Fatal("passed while it was shut")
	default:
	}
	g.lift()
	if err := <-passed; err != nil {
		t.Error(err)
	}
	g.close()
	go func() { passed <- g.pass() }()
	// One who waits at a gate that ends goes away, and it is never shut again.
	// (Nobody can see whether somebody waits; either way there is an end.)
	g.end()
	if err := <-passed; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	g.close()
	if err := g.pass(); err != nil {
		t.Error(err)
	}
}

func TestGateIsRaceFree(t *testing.T) {
	g := new(gate)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				_ = g.pass()
			}
		})
	}
	for range 100 {
		g.close()
		g.lift()
	}
	g.end()
	wg.Wait()
}

func TestAccessLog(t *testing.T) {
	l := new(accessLog)
	if got := l.lines(); len(got) > 0 {
		t.Errorf("%q", got)
	}
	for i := range LogLines + 3 {
		l.add("10.0.0.1:5", "GET", fmt.Sprint("/", i))
	}
	got := l.lines()
	if len(got) != LogLines || !strings.HasSuffix(got[0], " 10.0.0.1:5 GET /3") || !strings.HasSuffix(got[LogLines-1], fmt.Sprint("/", LogLines+2)) {
		t.Errorf("%d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	l.add("10.0.0.1:5", "line", "a\x1b[2Jb\xff"+strings.Repeat("x", 1000))
	last := l.lines()[LogLines-1]
	if !strings.Contains(last, "a?[2Jb?xx") || len(last) > logWidth+50 || !strings.HasSuffix(last, "…") {
		t.Errorf("%q", last)
	}
	(*accessLog)(nil).add("", "", "")
	if slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "\x1b") }) {
		t.Error("what a terminal would obey is in the log")
	}
}

func BenchmarkAccessLog(b *testing.B) {
	l := new(accessLog)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.add("10.0.0.1:54321", "GET", "/")
		}
	})
}
