package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

func (a *app) reportCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "report",
		Short: "Report runs again, from the events that they have written",
		Long: `Report reads the events of runs (lvslab run --json=FILE) and makes reports of
them: for a person, in JUnit's XML, in TAP.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(c, args[0])
			}
			return c.Help()
		},
	}
	c.AddCommand(a.reportMergeCmd())
	return c
}

func (a *app) reportMergeCmd() *cobra.Command {
	var format *formatFlag
	var o *outputs
	var verbose, strict bool
	c := &cobra.Command{
		Use:   "merge FILE...",
		Short: "Make one report of several runs: of shards, or of several kernels",
		Long: `Merge makes one report of the events of several runs, as of the shards of one
(lvslab run --shard 3/8 --json=3.json), or of runs in several kernels. A FILE of
"-" is standard input; of one FILE, merge is another report of the same run.

A run that was cut off and a shard that is missing are BROKEN, and what is known
is reported. A lab that is in two files is a mistake, unless their kernels differ.

Exit status: as that of lvslab run, with 2 for files that are no events of a run,
or do not belong together.`,
		Example: `  lvslab report merge shard-*.json --junit all.xml
  lvslab report merge uml.json qemu.json --json=both.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			inputs, err := readInputs(args, c.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			if err := o.keeps(args, "one of the files to merge"); err != nil {
				return usageError{err}
			}
			events, err := report.Merge(inputs...)
			if err != nil {
				return usageError{err}
			}
			main := a.sinkWith(*format, report.TextOptions{Verbose: verbose, Rerun: rerunOf(events)})
			sink, err := o.sink(a, main, reported{format: *format})
			if err != nil {
				return err
			}
			for _, e := range events {
				sink.Event(e)
			}
			a.exit = mergedExit(events[len(events)-1], strict)
			return sink.Close()
		},
	}
	f := c.Flags()
	format = addFormat(f, "text, or json: one event a line")
	o = addReports(f)
	f.BoolVarP(&verbose, "verbose", "v", false, "show every step and what was done")
	f.BoolVar(&strict, "strict", false, "a skipped lab is a failure")
	return c
}

// readInputs reads all files, and tells the mistakes of all.
func readInputs(names []string, stdin io.Reader) ([]report.Input, error) {
	var inputs []report.Input
	var errs []error
	for _, name := range names {
		in, err := readInput(name, stdin)
		var incomplete *report.IncompleteError
		if err != nil && !errors.As(err, &incomplete) {
			errs = append(errs, err)
			continue
		}
		inputs = append(inputs, in)
	}
	return inputs, errors.Join(errs...)
}

func readInput(name string, stdin io.Reader) (report.Input, error) {
	in := report.Input{Name: name}
	r := stdin
	if name == standardOutput {
		in.Name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return in, err
		}
		defer f.Close()
		r = f
	}
	in.Events, in.Err = report.ReadEvents(r, in.Name)
	return in, in.Err
}

// keeps refuses a report in the place of one of the files that it is made of,
// which have been read as a whole by now; what says what they are.
func (o *outputs) keeps(files []string, what string) error {
	for _, out := range []struct{ flag, file string }{{"--junit", o.junit}, {"--tap", o.tap}, {"--json", o.json}} {
		info, err := os.Stat(out.file)
		if out.file == "" || err != nil {
			continue // it is not there, or cannot be written, as sink will say
		}
		for _, name := range files {
			if other, err := os.Stat(name); err == nil && os.SameFile(info, other) {
				return fmt.Errorf("%s %s: that is %s, which would be lost", out.flag, out.file, what)
			}
		}
	}
	return nil
}

// rerunOf is the command that runs labs of a run again, as far as its events tell
// where they are.
func rerunOf(events []wire.Event) func([]string) string {
	files := make(map[string]string)
	for _, e := range events {
		if e.Kind == wire.LabStarted && e.Pos != nil && len(labs.Find(e.Lab)) == 0 && isLabFile(e.Pos.File) {
			files[e.Lab] = e.Pos.File
		}
	}
	return func(names []string) string {
		words := []string{"lvslab", "run"}
		for _, name := range names {
			word := shellWord(cmp.Or(files[name], name))
			if !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
		return strings.Join(words, " ")
	}
}

// mergedExit is the status for the last event of a merged run, which may be worse
// than its labs.
func mergedExit(end wire.Event, strict bool) int {
	switch status := report.ExitCode(*end.Counts, strict); {
	case end.Verdict == wire.Broken:
		return report.ExitBroken
	case end.Verdict == wire.Fail && status == report.ExitPass:
		return report.ExitFail
	default:
		return status
	}
}
