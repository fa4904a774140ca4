package runner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
)

// scriptedBackend runs labs that come to the verdicts of a script, one for each
// repetition.
type scriptedBackend struct {
	fakeBackend
	script map[string][]wire.Verdict
	stop   context.CancelCauseFunc // called in the third repetition
	runs   map[string]int
	boots  int
	closed int
}

func (b *scriptedBackend) Boot(context.Context) (runner.Session, error) {
	b.boots++
	return &scriptedSession{fakeSession{&b.fakeBackend}, b}, nil
}

type scriptedSession struct {
	fakeSession
	all *scriptedBackend
}

func (s *scriptedSession) Close() error {
	s.all.closed++
	return nil
}

func (s *scriptedSession) Run(_ context.Context, job wire.Job, emit func(wire.Event)) error {
	for _, lab := range job.Labs {
		n := s.all.runs[lab]
		s.all.runs[lab]++
		if n == 2 && s.all.stop != nil {
			s.all.stop(errors.New("stopped"))
			return errors.New("killed")
		}
		v := wire.Pass
		if script := s.all.script[lab]; n < len(script) {
			v = script[n]
		}
		emit(wire.Event{Kind: wire.LabStarted, Lab: lab})
		emit(wire.Event{Kind: wire.StepFinished, Lab: lab, Verdict: v, Step: &wire.Step{Index: 1, Of: 1, Name: fmt.Sprint("repetition ", n+1)}})
		emit(wire.Event{Kind: wire.LabFinished, Lab: lab, Verdict: v, Seconds: float64(n)})
	}
	return nil
}

func repeated(t *testing.T, b *scriptedBackend, o runner.Options, n int) (wire.Counts, []string, error) {
	t.Helper()
	b.name, b.has = "uml", []string{"netns", "veth", "bridge", "overlay", "ip_vs", "ip_vs_rr"}
	b.runs = make(map[string]int)
	for _, name := range []string{"one", "two"} {
		o.Files = append(o.Files, wire.File{Path: name + ".yaml", Name: name, Data: []byte(exampleLab)})
	}
	o.Backends = []runner.Backend{b}
	ctx := t.Context()
	if b.stop != nil {
		ctx, b.stop = context.WithCancelCause(ctx)
	}
	var seen []string
	counts, err := runner.Repeat(ctx, o, n, func(e wire.Event) {
		switch {
		case e.Kind == wire.LabFinished:
			seen = append(seen, fmt.Sprintf("%s %s %d/%d %gs %s", e.Lab, e.Verdict, e.Counts.Pass, e.Counts.Labs, e.Seconds, e.Message))
		case e.Step != nil:
			seen = append(seen, e.Lab+" "+e.Step.Name)
		case e.Kind == wire.RunFinished:
			seen = append(seen, fmt.Sprintf("%s: %s", e.Verdict, e.Message))
		case e.Kind == wire.RunStarted:
			seen = append(seen, e.Kind)
		}
	})
	return counts, seen, err
}

