package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology/source"
)

// Fault implements live.Lab.
func (l *Live) Fault(ctx context.Context, f live.Fault) (*live.Change, error) {
	ctx, done, err := l.changing.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	lab, plan, faults := l.state()
	s := breaking{lab: lab, ops: plan.Setup, faults: faults}
	f, err = s.check(f)
	if err != nil {
		return nil, misuse(err)
	}
	b := live.Broken{ID: f.ID(), Fault: f, Since: time.Now()}
	change, err := l.broken(ctx, plan, append(faults, b))
	if err != nil {
		return nil, err
	}
	l.log.note(f.Node, "broken on purpose: %s", f)
	return change, nil
}

// Heal implements live.Lab.
func (l *Live) Heal(ctx context.Context, h live.Heal) (*live.Change, error) {
	ctx, done, err := l.changing.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	lab, plan, faults := l.state()
	healed, left, err := chosen(lab, faults, h.IDs)
	if err != nil {
		return nil, misuse(err)
	}
	change, err := l.broken(ctx, plan, left)
	if err != nil {
		return nil, err
	}
	for _, b := range healed {
		l.log.note(b.Node, "healed: %s", b.Fault)
	}
	return change, nil
}

// broken brings the lab to other faults.
func (l *Live) broken(ctx context.Context, plan *scenarios.Plan, faults []live.Broken) (*live.Change, error) {
	_, _, had := l.state()
	l.world.keepFiles(stopped(faults))
	change, err := l.become(ctx, plan, faults, false)
	if err != nil {
		l.world.keepFiles(stopped(had))
	}
	return change, err
}

// stopped are the nodes that are switched off.
func stopped(faults []live.Broken) []string {
	var names []string
	for _, b := range faults {
		if b.Kind == live.Stop {
			names = append(names, b.Node)
		}
	}
	return names
}

// chosen parts the faults that words mean from the others. No words mean all.
func chosen(lab *scenarios.Lab, faults []live.Broken, words []string) (healed, left []live.Broken, err error) {
	if len(faults) == 0 {
		return nil, nil, errors.New("nothing is broken on purpose")
	}
	if len(words) == 0 {
		return faults, nil, nil
	}
	for _, w := range words {
		if !slices.ContainsFunc(faults, func(b live.Broken) bool { return b.Is(w) }) {
			return nil, nil, notBroken(lab, faults, w)
		}
	}
	for _, b := range faults {
		if slices.ContainsFunc(words, b.Is) {
			healed = append(healed, b)
		} else {
			left = append(left, b)
		}
	}
	return healed, left, nil
}

func notBroken(lab *scenarios.Lab, faults []live.Broken, word string) error {
	var ids []string
	for _, b := range faults {
		ids = append(ids, b.ID)
	}
	if _, ok := lab.Nodes.Get(word); ok || slices.Contains(live.FaultKinds(), word) {
		return fmt.Errorf("no fault is %q; broken are: %s", word, strings.Join(ids, ", "))
	}
	return errors.New(source.Unknown("fault", word, ids))
}

// unknownNode says that a lab has no such node, and which it has.
func unknownNode(name string, lab *scenarios.Lab) error {
	return misuse(errors.New(source.Unknown("node", name, lab.Nodes.Names())))
}

// misuse is an error of what was asked for, not of the lab.
func misuse(err error) error { return &source.Error{Msg: err.Error()} }
