package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/origin"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) runCmd() *cobra.Command {
	var f *runFlags
	var omit, set []string
	var in string
	c := &cobra.Command{
		Use:   "run [LAB|CHAPTER|FILE|FOLDER]... | --in LAB [STEPS]...",
		Short: "Run labs and print their verdicts (all shipped labs when none is named)",
		Long: `Run sets up each lab, does its steps, and compares what the kernel does with what
the lab expects: pass, FAIL (the kernel answered otherwise), BROKEN (the lab
could not be carried out, so nothing is known), or skip (this kernel lacks
something that the lab needs).

With --in it does steps in a lab that is up (lvslab up), as it stands: the lab's
own, or those of files that hold steps and nothing else. What the steps change
in the lab is taken back at their end, so that they can be done again. Before the
lab's own steps its nodes forget one another, as when it had just come up:
neighbours, connections and what was counted of them.

--kernel with several kernels runs the labs on each of them and prints a table; what
comes to different verdicts fails. --repeat runs them many times, and fails where a
verdict changes, even if the last one was a pass. --shard 3/8 runs one part of
eight, dealt by how long labs take (known of the shipped ones, else by --timings or a
guess): the same labs make the same parts on every machine, and lvslab report merge
makes one report of them. In a pod of a Kubernetes Indexed Job the part is read from
JOB_COMPLETION_INDEX: --shard auto/8, or LVSLAB_SHARDS=8 in its environment.

Exit status: 0 all passed; 1 something failed; 2 wrong usage or an invalid lab
file; 3 something is broken, or no kernel can run the labs; 130 interrupted.`,
		Example: `  lvslab run                    all shipped labs
  lvslab run dr                 a chapter
  lvslab run dr/arptables -v    one lab, every step of it
  lvslab run my.yaml labs/      files and folders of your own
  lvslab run tun --omit tunnel-up
                                a mistake made on purpose: see lvslab plan --roles
  lvslab run --in dr/sysctl steps.yaml
                                steps in a lab that is up
  lvslab run --kernel uml,qemu tun
                                on two kernels, compared
  lvslab run --repeat 50 my.yaml
                                does it always come to the same verdict?
  lvslab run dr/sysctl --set virtual_services.web.scheduler=sh
                                another one: any value of the networks, nodes,
                                virtual_services and sysctls, by its path`,
		RunE: func(c *cobra.Command, args []string) error {
			if in != "" {
				return a.runStepsIn(c, f, in, args)
			}
			if err := f.outputs.astray(args); err != nil {
				return err
			}
			sel := pick(args)
			for i := range sel.files {
				sel.files[i].Set = set
			}
			chosen, err := sel.load()
			if err != nil {
				return err
			}
			chosen.flags = append(f.words(), sameRun(runner.Auto, omit, set)...)
			w := work{files: sel.files, labs: chosen.labs, rerun: chosen.rerun, flags: sameRun(runner.Auto, omit, set), mapEvent: origin.Of(sel.files).Beside}
			for _, r := range omit {
				w.omit = append(w.omit, topology.Role(r))
			}
			err = a.execute(c.Context(), f, w)
			if errors.Is(err, runner.ErrNothingToRun) && len(omit) > 0 {
				err = noSuchRole(omit, args, chosen)
			}
			return err
		},
	}
	fs := c.Flags()
	f = a.addRunFlags(fs)
	f.complete(c)
	fs.StringVar(&in, "in", "", "do steps in `LAB`, which is up")
	fs.StringSliceVar(&omit, "omit", nil, "leave out all that plays a `role` (such as arp-announce), on purpose")
	fs.StringArrayVar(&set, "set", nil, "lay `PATH=VALUE` over the lab (virtual_services.web.scheduler=wrr; null takes a thing out)")
	return c
}

// runStepsIn is run --in.
func (a *app) runStepsIn(c *cobra.Command, f *runFlags, in string, args []string) error {
	if f.timeout < 0 {
		return usageError{errNegativeTimeout}
	}
	for _, name := range []string{"kernel", "omit", "set", "fail-fast", "strict", "jobs", "repeat", "shard", "timings"} {
		if c.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s: %w", name, errOnlyOwnKernel)}
		}
	}
	words := []string{"lvslab run --in", shellWord(in)}
	for _, arg := range args {
		words = append(words, shellWord(arg))
	}
	return a.runIn(c.Context(), inLab{name: in, steps: args, timeout: f.timeout, pcap: f.pcap, format: *f.format, outputs: f.outputs, again: strings.Join(words, " ")})
}

// sameRun are the flags that a run of the same labs needs to be the same run.
func sameRun(kernel string, omit, set []string) []string {
	var flags []string
	if kernel != runner.Auto {
		flags = append(flags, "--kernel", kernel)
	}
	for _, r := range omit {
		flags = append(flags, "--omit", r)
	}
	for _, s := range set {
		flags = append(flags, "--set", s)
	}
	return flags
}

// noSuchRole tells of roles that none of the labs plays, with the nearest that
// is played.
func noSuchRole(omit, args []string, chosen *chosen) error {
	var known []string
	for _, l := range chosen.labs {
		if p, err := l.Plan(); err == nil {
			for _, r := range p.Roles {
				known = append(known, string(r))
			}
		}
	}
	what := "lvslab plan --roles " + strings.Join(args, " ")
	if len(args) == 0 {
		what = "lvslab plan --roles LAB"
	}
	for _, r := range omit {
		if slices.Contains(known, r) {
			continue
		}
		near := ""
		if n := source.Nearest(r, known); n != "" {
			near = fmt.Sprintf("; did you mean %q?", n)
		}
		return usageError{fmt.Errorf("--omit %s: no lab that was named has such a role%s (%s names those it has)", r, near, what)}
	}
	return usageError{fmt.Errorf("--omit %s: no lab that was named has all of these roles (%s names those it has)", strings.Join(omit, ","), what)}
}

// sinkWith is a report on standard output, as it suits that.
func (a *app) sinkWith(format formatFlag, t report.TextOptions) report.Sink {
	if format == formatJSON {
		return report.InOrder(t.Labs, report.JSON(a.out))
	}
	o := report.TextOptions{}
	if f, ok := a.out.file(); ok {
		o = report.Detect(f, os.Getenv)
	}
	o.Verbose, o.Labs, o.Rerun = t.Verbose, t.Labs, t.Rerun
	return report.Text(a.out, o)
}
