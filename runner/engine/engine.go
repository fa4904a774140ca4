// Package engine runs labs in the kernel that it itself runs on: it applies
// their plans, does their steps, judges their expectations, and tells all of it
// as events. Whether that kernel is the machine's or a guest's is not its
// business.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

const (
	// DefaultTimeout bounds one lab where the job does not.
	DefaultTimeout = 2 * time.Minute
	// DefaultParallel is how many labs run at once in one kernel. They wait for
	// timeouts and delayed links for much of their time, so there are more than
	// CPUs; with 16 on one CPU of a busy machine, timeouts of 300 ms begin to
	// run out while a packet waits for its turn.
	DefaultParallel = 8
)

// Host is what the engine needs to know of the kernel that it runs on.
type Host struct {
	// Ensure makes features available where it may, and says which are not to
	// be had. It may be called from several goroutines.
	Ensure func(ctx context.Context, features []topology.Feature) (missing []topology.Feature, err error)
	// Room says whether the kernel can hold so many nodes, those of all labs
	// at once together; nil means that nobody asked.
	Room func(nodes int) error
	// Load loads a module of the kernel that nobody else uses; known is false
	// for one that the kernel has not. It is nil where the kernel is the
	// machine's, whose modules are not lvslab's to load.
	Load func(ctx context.Context, module string) (known bool, err error)
}

// Run runs the labs of a job and emits their events. A returned error means
// that the job itself could not be understood; what becomes of each lab is told
// by events alone. emit may be called from several goroutines.
func Run(ctx context.Context, host Host, job wire.Job, emit func(wire.Event)) error {
	if job.Version != wire.Version {
		return fmt.Errorf("the job is of version %d, this lvslab is of %d", job.Version, wire.Version)
	}
	labs, err := Labs(job)
	if err != nil {
		return err
	}
	parallel := job.Parallel
	if parallel <= 0 {
		parallel = DefaultParallel
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	send := func(e wire.Event) {
		e.Version, e.Time = wire.Version, time.Now().UTC()
		emit(e)
	}
	if slices.ContainsFunc(labs, (*scenarios.Lab).NeedsIPv6) && host.Ensure != nil {
		// Once it is loaded for labs that want it off, a kernel's ipv6 stays
		// off for all. What fails here fails again for the labs that need it.
		_, _ = host.Ensure(ctx, []topology.Feature{"ipv6"})
	}
	slots := make(chan struct{}, parallel)
	room := newRoom(host.Room)
	var wg sync.WaitGroup
	for _, lab := range labs {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			r := &labRun{host: host, room: room, job: job, lab: lab, emit: send, ports: new(node.Ports)}
			if v := r.run(ctx); job.FailFast && v != wire.Pass && v != wire.Skip {
				stop(errFailFast)
			}
		})
	}
	wg.Wait()
	return nil
}

// errFailFast ends the labs that are still under way after the first failure.
var errFailFast = errors.New("another lab did not pass, and --fail-fast was given")

// Labs are the labs of a job, in its order, with what it sets and leaves out.
func Labs(job wire.Job) ([]*scenarios.Lab, error) {
	var all []*scenarios.Lab
	for _, f := range job.Files {
		labs, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			return nil, err
		}
		for _, l := range labs {
			for _, role := range slices.Concat(f.Omit, job.Omit) {
				l.Omit = append(l.Omit, topology.Role(role))
			}
		}
		all = append(all, labs...)
	}
	var picked []*scenarios.Lab
	for _, name := range job.Labs {
		i := slices.IndexFunc(all, func(l *scenarios.Lab) bool { return l.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the job asks for lab %s, which none of its files holds", name)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// labRun is one lab on its way.
type labRun struct {
	host Host
	room *room
	job  wire.Job
	lab  *scenarios.Lab
	emit func(wire.Event)

	env     *env
	stimuli stimuli
	// pictures counts the steps that have had theirs.
	pictures int
	// ports are where the lab's requests come from.
	ports *node.Ports
}

func (r *labRun) run(ctx context.Context) wire.Verdict {
	start := time.Now()
	pos := r.lab.Pos
	r.emit(wire.Event{Kind: wire.LabStarted, Lab: r.lab.Name, Title: r.lab.Title, Pos: &pos})
	// First of all: the plan alone of a lab that is far too large would be more
	// than a guest can hold.
	leave, err := r.room.enter(ctx, len(r.lab.Nodes)+len(r.lab.Networks))
	timeout := r.job.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the lab took longer than %s", timeout))
	defer cancel()
	var v wire.Verdict
	var message string
	if err == nil {
		v, message = r.guarded(ctx)
		leave()
	} else {
		v, message = wire.Broken, err.Error()
	}
	r.emit(wire.Event{
		Kind: wire.LabFinished, Lab: r.lab.Name, Title: r.lab.Title, Pos: &pos,
		Verdict: v, Seconds: time.Since(start).Seconds(), Message: message,
	})
	return v
}

// guarded sets the lab up, runs its steps, and takes it down, whatever happens.
func (r *labRun) guarded(ctx context.Context) (v wire.Verdict, message string) {
	plan, err := r.lab.Plan()
	if err != nil {
		return wire.Broken, err.Error()
	}
	programs, needs := split(plan.AllNeeds())
	if lacking := notInstalled(programs); len(lacking) > 0 {
		return wire.Skip, "not installed on this machine: " + strings.Join(lacking, ", ")
	}
	missing, err := r.host.Ensure(ctx, needs)
	if err != nil {
		return wire.Broken, err.Error()
	}
	if len(missing) > 0 {
		return wire.Skip, "this kernel lacks " + joinFeatures(missing)
	}
	up, err := Start(ctx, plan)
	if err != nil {
		return wire.Broken, "setting the lab up: " + explain(ctx, err).Error()
	}
	r.env = newEnv(up.world, r.lab)
	r.env.all = r.job.Capture
	defer func() {
		r.stimuli.close()
		r.env.close()
		if err := up.Close(); err != nil && v != wire.Broken {
			v, message = wire.Broken, "taking the lab down: "+err.Error()
		}
	}()
	return r.steps(ctx, plan.Steps, func(*scenarios.Step) {})
}

// explain puts a context's cause in the place of its bare error.
func explain(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

func joinFeatures(fs []topology.Feature) string {
	var words []string
	for _, f := range fs {
		words = append(words, string(f))
	}
	return strings.Join(words, ", ")
}
