package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

// target is what one word of --kernel stands for.
type target struct {
	kernel   string
	backends []runner.Backend
}

// targets are the kernels to run on, one after the other.
func (a *app) targets(f *runFlags) ([]target, error) {
	words := strings.Split(f.kernel, ",")
	var all []target
	for i, word := range words {
		switch {
		case slices.Contains(words[:i], word):
			return nil, usageError{fmt.Errorf("--kernel %s: %q comes twice", f.kernel, word)}
		case word == runner.Auto && len(words) > 1:
			return nil, usageError{fmt.Errorf("--kernel %s: %s leaves the choice to lvslab; name the kernels to compare", f.kernel, runner.Auto)}
		}
		backends, err := kernelBackends(word, f.log(a))
		if err != nil {
			return nil, err
		}
		all = append(all, target{word, backends})
	}
	return all, nil
}

// matrix runs everything on each of several kernels, and compares. A kernel that
// does not start leaves the others their turn.
func (x *execution) matrix(ctx context.Context, targets []target) error {
	start := time.Now()
	main := report.Tee()
	if *x.flags.format == formatJSON {
		main = x.screen()
	}
	programs, err := x.flags.outputs.sink(x.app, main, x.reported())
	if err != nil {
		return err
	}
	m := &comparison{labs: x.o.Labs, cells: make(map[cell]outcome)}
	var failed []error
	for _, t := range targets {
		m.kernels = append(m.kernels, t.kernel)
		if err = x.column(ctx, t, m, programs); err != nil {
			failed = append(failed, fmt.Errorf("--kernel %s: %w", t.kernel, err))
		}
		if ctx.Err() != nil || x.flags.failFast && m.red() {
			break
		}
	}
	if err = errors.Join(failed...); ctx.Err() != nil {
		err = context.Cause(ctx) // even between two kernels: not all were asked
	}
	counts := m.counts()
	end := wire.Event{Version: wire.Version, Kind: wire.RunFinished, Time: time.Now().UTC(), Verdict: m.worst(), Counts: &counts, Seconds: time.Since(start).Seconds()}
	if err != nil {
		end.Verdict, end.Message = wire.Broken, err.Error()
	}
	x.through(programs.Event)(end)
	if cerr := programs.Close(); err == nil {
		err = cerr
	}
	if x.printsText() {
		m.print(x.out, x.flags.strict)
	}
	x.exit = report.ExitCode(counts, x.flags.strict)
	return err
}

// column runs everything on one of the kernels. A person reads a report of each;
// programs read one of all, in which each lab says where it ran.
func (x *execution) column(ctx context.Context, t target, m *comparison, programs report.Sink) error {
	dir := x.flags.pcap
	if dir != "" {
		dir = filepath.Join(dir, kernelFolder(t.kernel))
	}
	packets, err := x.packets(dir)
	if err != nil {
		return err
	}
	text := report.Tee()
	if x.printsText() {
		text = x.screen()
		fmt.Fprintf(x.out, "== %s ==\n", visible(t.kernel))
	}
	sink := report.Tee(packets, text, &stamped{next: programs, backend: t.kernel})
	err = x.runAble(ctx, t, x.through(func(e wire.Event) {
		m.add(t.kernel, e)
		sink.Event(e)
	}))
	if x.printsText() {
		fmt.Fprintln(x.out)
	}
	if cerr := sink.Close(); err == nil {
		err = cerr
	}
	return err
}

// kernelFolder is the name of a folder for what belongs to a word of --kernel.
func kernelFolder(word string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ':' || r == filepath.Separator {
			return '-'
		}
		return r
	}, word)
}

// stamped passes the events of one kernel's run on to the report of all of them,
// with the kernel's name at each lab, and without its own end.
type stamped struct {
	next            report.Sink
	backend, kernel string
}

func (s *stamped) Event(e wire.Event) {
	switch {
	case e.Kind == wire.RunFinished:
		return
	case e.Kind == wire.RunStarted:
		s.kernel, e.Backend = e.Kernel, s.backend
	case e.Lab != "":
		e.Kernel, e.Backend = s.kernel, s.backend
	}
	s.next.Event(e)
}

// Close leaves the report of all open.
func (s *stamped) Close() error { return nil }
