package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// inLab is a run of steps in a lab that is up.
type inLab struct {
	name string
	// steps are files of steps; none means the lab's own.
	steps   []string
	timeout time.Duration
	pcap    string
	format  formatFlag
	outputs *outputs
	// again is the command line that does the same once more.
	again string
}

// runIn runs steps in a lab that is up, one file after the other, and reports
// them as a run.
func (a *app) runIn(ctx context.Context, o inLab) error {
	conn, err := a.connect(ctx, o.name)
	if err != nil {
		return err
	}
	defer conn.Close()
	files, err := readStepFiles(o.steps)
	if err != nil {
		return err
	}
	t := report.TextOptions{Verbose: true, Labs: []string{conn.Info.Lab}, Rerun: func([]string) string { return o.again }}
	sink, err := o.outputs.sink(a, a.sinkWith(o.format, t), reported{labs: t.Labs, format: o.format})
	if err != nil {
		return err
	}
	packets, err := a.packets(o.pcap)
	if err != nil {
		return err
	}
	sink = report.Tee(packets, sink)
	start := time.Now()
	send := func(e wire.Event) {
		e.Version, e.Time = wire.Version, time.Now().UTC()
		sink.Event(e)
	}
	send(wire.Event{
		Kind: wire.RunStarted, Kernel: conn.Info.Kernel, Backend: conn.Info.Backend,
		Message: fmt.Sprintf("kernel: %s, where %s has been up for %s", conn.Info.Kernel, conn.Info.Name, age(time.Since(conn.Info.Ready))) +
			brokenNow(ctx, conn.Lab),
	})
	var counts wire.Counts
	worst := wire.Pass
	for _, f := range files {
		err = conn.Lab.Run(ctx, live.Run{Steps: f, Timeout: o.timeout, Capture: o.pcap != "" || o.outputs.capture()}, func(e wire.Event) {
			if e.Kind == wire.LabFinished {
				counts.Add(e.Verdict)
				worst = wire.Worst(worst, e.Verdict)
			}
			sink.Event(e)
		})
		if err != nil {
			break
		}
	}
	send(wire.Event{Kind: wire.RunFinished, Verdict: worst, Counts: &counts, Seconds: time.Since(start).Seconds()})
	o.outputs.fail(err)
	if cerr := sink.Close(); err == nil {
		err = cerr
	}
	a.exit = report.ExitCode(counts, false)
	return err
}

// readStepFiles reads all files before the first of them is run.
func readStepFiles(paths []string) ([]*wire.File, error) {
	if len(paths) == 0 {
		return []*wire.File{nil}, nil
	}
	var files []*wire.File
	var errs source.List
	for _, p := range paths {
		data, err := source.Read(p)
		if err != nil {
			errs.AddError(source.Pos{File: p}, plainError(err))
			continue
		}
		files = append(files, &wire.File{Path: p, Name: "steps", Data: data})
	}
	return files, errs.Err()
}

// errOnlyOwnKernel refuses flags that say how a lab is made, where it is up.
var errOnlyOwnKernel = errors.New("--in runs steps in a lab that is up: its kernel, and what is left out or set in it, were chosen by lvslab up")

// brokenNow reminds of what is broken on purpose, which may well be why a step
// fails; "" if nothing is. A lab that does not answer tells so when it is run in.
func brokenNow(ctx context.Context, lab live.Lab) string {
	s, err := lab.Status(ctx)
	if err != nil || len(s.Faults) == 0 {
		return ""
	}
	ids := make([]string, len(s.Faults))
	for i, f := range s.Faults {
		ids[i] = f.ID
	}
	return "\n" + healthFaulty + ": " + strings.Join(ids, ", ")
}
