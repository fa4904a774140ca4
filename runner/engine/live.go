package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// Live is a lab that stays up in this kernel. What stands in the kernel is at
// any time the ops of its plan, with its faults laid over them; whatever changes
// the lab is a difference of two such lists.
type Live struct {
	host  Host
	world *world
	log   *journal
	// ports are where requests of steps come from, through all runs: IPVS still
	// knows the connections of those before.
	ports node.Ports

	// changing are the turns of what changes the lab, or runs steps in it.
	changing turns

	mu     sync.Mutex // guards what follows
	lab    *scenarios.Lab
	plan   *scenarios.Plan
	faults []live.Broken // the oldest first
}

var _ live.Lab = (*Live)(nil)

// Up builds the one lab of a job and returns when it is ready, as Start does.
// What ctx ends is the building, not the lab.
func Up(ctx context.Context, host Host, job wire.Job) (*Live, error) {
	if err := wire.CheckVersion("job", job.Version); err != nil {
		return nil, err
	}
	labs, err := Labs(job)
	if err != nil {
		return nil, err
	}
	if len(labs) != 1 {
		return nil, fmt.Errorf("wanted one lab to bring up, found %d", len(labs))
	}
	l := &Live{host: host, lab: labs[0], log: newJournal(), changing: newTurns()}
	if l.plan, err = l.lab.Plan(); err != nil {
		return nil, err
	}
	if host.Room != nil {
		if err := host.Room(len(l.lab.Nodes) + len(l.lab.Networks)); err != nil {
			return nil, err
		}
	}
	if l.lab.NeedsIPv6() && host.Ensure != nil {
		// Once it is loaded for other modules, it is off for good.
		_, _ = host.Ensure(ctx, []topology.Feature{"ipv6"})
	}
	if err := l.have(ctx, l.plan.AllNeeds()); err != nil {
		return nil, err
	}
	w, err := l.newWorld()
	if err != nil {
		return nil, err
	}
	up, err := startIn(ctx, w, l.plan)
	if err != nil {
		return nil, fmt.Errorf("setting the lab up: %w", explain(ctx, err))
	}
	l.world = up.world
	go w.kernel.prepare() // for the first command
	l.log.note("", "lab %s is up: %s", l.lab.Name, count(len(l.lab.Nodes), "node"))
	return l, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// have makes features available, or says which are not to be had.
func (l *Live) have(ctx context.Context, needs []topology.Feature) error {
	programs, kernel := split(needs)
	if lacking := notInstalled(programs); len(lacking) > 0 {
		return fmt.Errorf("not installed on this machine: %s", strings.Join(lacking, ", "))
	}
	missing, err := l.host.Ensure(ctx, kernel)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("this kernel lacks %s", joinFeatures(missing))
	}
	return nil
}

// state is the lab as it stands. What it points to is never changed.
func (l *Live) state() (*scenarios.Lab, *scenarios.Plan, []live.Broken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lab, l.plan, slices.Clone(l.faults)
}

// become brings the kernel to a plan with faults laid over it. Only one whose turn
// it is may call it. With dryRun it says what it would do.
func (l *Live) become(ctx context.Context, plan *scenarios.Plan, faults []live.Broken, dryRun bool) (*live.Change, error) {
	_, was, had := l.state()
	ops, err := difference(was, had, plan, faults)
	if err != nil {
		return nil, err
	}
	change := &live.Change{Commands: []string{}, Faults: faults}
	for _, op := range ops {
		change.Commands = append(change.Commands, op.Shell(topology.Dialect{Arptables: "arptables"})...)
	}
	if dryRun {
		return change, nil
	}
	if err := l.have(ctx, append(plan.AllNeeds(), topology.Features(ops)...)); err != nil {
		return nil, err
	}
	if err := l.apply(ctx, plan.Lab, ops); err != nil {
		// What was done of it stands, and is not known exactly: the next change
		// is worked out from the state before.
		return nil, fmt.Errorf("changing the lab: %w (what was done before that stands; lvslab down and up make it anew)", explain(ctx, err))
	}
	change.Done = len(change.Commands)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lab, l.plan, l.faults = plan.Lab, plan, faults
	return change, nil
}

// difference is the ops that lead from one plan with faults to another.
func difference(was *scenarios.Plan, had []live.Broken, plan *scenarios.Plan, faults []live.Broken) ([]topology.Op, error) {
	before, err := faulty(was, had)
	if err != nil {
		return nil, err
	}
	after, err := faulty(plan, faults)
	if err != nil {
		return nil, err
	}
	return topology.Diff(before, after)
}

// apply does ops in the running lab, which is then as lab says.
func (l *Live) apply(ctx context.Context, lab *scenarios.Lab, ops []topology.Op) error {
	if err := l.world.apply(ctx, ops); err != nil {
		return err
	}
	if err := awaitNew(ctx, l.world, lab, ops); err != nil {
		return err
	}
	return awaitGroups(ctx, l.world, ops)
}

// Apply implements live.Lab.
func (l *Live) Apply(ctx context.Context, a live.Apply) (*live.Change, error) {
	labs, err := Labs(wire.Job{Version: wire.Version, Files: []wire.File{a.File}, Labs: []string{a.Lab}})
	if err != nil {
		return nil, err
	}
	plan, err := labs[0].Plan()
	if err != nil {
		return nil, err
	}
	ctx, done, err := l.changing.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	was, _, faults := l.state()
	// MAC addresses derive from the name.
	if plan.Lab.Name != was.Name {
		return nil, fmt.Errorf("the file holds the lab %s, and %s is up; another lab is brought up by lvslab up", plan.Lab.Name, was.Name)
	}
	if plan.Lab.NeedsIPv6() && !was.NeedsIPv6() {
		if missing, err := l.host.Ensure(ctx, []topology.Feature{"ipv6"}); err != nil || len(missing) > 0 {
			return nil, errors.New("the lab came up without IPv6, and its kernel cannot be given it now: lvslab down and up again")
		}
	}
	change, err := l.become(ctx, plan, faults, a.DryRun)
	if err == nil && !a.DryRun {
		l.log.note("", "applied %s: %s", a.File.Path, count(change.Done, "command"))
	}
	return change, err
}

// Status implements live.Lab.
func (l *Live) Status(context.Context) (*live.Status, error) {
	lab, _, faults := l.state()
	s := &live.Status{Lab: lab.Name, Title: lab.Title, Nodes: []string{}, Faults: faults, Process: live.Measure()}
	for _, name := range lab.Nodes.Names() {
		n, err := l.world.live(name)
		if err != nil {
			continue
		}
		s.Nodes = append(s.Nodes, name)
		s.Troubles = append(s.Troubles, n.troubles()...)
	}
	return s, nil
}

// Close takes the lab down. It ends what changes the lab, or runs steps in it, and
// waits for that.
func (l *Live) Close() error {
	defer l.changing.last()()
	return l.world.close()
}
