package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

const (
	// pollEvery is how often an observation is made again until it is as
	// wanted or the step's deadline has come.
	pollEvery = 10 * time.Millisecond
	// barrierWait bounds a barrier; it takes milliseconds, or twice the longest
	// delay of a link. Each node adds barrierNode: a thorough one waits for all
	// nodes to hear of all.
	barrierWait = 10 * time.Second
	barrierNode = 500 * time.Millisecond
)

// step does one step and tells what came of it.
func (r *labRun) step(ctx context.Context, i, of int, s *scenarios.Step) wire.Verdict {
	start := time.Now()
	out := wire.Step{Index: i + 1, Of: of, Name: s.Name}
	v, err := r.carryOut(ctx, s, &out)
	if err != nil {
		v = wire.Broken
		out.Error = explain(ctx, err).Error()
	}
	if r.job.Capture {
		r.record(ctx, i, s)
	}
	pos := s.Pos
	r.emit(wire.Event{
		Kind: wire.StepFinished, Lab: r.lab.Name, Pos: &pos, Verdict: v,
		Seconds: time.Since(start).Seconds(), Step: &out,
	})
	return v
}

func (r *labRun) carryOut(ctx context.Context, s *scenarios.Step, out *wire.Step) (wire.Verdict, error) {
	r.env.lab = s.After
	if err := r.env.beginStep(); err != nil {
		return wire.Broken, err
	}
	var pending []assert.Pending
	defer func() {
		for _, p := range pending {
			_ = p.Close()
		}
	}()
	for _, e := range s.Expect {
		p, err := e.Begin(ctx, r.env)
		if err != nil {
			return wire.Broken, fmt.Errorf("%s: %w", e.Pos(), err)
		}
		pending = append(pending, p)
	}
	stimulated := false
	for j := range s.Do {
		a := &s.Do[j]
		out.Did = append(out.Did, did(a)...)
		if err := r.do(ctx, a); err != nil {
			return wire.Broken, fmt.Errorf("%s: %s: %w", a.Pos, a.Words(), err)
		}
		stimulated = stimulated || !a.Changes()
	}
	if err := r.wait(ctx); err != nil {
		return wire.Broken, err
	}
	if stimulated && len(pending) > 0 {
		bctx, cancel := context.WithTimeout(ctx, r.env.barrierWait())
		err := r.env.barrier(bctx, r.env.thorough)
		cancel()
		if err != nil {
			return wire.Broken, err
		}
	}
	within := s.Within
	if within <= 0 {
		within = scenarios.DefaultWithin
	}
	deadline := time.Now().Add(within)
	v := wire.Pass
	for k, p := range pending {
		res, err := judge(ctx, p, deadline)
		if err != nil {
			return wire.Broken, err
		}
		e := s.Expect[k]
		if res.Untold != nil {
			return wire.Broken, fmt.Errorf("%s: %s: %w", e.Pos(), e.Kind(), res.Untold)
		}
		w := wire.Result{Check: e.Kind(), Pos: e.Pos(), Verdict: wire.Pass, Wanted: res.Wanted, Seen: res.Seen}
		if !res.Pass {
			w.Verdict = wire.Fail
			if res.At.IsValid() {
				w.Pos = res.At
			}
			for _, ev := range res.Evidence {
				w.Evidence = append(w.Evidence, wire.Evidence(ev))
			}
			if v == wire.Pass && r.pictures < mostPictures {
				r.pictures++
				w.Evidence = append(w.Evidence, r.picture(ctx, w.Evidence)...)
			}
			v = wire.Fail
		}
		out.Results = append(out.Results, w)
	}
	return v, nil
}

// judge asks a check until it is content, sees no point in waiting, or the
// deadline has come.
func judge(ctx context.Context, p assert.Pending, deadline time.Time) (assert.Result, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		res, again := p.Judge(ctx)
		if res.Pass || !again || time.Now().After(deadline) {
			return res, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
}

// picture is what a person would look at next under a failed step, without what
// the check has shown already.
func (r *labRun) picture(ctx context.Context, shown []wire.Evidence) []wire.Evidence {
	caps := make(map[string]assert.Capture)
	clients := r.env.lab.Clients()
	for _, l := range r.env.Links() {
		if r.env.watched[l.Node] || slices.Contains(clients, l.Node) {
			caps[captureName(l.Node, l.Device)] = l
		}
	}
	var out []wire.Evidence
next:
	for _, e := range assert.Picture(ctx, r.env, r.env.lab.Directors(), r.env.lab.Clients(), caps) {
		for _, s := range shown {
			if s.Title == e.Title {
				continue next
			}
		}
		out = append(out, wire.Evidence(e))
	}
	return append(out, r.daemonOutputs()...)
}

// did is what a step did, in the words of a person's shell.
func did(a *scenarios.Action) []string {
	if !a.Changes() {
		return []string{a.Words()}
	}
	var lines []string
	for _, op := range a.Ops {
		lines = append(lines, op.Shell(topology.Dialect{Arptables: "arptables"})...)
	}
	if len(lines) == 0 {
		lines = []string{a.Words() + ": nothing to change"}
	}
	return lines
}

// do does one action, once.
func (r *labRun) do(ctx context.Context, a *scenarios.Action) error {
	switch {
	case a.Changes():
		if err := r.env.apply(ctx, a.Ops); err != nil {
			return err
		}
		if err := awaitNew(ctx, r.env.world, r.env.lab, a.Ops); err != nil {
			return err
		}
		if err := awaitGroups(ctx, r.env.world, a.Ops); err != nil {
			return err
		}
		return r.env.changed(a.Ops)
	case a.Request != nil:
		return r.request(ctx, a.Request)
	case a.Release != nil:
		return r.release(a.Release)
	case a.Wait != nil:
		return r.wait(ctx)
	case a.Daemon != nil:
		return r.daemon(ctx, a.Kind, a.Daemon)
	case a.Ping != nil:
		return r.ping(ctx, a.Ping)
	case a.Run != nil:
		return r.command(ctx, a.Run)
	case a.Write != nil:
		n, err := r.env.live(a.Write.Node)
		if err != nil {
			return err
		}
		return n.files.WriteFile(a.Write.File, []byte(a.Write.Content), 0o644)
	case a.Save != nil:
		return r.save(ctx, a.Save)
	case a.Restore != nil:
		return r.restore(ctx, a.Restore)
	case a.Systemctl != nil:
		return r.systemctl(ctx, a.Systemctl)
	case a.Zero != nil:
		return r.zero(ctx, a.Zero)
	case a.Kind == "flush_neighbours":
		return r.flush(a.Flush)
	}
	return errors.New("lvslab does not know how to do this; that is a mistake of lvslab's")
}

// output keeps what a command, or something that stands for one, left.
func (r *labRun) output(node, command, text string, exit int) {
	r.env.outcomes.Outputs = append(r.env.outcomes.Outputs, assert.Output{
		Node: node, Command: command, Text: strings.TrimRight(text, "\n"), Exit: exit,
	})
}
