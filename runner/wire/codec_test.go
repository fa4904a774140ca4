package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

func TestEventRoundTrip(t *testing.T) {
	sent := []wire.Event{
		{Kind: wire.Hello, Kernel: "6.1.176"},
		{Kind: wire.StepFinished, Lab: "dr/arptables", Pos: &source.Pos{File: "a.yaml", Line: 3}, Verdict: wire.Fail, Step: &wire.Step{
			Index: 1, Of: 2, Name: "line\nbreaks\tand \x00 bytes",
			Results: []wire.Result{{Check: "rotation", Evidence: []wire.Evidence{{Title: "t", Text: strings.Repeat("x", 100<<10)}}}},
		}},
		{Kind: wire.Captured, Lab: "dr/sysctl", Capture: &wire.Capture{Step: 2, Name: "x", Offset: 1 << 40, Data: []byte{0, 10, 255, '\r'}, Last: true, Lost: 3}},
		{Kind: wire.Done},
	}
	var buf bytes.Buffer
	w := wire.NewWriter(&buf)
	for i := range sent {
		sent[i].Time = time.Unix(int64(i), 5).UTC()
		if err := w.Beat(); err != nil {
			t.Fatal(err)
		}
		if err := w.Event(sent[i]); err != nil {
			t.Fatal(err)
		}
		sent[i].Version = wire.Version
	}
	r := wire.NewReader(iotest.OneByteReader(&buf))
	for i := range sent {
		got, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(sent[i], got); d != "" {
			t.Errorf("event %d (-sent +got):\n%s", i, d)
		}
	}
	if _, err := r.Event(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
}

func TestEventTimeIsSet(t *testing.T) {
	var buf bytes.Buffer
	if err := wire.NewWriter(&buf).Event(wire.Event{Kind: wire.Log}); err != nil {
		t.Fatal(err)
	}
	e, err := wire.NewReader(&buf).Event()
	if err != nil || time.Since(e.Time) > time.Minute {
		t.Errorf("time %v, error %v", e.Time, err)
	}
}

func TestCommandRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	if err := wire.NewWriter(&buf).Command(wire.Command{Run: "job-1.json"}); err != nil {
		t.Fatal(err)
	}
	c, err := wire.NewReader(&buf).Command()
	if err != nil || c != (wire.Command{Version: wire.Version, Run: "job-1.json"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"another version", `{"version":7,"event":"hello"}` + "\n", "event has version 7, this lvslab speaks version 1"},
		{"another version of another shape", `{"version":7,"event":{}}` + "\n", "event has version 7"},
		{"no version", `{"event":"hello"}` + "\n", "event has version 0"},
		{"garbage", "Kernel panic - not syncing\n", `"Kernel panic - not syncing"`},
		{"long garbage", strings.Repeat("z", 5000) + "\n", "(5000 bytes)"},
		{"cut off", `{"version":1,"ev`, "unexpected EOF"},
		{"wrong type", `{"version":1,"seconds":"x"}` + "\n", "not a line of lvslab's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.NewReader(strings.NewReader(tt.line)).Event()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTooLong(t *testing.T) {
	w := wire.NewWriter(io.Discard)
	if err := w.Command(wire.Command{Run: strings.Repeat("x", wire.MaxCommand)}); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("writing a long command: %v", err)
	}
	if err := w.Event(wire.Event{Message: strings.Repeat("x", wire.MaxEvent)}); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("writing a long event: %v", err)
	}
	endless := io.MultiReader(strings.NewReader(strings.Repeat("y", wire.MaxEvent)), strings.NewReader("yyyy"))
	if _, err := wire.NewReader(endless).Event(); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("reading a long event: %v", err)
	}
	if _, err := wire.NewReader(strings.NewReader(strings.Repeat("y", wire.MaxCommand+1))).Command(); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("reading a long command: %v", err)
	}
}

func TestWriterConcurrent(t *testing.T) {
	pr, pw := io.Pipe()
	w := wire.NewWriter(pw)
	const writers, each = 8, 50
	go func() {
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for j := range each {
					_ = w.Beat()
					_ = w.Event(wire.Event{Kind: wire.Log, Message: fmt.Sprint(i, j, strings.Repeat("m", 3000))})
				}
			})
		}
		wg.Wait()
		pw.Close()
	}()
	r := wire.NewReader(pr)
	n := 0
	for ; ; n++ {
		if _, err := r.Event(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
	}
	if n != writers*each {
		t.Errorf("%d events, want %d", n, writers*each)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"version":1,"event":"hello","kernel":"6.1"}` + "\n"))
	f.Add([]byte("\n\r\n{}\n"))
	f.Add([]byte(`{"version":2}` + "\n" + `{"version":1,"run":"job.json"}` + "\n"))
	f.Add([]byte(`{"version":1,"step":{"results":[{"evidence":[{}]}]}}`))
	f.Add([]byte("\xff\xfe{\x00\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := wire.NewReader(bytes.NewReader(data))
		for range len(data) + 2 {
			e, err := r.Event()
			if err == nil {
				if e.Version != wire.Version {
					t.Fatalf("version %d came through", e.Version)
				}
				if _, err := json.Marshal(e); err != nil {
					t.Fatalf("what was read cannot be written: %v", err)
				}
				continue
			}
			if len(err.Error()) > 1500 {
				t.Fatalf("error of %d bytes", len(err.Error()))
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
		}
		c := wire.NewReader(bytes.NewReader(data))
		for range len(data) + 2 {
			if _, err := c.Command(); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wire.ErrTooLong) {
				break
			}
		}
	})
}

// Last is the last line: nothing gets between it and what follows on the stream,
// all of which a Reader leaves.
func TestLast(t *testing.T) {
	pr, pw := io.Pipe()
	w := wire.NewWriter(pw)
	go func() {
		var beats sync.WaitGroup
		for range 4 {
			beats.Go(func() {
				for w.Beat() == nil {
				}
			})
		}
		if err := w.Last(wire.Event{Kind: wire.Up}); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(pw, "\n\nframes")
		beats.Wait()
		for name, err := range map[string]error{"event": w.Event(wire.Event{Kind: wire.Log}), "command": w.Command(wire.Command{}), "beat": w.Beat()} {
			if !errors.Is(err, wire.ErrOver) {
				t.Errorf("%s after the last line: %v", name, err)
			}
		}
		pw.Close()
	}()
	r := wire.NewReader(pr)
	e, err := r.Event()
	if err != nil || e.Kind != wire.Up {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r.Rest())
	if string(rest) != "\n\nframes" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if err := r.Wait(); !errors.Is(err, io.EOF) {
		t.Errorf("waiting at the end: %v", err)
	}
}
