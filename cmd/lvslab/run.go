package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) runCmd() *cobra.Command {
	var o runner.Options
	var format *formatFlag
	var strict bool
	var omit, set []string
	var pcap, in string
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
  lvslab run dr/sysctl --set virtual_services.web.scheduler=sh
                                another one: any value of the networks, nodes,
                                virtual_services and sysctls, by its path`,
		RunE: func(c *cobra.Command, args []string) error {
			if o.Timeout < 0 {
				return usageError{errors.New("--timeout must not be negative")}
			}
			if in != "" {
				for _, f := range []string{"kernel", "omit", "set", "fail-fast", "strict"} {
					if c.Flags().Changed(f) {
						return usageError{fmt.Errorf("--%s: %w", f, errOnlyOwnKernel)}
					}
				}
				words := []string{"lvslab run --in", shellWord(in)}
				for _, arg := range args {
					words = append(words, shellWord(arg))
				}
				return a.runIn(c.Context(), inLab{name: in, steps: args, timeout: o.Timeout, pcap: pcap, format: *format, again: strings.Join(words, " ")})
			}
			var log io.Writer
			if o.Verbose && *format == formatText {
				log = a.err
			}
			o.Backends = backends(log)
			if known := kernelWords(o.Backends); !slices.Contains(known, o.Kernel) {
				return usageError{errors.New("--kernel: " + source.Unknown("kernel", o.Kernel, known))}
			}
			sel := pick(args)
			for i := range sel.files {
				sel.files[i].Set = set
			}
			chosen, err := sel.load()
			if err != nil {
				return err
			}
			chosen.flags = sameRun(o.Kernel, omit, set)
			o.Files = sel.files
			if sel.partial() {
				o.Labs = chosen.names()
			}
			for _, r := range omit {
				o.Omit = append(o.Omit, topology.Role(r))
			}
			sink := a.sink(*format, o.Verbose, chosen)
			if pcap != "" {
				o.Capture = true
				if sink, err = report.Captures(pcap, a.err, sink); err != nil {
					return usageError{fmt.Errorf("--pcap: %w", err)}
				}
			}
			counts, err := runner.Run(c.Context(), o, sink.Event)
			if cerr := sink.Close(); err == nil {
				err = cerr
			}
			if errors.Is(err, runner.ErrNothingToRun) && len(omit) > 0 {
				err = noSuchRole(omit, args, chosen)
			}
			a.exit = report.ExitCode(counts, strict)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Kernel, "kernel", runner.Auto, "where to run: "+strings.Join(kernelWords(backends(nil)), ", "))
	format = addFormat(f, "text, or json: one event a line")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "show every step and what was done")
	f.BoolVar(&o.FailFast, "fail-fast", false, "stop after the first lab that fails or is broken")
	f.DurationVar(&o.Timeout, "timeout", 0, "bound each lab (default 2m0s)")
	f.StringVar(&in, "in", "", "do steps in `LAB`, which is up")
	f.StringVar(&pcap, "pcap", "", "write all packets of each step to `DIR`/LAB/STEP.pcapng, for tcpdump -r and wireshark")
	f.BoolVar(&strict, "strict", false, "a skipped lab is a failure")
	f.StringSliceVar(&omit, "omit", nil, "leave out all that plays a `role` (such as arp-announce), on purpose")
	f.StringArrayVar(&set, "set", nil, "lay `PATH=VALUE` over the lab (virtual_services.web.scheduler=wrr; null takes a thing out)")
	return c
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

func (a *app) sink(format formatFlag, verbose bool, chosen *chosen) report.Sink {
	return a.sinkWith(format, report.TextOptions{Verbose: verbose, Labs: chosen.names(), Rerun: chosen.rerun})
}

// sinkWith is a report on standard output, as it suits that.
func (a *app) sinkWith(format formatFlag, t report.TextOptions) report.Sink {
	if format == formatJSON {
		return report.JSON(a.out)
	}
	o := report.TextOptions{}
	if f, ok := a.out.file(); ok {
		o = report.Detect(f, os.Getenv)
	}
	o.Verbose, o.Labs, o.Rerun = t.Verbose, t.Labs, t.Rerun
	return report.Text(a.out, o)
}
