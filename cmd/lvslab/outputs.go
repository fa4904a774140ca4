package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// standardOutput is the word for standard output in place of a file's name, and
// what --tap and --json mean without one.
const standardOutput = "-"

// outputs are the flags by which a run is reported to programs too. The verb
// that has them calls sink before the run, fail where the run came to nothing,
// and then the sink's Close.
type outputs struct {
	junit, tap, json, artifacts string

	// main is the report on standard output, extra the sinks beside it.
	main, extra report.Sink

	mu sync.Mutex
	// left are the labs without a verdict; red says that one failed or is
	// broken, and over that the run's last event has gone by.
	left      map[string]bool
	red, over bool
}

// addOutputs adds the flags of a run.
func addOutputs(f *pflag.FlagSet) *outputs {
	o := addReports(f)
	f.StringVar(&o.artifacts, "artifacts", "", "keep the packets, tables and files of labs that do not pass below `DIR`")
	return o
}

// addReports adds those flags that need nothing but events.
func addReports(f *pflag.FlagSet) *outputs {
	o := &outputs{}
	f.StringVar(&o.junit, "junit", "", "write a report in JUnit's XML to `FILE`")
	f.StringVar(&o.tap, "tap", "", "write a report in TAP 14 to `FILE` (--tap=FILE); alone, print it in place of the text")
	f.StringVar(&o.json, "json", "", "write the events, one a line, to `FILE` (--json=FILE); alone, print them in place of the text")
	f.Lookup("tap").NoOptDefVal = standardOutput
	f.Lookup("json").NoOptDefVal = standardOutput
	return o
}

// astray tells of a file that was meant for --json or --tap and, without the =,
// became an argument of its own.
func (o *outputs) astray(args []string) error {
	for name, file := range map[string]string{"json": o.json, "tap": o.tap} {
		for _, arg := range args {
			if _, err := os.Stat(arg); file == standardOutput && filepath.Ext(arg) == "."+name && errors.Is(err, fs.ErrNotExist) {
				return usageError{fmt.Errorf("--%s %s: its file stands behind a =; wanted --%s=%s", name, arg, name, shellWord(arg))}
			}
		}
	}
	return nil
}

// capture reports whether the run is to send the packets of its steps
// (runner.Options.Capture), even if nobody else asks for them.
func (o *outputs) capture() bool { return o.artifacts != "" }

// reported is what a report must know of a run before it begins.
type reported struct {
	// labs are the names of the labs, in the order in which they are reported;
	// one of them that is not run is told of.
	labs []string
	// files are the lab files, for --artifacts.
	files []wire.File
	// flags are those that the run needs to be the same run.
	flags []string
	// format is what main prints.
	format formatFlag
}

// sink is main and all that the flags ask for beside it or in its place, and
// what GitHub shows where the run is a step of a workflow there. Every file is
// made at once, so that one that cannot be written ends the run before it
// begins, and an old one is not taken for this run's.
func (o *outputs) sink(a *app, main report.Sink, run reported) (report.Sink, error) {
	if err := o.check(run.format); err != nil {
		return nil, usageError{err}
	}
	var extra []report.Sink
	for _, out := range []struct {
		flag, file string
		make       func(io.Writer) report.Sink
	}{
		{"junit", o.junit, func(w io.Writer) report.Sink { return report.JUnit(w, run.labs) }},
		{"tap", o.tap, func(w io.Writer) report.Sink { return report.TAP(w, run.labs) }},
		{"json", o.json, func(w io.Writer) report.Sink { return report.InOrder(run.labs, report.JSON(w)) }},
	} {
		switch out.file {
		case "":
		case standardOutput:
			main = out.make(a.out)
		default:
			f, err := os.Create(out.file)
			if err != nil {
				return nil, usageError{fmt.Errorf("--%s: %w", out.flag, err)}
			}
			extra = append(extra, withoutPackets{file{out.make(f), f, "--" + out.flag}})
		}
	}
	if o.artifacts != "" {
		s, err := report.Artifacts(report.ArtifactOptions{Dir: o.artifacts, Files: run.files, Flags: run.flags})
		if err != nil {
			return nil, usageError{fmt.Errorf("--artifacts: %w", err)}
		}
		extra = append(extra, s)
	}
	if inWorkflow() {
		extra = append(extra, report.GitHub(a.github(run.labs)))
	}
	o.main, o.extra = main, report.Tee(extra...)
	o.left = make(map[string]bool)
	for _, lab := range run.labs {
		o.left[lab] = true
	}
	return report.Map(report.Tee(withoutPackets{main}, o.extra), o.watch), nil
}

