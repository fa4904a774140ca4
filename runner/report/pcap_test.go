package report_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

// kept is a sink that keeps what it is given.
type kept struct {
	events []wire.Event
	closed bool
}

func (k *kept) Event(e wire.Event) { k.events = append(k.events, e) }
func (k *kept) Close() error       { k.closed = true; return nil }

func piece(lab string, step int, name string, offset int64, data string) wire.Event {
	return wire.Event{Kind: wire.Captured, Lab: lab, Capture: &wire.Capture{Step: step, Name: name, Offset: offset, Data: []byte(data)}}
}

func last(e wire.Event, message string) wire.Event {
	e.Capture.Last, e.Message = true, message
	return e
}

func TestCaptures(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var warn bytes.Buffer
	next := &kept{}
	s, err := report.Captures(dir, &warn, next)
	if err != nil {
		t.Fatal(err)
	}
	s.Event(wire.Event{Kind: wire.LabStarted, Lab: "dr/sysctl"})
	s.Event(piece("dr/sysctl", 1, "They answer, in turn!", 0, "one "))
	s.Event(piece("tun/from-dr", 12, "", 0, "other"))
	s.Event(piece("dr/sysctl", 1, "They answer, in turn!", 4, "two"))
	s.Event(last(piece("dr/sysctl", 1, "They answer, in turn!", 7, ""), "web1:eth0 lost 3 packets\x1b[2J"))
	s.Event(last(piece("tun/from-dr", 12, "", 5, ""), ""))
	s.Event(last(piece("../../../etc", 1, "../../passwd", 0, "x"), ""))
	s.Event(piece("dr/killed", 1, "half", 0, "ha")) // its last piece never comes
	s.Event(wire.Event{Kind: wire.Captured, Lab: "without"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(next.events) != 1 || next.events[0].Kind != wire.LabStarted || !next.closed {
		t.Errorf("passed on: %v, closed %t", next.events, next.closed)
	}
	for name, want := range map[string]string{
		"dr/sysctl/01-they-answer-in-turn.pcapng": "one two", "tun/from-dr/12.pcapng": "other", "etc/01-passwd.pcapng": "x", "dr/killed/01-half.pcapng": "ha",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if w := warn.String(); strings.Count(w, "\n") != 1 || strings.Contains(w, "\x1b") ||
		!strings.HasPrefix(w, "lvslab: capture dr/sysctl/01-they-answer-in-turn.pcapng is not whole: web1:eth0 lost 3 packets") {
		t.Errorf("%q", w)
	}
}

func TestCapturesCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Captures(filepath.Join(file, "dir"), new(bytes.Buffer), &kept{}); err == nil {
		t.Error("a folder inside a file was made")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dr"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next := &kept{}
	s, err := report.Captures(dir, new(bytes.Buffer), next)
	if err != nil {
		t.Fatal(err)
	}
	s.Event(piece("dr/sysctl", 1, "x", 0, "x"))
	s.Event(wire.Event{Kind: wire.Done})
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "dr/sysctl/01-x.pcapng") || len(next.events) != 1 {
		t.Errorf("%v, passed on %v", err, next.events)
	}
}
