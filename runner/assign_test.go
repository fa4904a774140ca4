package runner_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// fakeBackend has some features, and runs labs by saying what it would do.
type fakeBackend struct {
	name   string
	has    []string
	partly bool // can do without
	answer *runner.Answer
	boot   error
}

func (b *fakeBackend) Name() string { return b.name }

func (b *fakeBackend) Can(_ context.Context, needs []topology.Feature) runner.Answer {
	if b.answer != nil {
		return *b.answer
	}
	a := runner.Judge(b.name, needs, func(f topology.Feature) [][]string { return [][]string{{string(f)}} }, func(m string) bool { return slices.Contains(b.has, m) })
	a.Partly = a.Partly && b.partly
	return a
}

func (b *fakeBackend) Boot(context.Context) (runner.Session, error) {
	if b.boot != nil {
		return nil, b.boot
	}
	return fakeSession{b}, nil
}

type fakeSession struct{ b *fakeBackend }

func (s fakeSession) Kernel() string { return "Linux of " + s.b.name }
func (s fakeSession) Close() error   { return nil }
func (s fakeSession) Err() error     { return nil }

func (s fakeSession) Ended() <-chan struct{} { return nil }

func (s fakeSession) Up(context.Context, wire.Job) (live.Lab, error) {
	return nil, errors.New("a fake keeps no lab up")
}

func (s fakeSession) Run(_ context.Context, job wire.Job, emit func(wire.Event)) error {
	for _, l := range job.Labs {
		e := wire.Event{Kind: wire.LabFinished, Lab: l, Verdict: wire.Pass}
		if strings.Contains(l, "twos") && !slices.Contains(s.b.has, "ip_vs_twos") {
			e.Verdict, e.Message = wire.Skip, "this kernel lacks ip_vs_twos"
		}
		emit(e)
	}
	return nil
}

// labsOf reads "a:x,y b:z": labs and what they need.
func labsOf(text string) []runner.LabNeeds {
	var all []runner.LabNeeds
	for word := range strings.FieldsSeq(text) {
		lab, needs, _ := strings.Cut(word, ":")
		l := runner.LabNeeds{Lab: lab}
		for n := range strings.SplitSeq(needs, ",") {
			l.Needs = append(l.Needs, topology.Feature(n))
		}
		all = append(all, l)
	}
	return all
}

func TestAssign(t *testing.T) {
	host := &fakeBackend{name: "host", has: []string{"veth"}}
	uml := &fakeBackend{name: "uml", has: []string{"veth", "rr"}, partly: true}
	qemu := &fakeBackend{name: "qemu", has: []string{"veth", "rr", "twos"}, partly: true}
	none := &fakeBackend{name: "qemu", answer: &runner.Answer{Verdict: runner.No, Why: "not installed", Fix: []string{"install"}}}
	unsure := &fakeBackend{name: "host", answer: &runner.Answer{Verdict: runner.Unknown, Why: "who knows"}}
	three := []runner.Backend{host, uml, qemu}
	for _, c := range []struct {
		name     string
		backends []runner.Backend
		want     string
		labs     string
		shares   string
	}{
		{"the preferred one", three, "auto", "a:veth b:veth", "host[a b] since host is installed and has all that is needed"},
		{"all or nothing on the host", three, "auto", "a:veth b:rr", "uml[a b] since the host kernel lacks rr"},
		{"two kernels", three, "auto", "a:rr b:twos c:rr,twos d:veth", "uml[a d] since the host kernel lacks rr, twos; qemu[b c] since the uml kernel lacks twos"},
		{"the second alone", three, "auto", "a:twos", "qemu[a] since the uml kernel lacks twos"},
		{"nobody has it", three, "auto", "a:twos b:nope", "qemu[a] since the uml kernel lacks nope, twos; uml[b] which lacks what these labs need"},
		{"not installed", []runner.Backend{host, uml, none}, "auto", "a:rr b:twos", "uml[a b] since the host kernel lacks rr, twos"},
		{"by name", three, "uml", "a:rr b:twos", "uml[a b] as asked for"},
		{"unsure comes last", []runner.Backend{unsure, uml}, "auto", "a:rr", "uml[a] since the host kernel cannot: who knows"},
		{"but before nothing", []runner.Backend{unsure, none}, "auto", "a:rr", "host[a] which may or may not be able to"},
		{"host by name cannot", three, "host", "a:rr", "no kernel here can run this:\n  host: host lacks rr"},
		{"qemu by name is not there", []runner.Backend{host, none}, "qemu", "a:rr", "no kernel here can run this:\n  qemu: not installed\n    mend it with: install"},
		{"unknown", three, "kvm", "a:rr", `--kernel: unknown kernel "kvm"; Allowed: auto, host, uml, qemu`},
	} {
		shares, err := runner.Assign(t.Context(), c.backends, c.want, labsOf(c.labs))
		var got []string
		for _, s := range shares {
			got = append(got, fmt.Sprintf("%s%v %s", s.Backend.Name(), s.Labs, s.Why))
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, "; "); text != c.shares {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, text, c.shares)
		}
	}
}

