package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// runFlags are the flags of the verbs that run labs, run and test: where labs
// run, how many at once and how often, which part of them, and what is written
// about it.
type runFlags struct {
	kernel   string
	verbose  bool
	failFast bool
	strict   bool
	timeout  time.Duration
	pcap     string
	format   *formatFlag
	jobs     countFlag
	repeat   countFlag
	shard    shardFlag
	timings  string
	outputs  *outputs
}

func (a *app) addRunFlags(f *pflag.FlagSet) *runFlags {
	r := &runFlags{}
	f.StringVar(&r.kernel, "kernel", runner.Auto, "the `KERNEL` to run in: "+strings.Join(kernelWords(), ", ")+"; several with commas between them are compared")
	r.format = addFormat(f, "text, or json: one event a line")
	f.BoolVarP(&r.verbose, "verbose", "v", false, "show every step and what was done")
	f.BoolVar(&r.failFast, "fail-fast", false, "stop after the first lab that fails or is broken")
	f.DurationVar(&r.timeout, "timeout", 0, "bound each lab (default 2m0s)")
	f.StringVar(&r.pcap, "pcap", "", "write all packets of each step to `DIR`/LAB/STEP.pcapng, for tcpdump -r and wireshark")
	f.BoolVar(&r.strict, "strict", false, "a skipped lab is a failure")
	f.Var(&r.jobs, "jobs", "run at most `N` guests at once (by default one for each CPU)")
	f.Var(&r.repeat, "repeat", "run all of it `N` times, and fail where a lab's verdict changes")
	f.Var(&r.shard, "shard", "run one part of many, `3/8` or auto/8, shared out by how long labs take")
	f.StringVar(&r.timings, "timings", "", "what labs take, for --shard: the JSON events of an earlier run, in `FILE`")
	r.outputs = addOutputs(f)
	return r
}

