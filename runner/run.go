package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// Options say what to run and where.
type Options struct {
	// Files are the lab files; Labs the names of the labs in them to run. No
	// name means all.
	Files []wire.File
	Labs  []string
	// Backends are the kernels to choose from, the preferred first.
	Backends []Backend
	// Kernel is a backend's name, or Auto, which "" means too.
	Kernel string
	// Omit are roles to leave out of every plan, on purpose. A lab that has no
	// such role is not run.
	Omit []topology.Role
	// FailFast ends the run after the first lab that fails.
	FailFast bool
	// Timeout bounds one lab; 0 means the engine's default.
	Timeout time.Duration
	// Parallel is how many labs run at once; 0 means the engine's default.
	Parallel int
	// Capture asks for Captured events: the packets of every step.
	Capture bool
	// Verbose asks for Log events.
	Verbose bool
	// HostileInit is wire.Job's.
	HostileInit bool
}

// ErrNothingToRun means that the selection holds no lab.
var ErrNothingToRun = errors.New("there is no lab to run")

// Run runs labs and returns their counts. Its error is about the run as a whole
// (wrong labs, no kernel, an interrupt, whose cause is the context's); verdicts
// are no errors. Labs that no one kernel can run all of are shared out, see
// Assign: then each kernel is started after the one before it has ended, with an
// event RunStarted of its own. emit is called by one goroutine at a time.
func Run(ctx context.Context, o Options, emit func(wire.Event)) (wire.Counts, error) {
	start := time.Now()
	r := &run{emit: emit, verdicts: make(map[string]wire.Verdict), titles: make(map[string]string), needs: make(map[string][]topology.Feature)}
	needs, err := r.pick(&o)
	if err != nil {
		return wire.Counts{}, err
	}
	if o.Kernel == "" {
		o.Kernel = Auto
	}
	shares, err := Assign(ctx, o.Backends, o.Kernel, needs)
	if err != nil {
		return wire.Counts{}, err
	}
	for i, s := range shares {
		if err := r.share(ctx, &o, s, i > 0); err != nil {
			if i == 0 {
				return wire.Counts{}, cause(ctx, err)
			}
			r.broken(s.Labs, "its kernel did not start: "+cause(ctx, err).Error())
		}
		if ctx.Err() != nil || o.FailFast && wire.Worst(r.worst(), wire.Skip) != wire.Skip {
			break
		}
	}
	counts := r.counts()
	r.send(wire.Event{Kind: wire.RunFinished, Verdict: r.worst(), Counts: &counts, Seconds: time.Since(start).Seconds()})
	if ctx.Err() != nil {
		return counts, context.Cause(ctx)
	}
	return counts, nil
}

// share runs the labs of one backend, whose name goes with their verdicts if
// the run has had another. Its error is that the kernel did not start.
func (r *run) share(ctx context.Context, o *Options, s Share, other bool) error {
	session, err := s.Backend.Boot(ctx)
	if err != nil {
		return err
	}
	r.send(wire.Event{Kind: wire.RunStarted, Kernel: session.Kernel(), Backend: s.Backend.Name(), Message: "kernel: " + session.Kernel() + ", " + s.Why})
	job := wire.Job{
		Version: wire.Version, Files: o.Files, Labs: s.Labs, FailFast: o.FailFast, Parallel: o.Parallel,
		Timeout: o.Timeout, Verbose: o.Verbose, HostileInit: o.HostileInit, Capture: o.Capture,
	}
	for _, role := range o.Omit {
		job.Omit = append(job.Omit, string(role))
	}
	pass := func(e wire.Event) {
		if e.Kind == wire.LabFinished && e.Verdict == wire.Skip {
			e.Message += elsewhere(ctx, o.Backends, s.Backend, r.needs[e.Lab])
		}
		if e.Kind == wire.LabFinished && other {
			e.Kernel, e.Backend = session.Kernel(), s.Backend.Name()
		}
		r.pass(e)
	}
	err = session.Run(ctx, job, pass)
	if cerr := session.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.again(ctx, s.Backend, job, err, pass)
	}
	return nil
}

// broken gives those of the labs that have no verdict one: nothing is known.
func (r *run) broken(labs []string, why string) {
	for _, name := range labs {
		if _, done := r.verdicts[name]; !done {
			r.pass(wire.Event{
				Version: wire.Version, Time: time.Now().UTC(), Kind: wire.LabFinished,
				Lab: name, Title: r.titles[name], Verdict: wire.Broken, Message: why,
			})
		}
	}
}

// cause puts the context's cause before an error that it brought about.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// run is one run on its way.
type run struct {
	labs   []string
	titles map[string]string
	needs  map[string][]topology.Feature

	mu       sync.Mutex
	emit     func(wire.Event)
	verdicts map[string]wire.Verdict
}

// pick loads the files, picks the labs and works out what they need.
func (r *run) pick(o *Options) ([]LabNeeds, error) {
	var needs []LabNeeds
	for _, f := range o.Files {
		labs, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			return nil, err
		}
		for _, l := range labs {
			if len(o.Labs) > 0 && !slices.Contains(o.Labs, l.Name) {
				continue
			}
			if slices.Contains(r.labs, l.Name) {
				return nil, fmt.Errorf("%s: a second lab is called %s; give one of them another name", l.Pos, l.Name)
			}
			p, err := l.Plan()
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(o.Omit, func(role topology.Role) bool { return !slices.Contains(p.Roles, role) }) {
				continue
			}
			r.labs = append(r.labs, l.Name)
			r.titles[l.Name] = l.Title
			r.needs[l.Name] = p.AllNeeds()
			needs = append(needs, LabNeeds{l.Name, p.AllNeeds()})
		}
	}
	if len(r.labs) == 0 {
		return nil, ErrNothingToRun
	}
	return needs, nil
}

func (r *run) send(e wire.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Version, e.Time = wire.Version, time.Now().UTC()
	r.emit(e)
}

// pass hands a backend's event on, and keeps the verdicts.
func (r *run) pass(e wire.Event) {
	switch e.Kind {
	case wire.Hello, wire.Done:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == wire.LabFinished {
		r.verdicts[e.Lab] = e.Verdict
	}
	r.emit(e)
}

// again runs the labs that a dead kernel did not finish once more, each alone
// in a fresh one, so that one lab which kills kernels does not take the others'
// verdicts with it.
func (r *run) again(ctx context.Context, b Backend, job wire.Job, why error, pass func(wire.Event)) {
	first := why
	for _, name := range job.Labs {
		if _, done := r.verdicts[name]; done {
			continue
		}
		message := "the kernel ended before the lab did: " + first.Error()
		if ctx.Err() == nil {
			job.Labs = []string{name}
			if err := r.alone(ctx, b, job, pass); err != nil {
				message = "the kernel ended before the lab did, twice: " + err.Error()
			}
		}
		if ctx.Err() != nil {
			message = fmt.Sprintf("not finished: %v", context.Cause(ctx))
		}
		r.broken([]string{name}, message)
	}
}

func (r *run) alone(ctx context.Context, b Backend, job wire.Job, pass func(wire.Event)) error {
	s, err := b.Boot(ctx)
	if err != nil {
		return err
	}
	err = s.Run(ctx, job, pass)
	return errors.Join(err, s.Close())
}

func (r *run) counts() wire.Counts {
	var c wire.Counts
	for _, v := range r.verdicts {
		c.Add(v)
	}
	return c
}

func (r *run) worst() wire.Verdict {
	v := wire.Pass
	for _, o := range r.verdicts {
		v = wire.Worst(v, o)
	}
	return v
}
