package origin_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/origin"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

const imported = `title: drafted
nodes:
  web1: {}  # a.conf:4
  web2: {}
steps:
- name: first
  expect:
  - result: ok  # a.conf:7
- name: second  # a.conf:9
  expect:
  - result: ok
  - only: web1  # b.conf:2
virtual_services:
  web:
`

func pos(file string, line int) source.Pos { return source.Pos{File: file, Line: line} }

func files() []wire.File {
	return []wire.File{{Path: "x.yaml", Data: []byte(imported)}, {Path: "other.yaml", Data: []byte("title: by hand\nsteps:\n- name: a\n")}}
}

func TestAt(t *testing.T) {
	m := origin.Of(files())
	for line, want := range map[int]source.Pos{
		1: {}, 3: pos("a.conf", 4), 4: {}, // outside of the steps a line speaks for itself
		5: {}, 6: pos("a.conf", 7), 7: pos("a.conf", 7), 8: pos("a.conf", 7), 9: pos("a.conf", 9), // a step begins with its first place
		11: pos("a.conf", 9), 12: pos("b.conf", 2), 13: {}, 14: {}, 15: {}, 99: {}, 0: {}, -1: {},
	} {
		if got, ok := m.At(pos("x.yaml", line)); got != want || ok != want.IsValid() {
			t.Errorf("line %d came from %v (%v), wanted %v", line, got, ok, want)
		}
	}
	for _, file := range []string{"other.yaml", "nowhere.yaml"} {
		if got, ok := m.At(pos(file, 3)); ok {
			t.Errorf("%s came from %v", file, got)
		}
	}
	if got, ok := (*origin.Map)(nil).At(pos("x.yaml", 3)); ok {
		t.Errorf("nobody knows of %v", got)
	}
}

func event() wire.Event {
	step := pos("x.yaml", 9)
	return wire.Event{
		Kind: wire.StepFinished, Pos: &step, Message: "x.yaml:11:3: no answer; see xyx.yaml:11",
		Step: &wire.Step{
			Error:   "x.yaml:12:5: only: broken",
			Results: []wire.Result{{Check: "only", Pos: pos("x.yaml", 12)}, {Check: "result", Pos: pos("x.yaml", 4)}},
		},
	}
}

func TestBeside(t *testing.T) {
	e := event()
	got := origin.Of(files()).Beside(e)
	if d := cmp.Diff(event(), e); d != "" {
		t.Errorf("the event that others read has changed: %s", d)
	}
	want := event()
	from, only := pos("a.conf", 9), pos("b.conf", 2)
	want.From, want.Step.Results[0].From = &from, &only
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestInstead(t *testing.T) {
	m := origin.Of(files())
	m.Whole("x.yaml", pos("a.conf", 1))
	got := m.Instead(event())
	want := event()
	step := pos("a.conf", 9)
	want.Pos = &step
	want.Message = "a.conf:9: no answer; see xyx.yaml:11"
	want.Step.Error = "b.conf:2: only: broken"
	want.Step.Results[0].Pos, want.Step.Results[1].Pos = pos("b.conf", 2), pos("a.conf", 1)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Of a lab that was not imported nothing is known.
	by := pos("other.yaml", 3)
	if got := m.Instead(wire.Event{Pos: &by}); *got.Pos != by {
		t.Errorf("%v instead of %v", *got.Pos, by)
	}
}