func TestRepeat(t *testing.T) {
	const pass, fail, skip, broken = wire.Pass, wire.Fail, wire.Skip, wire.Broken
	for _, c := range []struct {
		name   string
		script []wire.Verdict // of lab two
		o      runner.Options
		want   string
		counts wire.Counts
	}{
		{
			"steady", nil,
			runner.Options{},
			`run_started
one repetition 1
one pass 4/4 1.5s 
two repetition 1
two pass 4/4 1.5s 
pass: each lab was run 4 times, and always came to the same verdict`,
			wire.Counts{Labs: 2, Pass: 2},
		},
		{
			"fails always",
			[]wire.Verdict{fail, fail, fail, fail},
			runner.Options{},
			`run_started
one repetition 1
one pass 4/4 1.5s 
two repetition 1
two fail 0/4 1.5s 
fail: each lab was run 4 times, and always came to the same verdict`,
			wire.Counts{Labs: 2, Pass: 1, Fail: 1},
		},
		{
			"fails twice, and not at the end",
			[]wire.Verdict{pass, fail, fail, pass},
			runner.Options{},
			`run_started
one repetition 1
one pass 4/4 1.5s 
two repetition 2
two fail 2/4 1.5s flaky: its verdict changed in 4 repetitions: 2× pass, 2× fail (numbers 2, 3); number 2 is shown
fail: each lab was run 4 times; flaky: 1 of 2`,
			wire.Counts{Labs: 2, Pass: 1, Fail: 1},
		},
		{
			"skipped once, broken once",
			[]wire.Verdict{skip, pass, broken},
			runner.Options{},
			`run_started
one repetition 1
one pass 4/4 1.5s 
two repetition 3
two fail 2/4 1.5s flaky: its verdict changed in 4 repetitions: 2× pass, 1× skip (number 1), 1× broken (number 3); number 3 is shown
fail: each lab was run 4 times; flaky: 1 of 2`,
			wire.Counts{Labs: 2, Pass: 1, Fail: 1},
		},
		{
			"stops at the first failure",
			[]wire.Verdict{pass, fail},
			runner.Options{FailFast: true},
			`run_started
one repetition 1
one pass 2/2 0.5s 
two repetition 2
two fail 1/2 0.5s flaky: its verdict changed in 2 repetitions: 1× pass, 1× fail (number 2); number 2 is shown
fail: each lab was run 2 times; flaky: 1 of 2 (4 times were asked for)`,
			wire.Counts{Labs: 2, Pass: 1, Fail: 1},
		},
	} {
		b := &scriptedBackend{script: map[string][]wire.Verdict{"two": c.script}}
		counts, seen, err := repeated(t, b, c.o, 4)
		if got := strings.Join(seen, "\n"); got != c.want || err != nil || counts != c.counts {
			t.Errorf("%s: %v, %+v, and\n%s\nwanted\n%s", c.name, err, counts, got, c.want)
		}
		// One kernel has run all repetitions, and is ended.
		if b.boots != 1 || b.closed != 1 {
			t.Errorf("%s: %d kernels, %d ended", c.name, b.boots, b.closed)
		}
	}
}

// A repetition that an interrupt has cut short does not count.
func TestRepeatInterrupted(t *testing.T) {
	b := &scriptedBackend{stop: func(error) {}}
	counts, seen, err := repeated(t, b, runner.Options{}, 9)
	if err == nil || err.Error() != "stopped" || counts.Pass != 2 {
		t.Errorf("%v, %+v", err, counts)
	}
	if last := seen[len(seen)-1]; last != "broken: ended early: stopped; each lab was run 2 times, and always came to the same verdict (9 times were asked for)" {
		t.Errorf("the last event: %s", last)
	}
	if slices.Contains(seen, "one repetition 3") || b.closed != b.boots {
		t.Errorf("%d kernels, %d ended; %v", b.boots, b.closed, seen)
	}
}

// Kernels that nobody may keep, since labs of IPv6 must be among a kernel's
// first, are booted anew.
func TestRepeatIPv6(t *testing.T) {
	b := &scriptedBackend{fakeBackend: fakeBackend{name: "uml"}, runs: make(map[string]int)}
	b.answer = &runner.Answer{Verdict: runner.Yes}
	lab := "title: Six\nnetworks: {lan: 2001:db8::/64}\nnodes: {a: {links: {eth0: lan 2001:db8::1/64}}}\n"
	o := runner.Options{Backends: []runner.Backend{b}, Files: []wire.File{{Path: "six.yaml", Name: "six", Data: []byte(lab)}}}
	if _, err := runner.Repeat(t.Context(), o, 3, func(wire.Event) {}); err != nil || b.boots != 3 || b.closed != 3 {
		t.Errorf("%v: %d kernels, %d ended", err, b.boots, b.closed)
	}
	o.Kernels = 1
	if _, err := runner.Repeat(t.Context(), o, 3, func(wire.Event) {}); err != nil || b.boots != 4 || b.closed != 4 {
		t.Errorf("one kernel at a time, %v: %d kernels, %d ended", err, b.boots, b.closed)
	}
}

// Nothing to repeat is nothing to run.
func TestRepeatNothing(t *testing.T) {
	if _, err := runner.Repeat(t.Context(), runner.Options{}, 3, func(wire.Event) {}); !errors.Is(err, runner.ErrNothingToRun) {
		t.Errorf("%v", err)
	}
}