const twoLabs = `
title: plain
networks: {lan: 10.0.0.0/24}
nodes: {a: {links: {eth0: lan 10.0.0.1/24}}}
`

// A run whose labs need two kernels starts one after the other, names both, and
// says which labs ran on the second; a kernel that does not start breaks its own
// labs alone.
func TestRunOnTwoKernels(t *testing.T) {
	plain := []string{"netns", "veth", "bridge", "overlay", "ip_vs", "ip_vs_rr"}
	twos := strings.Replace(exampleLab, "scheduler: rr", "scheduler: twos", 1)
	uml := &fakeBackend{name: "uml", has: plain, partly: true}
	qemu := &fakeBackend{name: "qemu", has: append(slices.Clone(plain), "ip_vs_twos"), partly: true}
	play := func(backends ...runner.Backend) (log []string, counts wire.Counts) {
		counts, err := runner.Run(t.Context(), runner.Options{
			Files:    []wire.File{{Path: "p.yaml", Name: "plain", Data: []byte(twoLabs)}, {Path: "t.yaml", Name: "twos", Data: []byte(twos)}},
			Backends: backends,
		}, func(e wire.Event) {
			log = append(log, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", e.Kind, e.Lab, e.Verdict, e.Backend, e.Message)))
		})
		if err != nil {
			t.Error(err)
		}
		return log, counts
	}
	log, counts := play(uml, qemu)
	want := []string{
		"run_started   uml kernel: Linux of uml, for the labs that need no more than it has",
		"lab_finished plain pass",
		"run_started   qemu kernel: Linux of qemu, since the uml kernel lacks ip_vs_twos",
		"lab_finished twos pass qemu",
		"run_finished  pass",
	}
	if !slices.Equal(log, want) || counts.Pass != 2 {
		t.Errorf("%+v\n%s\nwant\n%s", counts, strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
	qemu.boot = errors.New("no memory")
	if log, counts := play(uml, qemu); counts.Pass != 1 || counts.Broken != 1 || !slices.Contains(log, "lab_finished twos broken  its kernel did not start: no memory") {
		t.Errorf("%+v\n%s", counts, strings.Join(log, "\n"))
	}
	old := &fakeBackend{name: "qemu", has: plain, partly: true}
	if log, counts := play(uml, old); counts.Skip != 1 || !slices.Contains(log, "lab_finished twos skip  this kernel lacks ip_vs_twos; so does the qemu kernel (qemu lacks ip_vs_twos)") {
		t.Errorf("%+v\n%s", counts, strings.Join(log, "\n"))
	}
	none := &fakeBackend{name: "qemu", answer: &runner.Answer{Verdict: runner.No, Why: "not installed", Fix: []string{"install"}}}
	if log, counts := play(uml, none); counts.Skip != 1 || !slices.Contains(log, "lab_finished twos skip  this kernel lacks ip_vs_twos; the qemu kernel, which is not installed, may have it: see lvslab doctor") {
		t.Errorf("%+v\n%s", counts, strings.Join(log, "\n"))
	}
}