// inWorkflow reports whether this is a step of a workflow of GitHub's, whose
// runner reads all that is written.
func inWorkflow() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }

// github tells a workflow of GitHub's. Its commands go to standard error, which
// the runner reads as well, since standard output may be taken by a program.
func (a *app) github(labs []string) report.GitHubOptions {
	wd, _ := os.Getwd() // without it, places stay as they are
	return report.GitHubOptions{
		Commands: a.err, Summary: os.Getenv("GITHUB_STEP_SUMMARY"),
		Workspace: os.Getenv("GITHUB_WORKSPACE"), Dir: wd, Labs: labs,
	}
}

// annotate tells a workflow of GitHub's of mistakes in files.
func (a *app) annotate(mistakes ...*source.Error) {
	if inWorkflow() {
		report.GitHubErrors(a.github(nil), mistakes)
	}
}

// watch follows the run. An end that is not red, though labs were left out, as by
// an interrupt between two of them, is made one that is broken: whoever reads no
// more than the events must not take it for a success.
func (o *outputs) watch(e wire.Event) wire.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e.Kind {
	case wire.LabFinished:
		delete(o.left, e.Lab)
		o.red = o.red || e.Verdict != wire.Pass && e.Verdict != wire.Skip
	case wire.RunFinished:
		o.over = true
		if len(o.left) > 0 && !o.red && e.Verdict != wire.Broken {
			e.Verdict = wire.Broken
			if e.Message == "" {
				e.Message = fmt.Sprintf("the run ended before %s had begun", plural(len(o.left), "lab"))
			}
		}
	}
	return e
}

// fail tells the programs that read the reports why the run came to nothing: no
// kernel, no lab. People are told by the error itself. It does nothing for an
// error that is nil, or that came after the run's last event.
func (o *outputs) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil || o.extra == nil || o.over {
		return
	}
	o.over = true
	end := wire.Event{
		Version: wire.Version, Time: time.Now().UTC(), Kind: wire.RunFinished,
		Verdict: wire.Broken, Message: err.Error(), Counts: &wire.Counts{},
	}
	o.extra.Event(end)
	if o.tap == standardOutput || o.json == standardOutput {
		o.main.Event(end)
	}
}

// check refuses two reports for one place, and a report in the place of a lab.
func (o *outputs) check(format formatFlag) error {
	taken := make(map[string]string)
	if format == formatJSON {
		taken[standardOutput] = "--format json"
	}
	for _, out := range []struct{ flag, file string }{{"--junit", o.junit}, {"--tap", o.tap}, {"--json", o.json}} {
		if out.file == "" {
			continue
		}
		at := out.file
		if at != standardOutput {
			at = filepath.Clean(at)
			if isLabFile(at) {
				return fmt.Errorf("%s %s: that is the name of a lab file, which would be lost; give the report another ending", out.flag, out.file)
			}
		}
		if other, twice := taken[at]; twice {
			what := "the file " + out.file
			if at == standardOutput {
				what = "standard output"
			}
			return fmt.Errorf("%s and %s both want %s; give one of them a file of its own, as in %s=FILE", other, out.flag, what, out.flag)
		}
		taken[at] = out.flag
	}
	return nil
}

// withoutPackets spares a report the packets that somebody else asked for.
type withoutPackets struct{ report.Sink }

func (s withoutPackets) Event(e wire.Event) {
	if e.Kind != wire.Captured {
		s.Sink.Event(e)
	}
}

// file is a report in a file.
type file struct {
	report.Sink
	f    *os.File
	flag string
}

func (f file) Close() error {
	if err := errors.Join(f.Sink.Close(), f.f.Close()); err != nil {
		return fmt.Errorf("%s: %w", f.flag, err)
	}
	return nil
}