// complete tells the shell which words these flags take.
func (r *runFlags) complete(c *cobra.Command) {
	kernels := []string{runner.Auto}
	for _, b := range backends(nil) {
		kernels = append(kernels, b.Name())
	}
	kernels = append(kernels, kernel.QEMU.Word(kernel.Debian))
	// It fails only for a flag that is not there, or completed already.
	_ = c.RegisterFlagCompletionFunc("kernel", cobra.FixedCompletions(kernels, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatText, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"jobs", "repeat", "shard", "timeout"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

var errNegativeTimeout = errors.New("--timeout must not be negative")

// work is what a verb has chosen to run.
type work struct {
	files []wire.File
	// kept are the files as --artifacts keeps them, where those alone would not be
	// the same run; nil means that they are.
	kept []wire.File
	// labs are those of the files that were chosen, in the order in which they
	// are reported.
	labs []*scenarios.Lab
	// omit are roles to leave out; a lab without them is not run.
	omit []topology.Role
	// rerun is the command that runs the named labs again.
	rerun func(names []string) string
	// flags are those of the verb's own that the run needs to be the same run.
	flags []string
	// mapEvent, if there is one, is what every event goes through before it is
	// reported. It is called by one goroutine at a time.
	mapEvent func(wire.Event) wire.Event
}

// execute runs what was chosen, as the flags say, and reports it. The verb's
// exit status is then that of the verdicts.
func (a *app) execute(ctx context.Context, f *runFlags, w work) error {
	if f.timeout < 0 {
		return usageError{errNegativeTimeout}
	}
	targets, err := a.targets(f)
	if err != nil {
		return err
	}
	all, err := playing(w.labs, w.omit)
	if err != nil {
		return err
	}
	part, err := f.part(all)
	if err != nil {
		return err
	}
	x := &execution{app: a, flags: f, work: w, part: part, o: runner.Options{
		Files: w.files, Labs: labNames(part.labs), Omit: w.omit, FailFast: f.failFast, Timeout: f.timeout,
		Kernels: int(f.jobs), Capture: f.pcap != "" || f.outputs.capture(), Verbose: f.verbose,
	}}
	switch {
	case len(part.labs) == 0:
		return x.nothing()
	case len(targets) > 1:
		return x.matrix(ctx, targets)
	}
	return x.one(ctx, targets[0])
}

// execution is one call of execute.
type execution struct {
	*app
	flags *runFlags
	work  work
	part  part
	o     runner.Options
}

// one runs everything on what one word of --kernel stands for.
func (x *execution) one(ctx context.Context, t target) error {
	sink, err := x.sink()
	if err != nil {
		return err
	}
	counts, err := x.run(ctx, t, x.through(sink.Event))
	x.flags.outputs.fail(err)
	if cerr := sink.Close(); err == nil {
		err = cerr
	}
	x.exit = report.ExitCode(counts, x.flags.strict)
	return err
}

// run is runner.Run on a target, as often as is asked for.
func (x *execution) run(ctx context.Context, t target, emit func(wire.Event)) (wire.Counts, error) {
	o := x.o
	o.Kernel, o.Backends = t.kernel, t.backends
	if n := int(x.flags.repeat); n > 1 {
		return runner.Repeat(ctx, o, n, emit)
	}
	return runner.Run(ctx, o, emit)
}

// through is what events go through on their way to a report.
func (x *execution) through(next func(wire.Event)) func(wire.Event) {
	return func(e wire.Event) {
		if s := x.part.shard; s != nil && (e.Kind == wire.RunStarted || e.Kind == wire.RunFinished) {
			e.Shard = s
			if e.Kind == wire.RunStarted {
				e.Message = strings.TrimPrefix(e.Message+"\n"+x.part.String(), "\n")
			}
		}
		if x.work.mapEvent != nil {
			e = x.work.mapEvent(e)
		}
		next(e)
	}
}

// sink is all that is written about a run on one kernel.
func (x *execution) sink() (report.Sink, error) {
	packets, err := x.packets(x.flags.pcap)
	if err != nil {
		return nil, err
	}
	sink, err := x.flags.outputs.sink(x.app, x.screen(), x.reported())
	if err != nil {
		return nil, err
	}
	return report.Tee(packets, sink), nil
}

// screen is the report on standard output.
func (x *execution) screen() report.Sink {
	labs := x.o.Labs
	if *x.flags.format == formatText && x.part.shard == nil {
		labs = labNames(x.work.labs) // a person is told of those that have no such role
	}
	return x.sinkWith(*x.flags.format, report.TextOptions{Verbose: x.flags.verbose, Labs: labs, Rerun: x.work.rerun})
}

// printsText reports whether standard output is for a person.
func (x *execution) printsText() bool {
	return *x.flags.format == formatText && x.flags.outputs.tap != standardOutput && x.flags.outputs.json != standardOutput
}

// reported is what the reports for programs must know: of the labs, those that
// are run.
func (x *execution) reported() reported {
	files := x.work.files
	if x.work.kept != nil {
		files = x.work.kept
	}
	return reported{labs: x.o.Labs, files: files, flags: append(x.flags.words(), x.work.flags...), format: *x.flags.format}
}

// packets takes the packets of steps, into files below a folder; "" is for none.
func (a *app) packets(dir string) (report.Sink, error) {
	if dir == "" {
		return report.Tee(), nil
	}
	sink, err := report.Captures(dir, a.err, report.Tee())
	if err != nil {
		return nil, usageError{fmt.Errorf("--pcap: %w", err)}
	}
	return sink, nil
}

// words are the flags that a run of the same labs needs to be the same run. Which
// part of a whole it was does not matter to labs that are named.
func (r *runFlags) words() []string {
	var words []string
	if r.kernel != runner.Auto {
		words = append(words, "--kernel", r.kernel)
	}
	if r.repeat > 1 {
		words = append(words, "--repeat", r.repeat.String())
	}
	return words
}

// log is where lines go for a person who asked for more; nil for nowhere.
func (r *runFlags) log(a *app) io.Writer {
	if r.verbose && *r.format == formatText {
		return a.err
	}
	return nil
}

func labNames(labs []*scenarios.Lab) []string {
	names := make([]string, len(labs))
	for i, l := range labs {
		names[i] = l.Name
	}
	return names
}

// countFlag is a flag that counts something, from 1; 0 if it was not given.
type countFlag int

func (c *countFlag) String() string { return strconv.Itoa(int(*c)) }
func (c *countFlag) Type() string   { return "count" }

// most bounds what is counted: any more is a mistake of typing.
const most = 1_000_000

func (c *countFlag) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("wanted a number from 1 to %d", most)
	}
	*c = countFlag(n)
	return nil
}
