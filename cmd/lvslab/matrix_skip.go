package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// runAble is run for one of several kernels: labs that need what the kernel has
// not got are skipped, even by a backend that refuses them together with all the
// others, as the machine's own kernel does.
func (x *execution) runAble(ctx context.Context, t target, emit func(wire.Event)) error {
	_, err := x.run(ctx, t, emit)
	var none *runner.NoBackendError
	if !errors.As(err, &none) || len(none.Reasons) != 1 || len(none.Reasons[0].Answer.Lacks) == 0 {
		return err
	}
	part := *x
	part.o.Labs = nil
	var skipped []wire.Event
	for _, l := range x.part.labs {
		if lacks := lacking(l, none.Reasons[0].Answer.Lacks); len(lacks) > 0 {
			skipped = append(skipped, wire.Event{
				Version: wire.Version, Kind: wire.LabFinished, Lab: l.Name, Title: l.Title, Pos: &l.Pos,
				Verdict: wire.Skip, Message: "this kernel lacks " + strings.Join(lacks, ", "),
			})
			continue
		}
		part.o.Labs = append(part.o.Labs, l.Name)
	}
	if len(skipped) == 0 || len(part.o.Labs) == 0 {
		return err // the kernel can do nothing of what is wanted
	}
	n, told := len(skipped), false
	_, err = part.run(ctx, t, func(e wire.Event) {
		if e.Kind == wire.RunFinished && e.Counts != nil {
			counts := *e.Counts
			counts.Labs, counts.Skip = counts.Labs+n, counts.Skip+n
			e.Counts, e.Verdict = &counts, wire.Worst(e.Verdict, wire.Skip)
		}
		emit(e)
		if e.Kind == wire.RunStarted && !told {
			told = true
			for _, s := range skipped {
				s.Time = time.Now().UTC()
				emit(s)
			}
		}
	})
	return err
}

// lacking are those of the features that a lab needs.
func lacking(l *scenarios.Lab, lacks []string) []string {
	p, err := l.Plan()
	if err != nil {
		return nil // the run will tell
	}
	var words []string
	for _, f := range p.AllNeeds() {
		if slices.Contains(lacks, string(f)) {
			words = append(words, string(f))
		}
	}
	return words
}
