package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

// Whoever reads the events alone does not take a run for a success that left labs
// out, or that came to nothing, and is told of each end once.
func TestOutputsOfHalfARun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first   wire.Verdict
		end     wire.Verdict // "" if the run did not come to it
		err     error
		verdict wire.Verdict
		message string
	}{
		"whole but for one":  {wire.Pass, wire.Pass, nil, wire.Broken, "the run ended before 1 lab had begun"},
		"stopped by a fault": {wire.Fail, wire.Fail, nil, wire.Fail, ""},
		"interrupted":        {wire.Pass, wire.Pass, errInterrupted, wire.Broken, "the run ended before 1 lab had begun"},
		"no kernel":          {"", "", errors.New("no kernel"), wire.Broken, "no kernel"},
	} {
		path := filepath.Join(t.TempDir(), "events")
		o := &outputs{json: path}
		a := &app{out: &outlet{w: new(bytes.Buffer), full: func() {}}, err: new(bytes.Buffer)}
		s, err := o.sink(a, report.Text(a.out, report.TextOptions{}), reported{labs: []string{"a", "b"}, format: formatText})
		if err != nil {
			t.Fatal(err)
		}
		var counts wire.Counts
		if c.first != "" {
			counts.Add(c.first)
			s.Event(wire.Event{Kind: wire.LabFinished, Lab: "a", Verdict: c.first})
		}
		if c.end != "" {
			s.Event(wire.Event{Kind: wire.RunFinished, Verdict: c.end, Counts: &counts})
		}
		o.fail(c.err)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		events, err := report.ReadEvents(f, name)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if last := events[len(events)-1]; last.Verdict != c.verdict || last.Message != c.message {
			t.Errorf("%s: %s %q", name, last.Verdict, last.Message)
		}
	}
}

// A report that cannot be written whole is an error that names its flag.
func TestOutputsOnAFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	o := &outputs{junit: "/dev/full"}
	a := &app{out: &outlet{w: new(bytes.Buffer), full: func() {}}, err: new(bytes.Buffer)}
	s, err := o.sink(a, report.JSON(a.out), reported{format: formatText})
	if err != nil {
		t.Fatal(err)
	}
	s.Event(wire.Event{Kind: wire.RunFinished, Verdict: wire.Pass, Counts: &wire.Counts{}})
	if err := s.Close(); err == nil || err.Error() != "--junit: writing the report: write /dev/full: no space left on device" {
		t.Errorf("%v", err)
	}
}
