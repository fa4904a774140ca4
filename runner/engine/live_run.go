package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// Run implements live.Lab. The lab's own steps begin with cold neighbour caches,
// as in a lab that has just come up; otherwise the steps meet the lab as it is, with its faults and
// with whatever was typed into its nodes by hand. What the steps' own changes
// have done is taken back; what their commands did to files is not.
func (l *Live) Run(ctx context.Context, a live.Run, emit func(wire.Event)) error {
	ctx, done, err := l.changing.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	lab, plan, _ := l.state()
	if a.Steps != nil {
		with, err := lab.WithSteps(a.Steps.Path, a.Steps.Data)
		if err != nil {
			return err
		}
		if with.NeedsIPv6() && !lab.NeedsIPv6() {
			return fmt.Errorf("%s: these steps bring IPv6 into a lab that came up without it: change the lab's file, then lvslab down and up", a.Steps.Path)
		}
		if plan, err = with.Plan(); err != nil {
			return err
		}
		lab = with
	}
	if len(plan.Steps) == 0 {
		return fmt.Errorf("lab %s has no steps; a file of steps runs in it by: lvslab run --in %s STEPS.yaml", lab.Name, lab.Name)
	}
	if err := l.have(ctx, plan.AllNeeds()); err != nil {
		return err
	}
	timeout := a.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the steps took longer than %s", timeout))
	defer cancel()

	start := time.Now()
	send := func(e wire.Event) {
		e.Version, e.Time = wire.Version, time.Now().UTC()
		emit(e)
	}
	pos := lab.Pos
	send(wire.Event{Kind: wire.LabStarted, Lab: lab.Name, Title: lab.Title, Pos: &pos})
	v, message := l.steps(ctx, lab, plan, a, send)
	l.log.note("", "ran %s: %s", count(len(plan.Steps), "step"), v)
	send(wire.Event{
		Kind: wire.LabFinished, Lab: lab.Name, Title: lab.Title, Pos: &pos,
		Verdict: v, Seconds: time.Since(start).Seconds(), Message: message,
	})
	return nil
}

// steps runs a plan's steps and brings the lab back to its setup.
func (l *Live) steps(ctx context.Context, lab *scenarios.Lab, plan *scenarios.Plan, a live.Run, send func(wire.Event)) (v wire.Verdict, message string) {
	r := &labRun{host: l.host, job: wire.Job{Capture: a.Capture}, lab: lab, emit: send, ports: &l.ports}
	r.env = newEnv(l.world, lab)
	r.env.all = a.Capture
	stands := &scenarios.Plan{Lab: lab, Setup: plan.Setup}
	if a.Steps == nil {
		// They were written for a lab in which nobody knows anybody yet.
		if err := l.forget(ctx, plan); err != nil {
			return wire.Broken, "having the nodes forget one another: " + explain(ctx, err).Error()
		}
	}
	before, err := l.remember(ctx, plan.Steps)
	if err != nil {
		return wire.Broken, "looking at the lab before its steps: " + explain(ctx, err).Error()
	}
	v, message = r.steps(ctx, plan.Steps, func(s *scenarios.Step) {
		stands = &scenarios.Plan{Lab: s.After, Setup: s.State}
	})
	r.stimuli.close()
	r.env.close()
	if l.changing.over() {
		return wire.Broken, errDown.Error() // there is nothing to be brought back
	}
	// Also after an interrupt: the lab stays, and shall be what its file says.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWait)
	defer cancel()
	if err := l.back(back, stands, plan, before); err != nil {
		return wire.Broken, "bringing the lab back to what its file says: " + err.Error()
	}
	return v, message
}

// backWait bounds the way back from what steps have changed.
const backWait = 30 * time.Second

// back takes back what steps have changed, and starts again the servers that
// they have stopped.
func (l *Live) back(ctx context.Context, stands, plan *scenarios.Plan, before *remembered) error {
	_, _, faults := l.state()
	ops, err := difference(stands, faults, plan, faults)
	if err != nil {
		return err
	}
	all, err := faulty(plan, faults)
	if err != nil {
		return err
	}
	for _, op := range all {
		// One that runs is left alone.
		if op.About().Key.Kind == "daemon" {
			ops = append(ops, op)
		}
	}
	// The tables are what they were also where the rest cannot be had back.
	return errors.Join(l.apply(ctx, plan.Lab, before.without(ops)), before.restore(ctx, l.world))
}
