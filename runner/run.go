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
	// Kernels is how many guests of a backend run at once at most, if that has
	// several (Shards); 0 leaves it to the backend.
	Kernels int
	// Parallel is how many labs run at once, in all kernels together; 0 means
	// the engine's default in each.
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
	r := newRun(emit)
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
// the run has had another. Its error is that no kernel started.
func (r *run) share(ctx context.Context, o *Options, s Share, other bool) error {
	kernels := 1
	// The first failure ends the run, which only one kernel can be sure of.
	if b, ok := s.Backend.(Shards); ok && !o.FailFast {
		kernels = min(b.Shards(), (len(s.Labs)+labsPerKernel-1)/labsPerKernel)
		if o.Kernels > 0 {
			kernels = o.Kernels
		}
	}
	if o.Parallel > 0 {
		kernels = min(kernels, o.Parallel)
	}
	var tasks []task
	for _, name := range s.Labs {
		tasks = append(tasks, r.tasks[name])
	}
	d := newDeck(tasks, kernels)
	w := worker{run: r, o: o, share: s, deck: d, other: other, parallel: o.Parallel / len(d.hands)}
	errs := make([]error, len(d.hands))
	var wg sync.WaitGroup
	for i, hand := range d.hands {
		wg.Go(func() { errs[i] = w.work(ctx, hand) })
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil {
			continue
		}
		if !w.started {
			return err
		}
		// There may be room for a kernel now that the others have ended.
		if err := w.work(ctx, d.hands[i]); err != nil {
			r.broken(d.hands[i], "its kernel did not start: "+cause(ctx, err).Error())
		}
	}
	return nil
}

// worker runs hands of labs in kernels of one backend.
type worker struct {
	*run
	o        *Options
	share    Share
	deck     *deck
	other    bool
	parallel int // labs at once in each kernel, 0 for the engine's default

	announce sync.Mutex
	started  bool // a kernel has
}

// work boots a kernel and runs a hand of labs in it, and more of them until
// there are none. One that dies is followed by another. Its error is that the
// first did not start, and the hand is then as it was.
func (w *worker) work(ctx context.Context, hand []string) error {
	session, err := w.share.Backend.Boot(ctx)
	if err != nil {
		return err
	}
	w.start(session)
	for ; len(hand) > 0; hand = w.deck.more() {
		job := w.job(hand)
		if session == nil {
			if session, err = w.share.Backend.Boot(ctx); err != nil {
				session = nil
				w.again(ctx, w.share.Backend, job, err, w.event(ctx, w.share.Backend.Name()))
				continue
			}
		}
		pass := w.event(ctx, session.Kernel())
		if err := session.Run(ctx, job, pass); err != nil {
			_ = session.Close() // err says what there is to say
			session = nil
			w.again(ctx, w.share.Backend, job, err, pass)
		}
	}
	if session != nil {
		_ = session.Close() // all its labs have their verdicts
	}
	return nil
}

// start tells of the first kernel; the others are like it.
func (w *worker) start(session Session) {
	w.announce.Lock()
	defer w.announce.Unlock()
	if w.started {
		return
	}
	w.started = true
	w.send(wire.Event{
		Kind: wire.RunStarted, Kernel: session.Kernel(), Backend: w.share.Backend.Name(),
		Message: "kernel: " + session.Kernel() + ", " + w.share.Why,
	})
}

// job is that of a hand, with the files that it needs: what a guest reads costs
// it more than the machine.
func (w *worker) job(hand []string) wire.Job {
	job := wire.Job{
		Version: wire.Version, Labs: hand, FailFast: w.o.FailFast, Parallel: w.parallel,
		Timeout: w.o.Timeout, Verbose: w.o.Verbose, HostileInit: w.o.HostileInit, Capture: w.o.Capture,
	}
	for i, f := range w.o.Files {
		if slices.ContainsFunc(hand, func(name string) bool { return w.files[name] == i }) {
			job.Files = append(job.Files, f)
		}
	}
	for _, role := range w.o.Omit {
		job.Omit = append(job.Omit, string(role))
	}
	return job
}

// event is what a kernel's events go through.
func (w *worker) event(ctx context.Context, kernel string) func(wire.Event) {
	return func(e wire.Event) {
		if e.Kind == wire.LabFinished && e.Verdict == wire.Skip {
			e.Message += elsewhere(ctx, w.o.Backends, w.share.Backend, w.needs[e.Lab])
		}
		if e.Kind == wire.LabFinished && w.other {
			e.Kernel, e.Backend = kernel, w.share.Backend.Name()
		}
		w.pass(e)
	}
}

// broken gives those of the labs that have no verdict one: nothing is known.
func (r *run) broken(labs []string, why string) {
	for _, name := range labs {
		if !r.done(name) {
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
	tasks  map[string]task
	files  map[string]int // the lab's file, of Options.Files

	mu       sync.Mutex
	emit     func(wire.Event)
	verdicts map[string]wire.Verdict
}

func newRun(emit func(wire.Event)) *run {
	return &run{
		emit: emit, verdicts: make(map[string]wire.Verdict), titles: make(map[string]string), needs: make(map[string][]topology.Feature),
		tasks: make(map[string]task), files: make(map[string]int),
	}
}

// pick loads the files, picks the labs and works out what they need.
func (r *run) pick(o *Options) ([]LabNeeds, error) {
	var needs []LabNeeds
	for i, f := range o.Files {
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
			r.tasks[l.Name] = task{lab: l.Name, weight: weigh(l), ipv6: l.NeedsIPv6()}
			r.files[l.Name] = i
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
		if r.done(name) {
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

// done reports whether a lab has a verdict.
func (r *run) done(lab string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.verdicts[lab]
	return ok
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
