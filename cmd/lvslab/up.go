package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

func (a *app) upCmd() *cobra.Command {
	var name, kernel string
	var omit, set []string
	var format *formatFlag
	c := &cobra.Command{
		Use:   "up LAB|FILE",
		Short: "Bring a lab up, and leave it up",
		Long: `Up builds a lab without doing its steps, and returns when it is ready: all its
servers listen, and nothing has crossed its wire yet. The lab stays up, in a
kernel of its own where it needs one, until lvslab down takes it down.

Exit status: 0 it is up; 2 wrong usage or an invalid lab file; 3 it could not be
brought up, or is up already; 130 interrupted, and nothing is left of it.`,
		Example: `  lvslab up dr/arptables              one of the shipped labs
  lvslab up my.yaml --name second     a lab of your own, under another name
  lvslab shell dr/arptables client    a shell in one of its nodes
  lvslab ps                           what is up
  lvslab down dr/arptables`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			lab, file, err := oneLab(args[0], set)
			if err != nil {
				return err
			}
			if name == "" {
				name = lab.Name
			}
			if err := scenarios.CheckName(name); err != nil {
				return usageError{fmt.Errorf("--name: %w", err)}
			}
			share, err := a.kernelFor(c, kernel, lab, omit)
			if err != nil {
				return err
			}
			start := time.Now()
			info, err := keeper.Up(c.Context(), os.Getenv, keeper.Request{
				Name: name, File: absolute(file.Path), Backend: share.Backend.Name(),
				Job: wire.Job{Version: wire.Version, Files: []wire.File{file}, Labs: []string{lab.Name}, Omit: omit},
			})
			if err != nil {
				return upFailed(err)
			}
			if *format == formatJSON {
				return a.printJSON(liveDoc{jsonVersion, info})
			}
			fmt.Fprintf(a.out, "%s is up (%.2f s): %s\n", visible(info.Name), time.Since(start).Seconds(), visible(lab.Title))
			fmt.Fprintf(a.out, "kernel: %s, %s\n", info.Kernel, share.Why)
			fmt.Fprintf(a.out, "nodes:  %s\n\n", strings.Join(lab.Nodes.Names(), ", "))
			fmt.Fprintf(a.out, "  lvslab shell %s %s\n  lvslab down %s\n", shellWord(info.Name), lab.Nodes.Names()[0], shellWord(info.Name))
			return nil
		},
		ValidArgsFunction: completeLabs,
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "call it `NAME` while it is up (default: its own name)")
	f.StringVar(&kernel, "kernel", runner.Auto, "the `KERNEL` to run in: "+strings.Join(kernelWords(), ", "))
	f.StringSliceVar(&omit, "omit", nil, "leave out all that plays a `role` (such as arp-announce), on purpose")
	f.StringArrayVar(&set, "set", nil, "lay `PATH=VALUE` over the lab (virtual_services.web.scheduler=wrr; null takes a thing out)")
	format = addFormat(f, "text or json")
	return c
}

// liveDoc is the document of up --format json.
type liveDoc struct {
	Version int       `json:"version"`
	Lab     live.Info `json:"lab"`
}

// upFailed adds the next thing to try.
func upFailed(err error) error {
	var up *keeper.UpError
	if errors.As(err, &up) && !up.Coming {
		return fmt.Errorf("%w (lvslab down %s takes it down; --name NAME brings up another one)", err, shellWord(up.Info.Name))
	}
	return err
}

// absolute is a lab file's path for when it is looked for from elsewhere; that of
// a shipped one stays as it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		if _, err := os.Stat(abs); err == nil {
			return abs
		}
	}
	return path
}

// oneLab is the one lab that an argument names, with the file that it is in.
func oneLab(arg string, set []string) (*scenarios.Lab, wire.File, error) {
	sel := pick([]string{arg})
	for i := range sel.files {
		sel.files[i].Set = set
	}
	chosen, err := sel.load()
	if err != nil {
		return nil, wire.File{}, err
	}
	if len(chosen.labs) != 1 {
		words := slices.Clone(chosen.names())
		const most = 5
		if len(words) > most {
			words = append(words[:most], "…")
		}
		return nil, wire.File{}, usageError{fmt.Errorf("%s holds %d labs, name one of them: %s", arg, len(chosen.labs), strings.Join(words, ", "))}
	}
	lab := chosen.labs[0]
	for _, f := range sel.files {
		if lab.Pos.File == f.Path {
			return lab, f, nil
		}
	}
	return nil, wire.File{}, fmt.Errorf("lab %s: %w", lab.Name, fs.ErrNotExist)
}

// kernelFor chooses the kernel of a lab that is to stay up.
func (a *app) kernelFor(c *cobra.Command, kernel string, lab *scenarios.Lab, omit []string) (runner.Share, error) {
	all, err := kernelBackends(kernel, nil)
	if err != nil {
		return runner.Share{}, err
	}
	var roles []topology.Role
	for _, r := range omit {
		roles = append(roles, topology.Role(r))
	}
	plan, err := lab.Plan(roles...)
	if err != nil {
		return runner.Share{}, err
	}
	needs := plan.AllNeeds()
	if !slices.Contains(needs, "overlay") {
		needs = append(needs, "overlay") // each node has files of its own
	}
	// What is typed into a lab that is up is not in its plan: without anything that
	// says so, it is IPVS.
	if s, err := assignAll(c.Context(), all, kernel, lab.Name, append(slices.Clone(needs), probe.IPVS)); err == nil {
		return s, nil
	}
	return assignAll(c.Context(), all, kernel, lab.Name, needs)
}

// assignAll finds one kernel that has all that a lab needs.
func assignAll(ctx context.Context, all []runner.Backend, kernel, lab string, needs []topology.Feature) (runner.Share, error) {
	shares, err := runner.Assign(ctx, all, kernel, []runner.LabNeeds{{Lab: lab, Needs: needs}})
	if err != nil {
		return runner.Share{}, err
	}
	s := shares[0]
	if answer := s.Backend.Can(ctx, needs); answer.Verdict == runner.No {
		return runner.Share{}, &runner.NoBackendError{Reasons: []runner.Reason{{Backend: s.Backend.Name(), Answer: answer}}}
	}
	return s, nil
}
