package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/wire"
)

// held are the network namespaces that this process holds.
func held(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "net:[") {
			n++
		}
	}
	return n
}

// Labs stay up beside jobs and beside one another until the session is closed.
func TestUpStaysUntilClose(t *testing.T) {
	needRoot(t)
	before := held(t)
	s, err := New().Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		l, err := s.Up(ctx, jobOf(lab))
		if err != nil {
			t.Fatal(err)
		}
		st, err := l.Status(t.Context())
		if err != nil || strings.Join(st.Nodes, " ") != "one two" {
			t.Errorf("status %+v, %v", st, err)
		}
	}
	cancel() // it bounds the building
	if err := s.Run(t.Context(), jobOf(lab), func(wire.Event) {}); err != nil {
		t.Errorf("a job beside the labs: %v", err)
	}
	if _, err := s.Up(t.Context(), jobOf("title: nothing\n")); err == nil {
		t.Error("a file without a lab came up")
	}
	if now := held(t); now <= before {
		t.Errorf("%d namespaces before the labs and %d with them", before, now)
	}
	select {
	case <-s.Ended():
		t.Error("ended by itself")
	default:
	}
	if err := errors.Join(s.Err(), s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	<-s.Ended()
	if !errors.Is(s.Err(), ErrClosed) {
		t.Errorf("Err after Close: %v", s.Err())
	}
	if now := held(t); now != before {
		t.Errorf("%d namespaces are held, before it were %d", now, before)
	}
	if _, err := s.Up(t.Context(), jobOf(lab)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
