package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) checkCmd() *cobra.Command {
	var format *formatFlag
	var running bool
	c := &cobra.Command{
		Use:   "check [LAB|CHAPTER|FILE|FOLDER]... | LAB --running",
		Short: "Look for mistakes in labs, without any kernel",
		Long: `Check reads labs strictly, lays every change of every step over them, and makes
their plans. It touches no kernel.

Mistakes go to standard error as FILE:LINE:COLUMN: WHAT, all of them at once. One
that ends in a [code] cannot work on any kernel; a lab that is about such a
mistake names the code under allow:, and check then explains it.

With --running it does the steps of a lab that is up, in it, as often as wanted:
see lvslab run --in.

Exit status: 0 all is well, 2 there are mistakes; with --running that of
lvslab run.`,
		Example: `  lvslab check                  all shipped labs
  lvslab check dr/as-printed    what cannot work in this one, and why
  lvslab check my.yaml labs/    files and folders of your own
  lvslab check dr/arptables --running
                                the lab's steps, in the lab that is up`,
		RunE: func(c *cobra.Command, args []string) error {
			if running {
				if len(args) != 1 {
					return usageError{errors.New("--running wants the name of one lab that is up")}
				}
				return a.runIn(c.Context(), inLab{name: args[0], format: *format, outputs: &outputs{}, again: "lvslab check " + shellWord(args[0]) + " --running"})
			}
			chosen, err := pick(args).load()
			var errs source.List
			errs.AddError(source.Pos{}, err)
			var checks []labCheck
			for _, l := range chosen.labs {
				plan, err := l.Plan()
				if err != nil {
					errs.AddError(l.Pos, err)
					continue
				}
				checks = append(checks, newLabCheck(l, plan))
			}
			err = errs.Err()
			if *format == formatJSON {
				return errors.Join(a.printJSON(newCheckReport(checks, err)), err)
			}
			a.printChecks(checks)
			return err
		},
	}
	format = addFormat(c.Flags(), "text or json")
	c.Flags().BoolVar(&running, "running", false, "do the steps of the lab in it, which is up")
	return c
}

// labCheck is what check tells of a lab without mistakes.
type labCheck struct {
	Name  string     `json:"name"`
	Title string     `json:"title"`
	Pos   source.Pos `json:"pos"`
	Steps int        `json:"steps"`
	// Ops counts what the set-up and all changes do.
	Ops   int                `json:"ops"`
	Needs []topology.Feature `json:"needs"`
	Roles []topology.Role    `json:"roles"`
	// Findings are what cannot work in the lab, and what the lab is about.
	Findings []finding `json:"findings"`
}

// finding is one thing that a lab says, or that a step of it changes, and that
// cannot work.
type finding struct {
	Pos  source.Pos `json:"pos"`
	Code string     `json:"code,omitempty"`
	What string     `json:"what"`
	Why  string     `json:"why,omitempty"`
}

// checkReport is the document of --format json.
type checkReport struct {
	Version int        `json:"version"`
	Labs    []labCheck `json:"labs"`
	Errors  []finding  `json:"errors"`
}

func newCheckReport(checks []labCheck, err error) checkReport {
	var errs source.List
	errs.AddError(source.Pos{}, err)
	return checkReport{Version: jsonVersion, Labs: append([]labCheck{}, checks...), Errors: newFindings(errs)}
}

func newLabCheck(l *scenarios.Lab, p *scenarios.Plan) labCheck {
	c := labCheck{
		Name: l.Name, Title: l.Title, Pos: l.Pos, Steps: len(p.Steps), Ops: len(p.Setup),
		Needs: append([]topology.Feature{}, p.Needs...), Roles: append([]topology.Role{}, p.Roles...),
		Findings: newFindings(l.Findings),
	}
	for _, s := range p.Steps {
		for _, action := range s.Do {
			c.Ops += len(action.Ops)
		}
	}
	return c
}

func newFindings(errs source.List) []finding {
	list := []finding{}
	for _, e := range errs {
		list = append(list, finding{Pos: e.Pos, Code: e.Code, What: e.Msg, Why: scenarios.Explain(e.Code)})
	}
	return list
}

func (a *app) printChecks(checks []labCheck) {
	width := 0
	for _, c := range checks {
		width = max(width, widest(visible(c.Name)))
	}
	for _, c := range checks {
		line := fmt.Sprintf("%s  ok, %s, %s", pad(visible(c.Name), width), plural(c.Steps, "step"), plural(c.Ops, "op"))
		if n := len(c.Findings); n > 0 {
			line += fmt.Sprintf("; %s cannot work, and the lab is about that:", plural(n, "thing"))
		}
		fmt.Fprintln(a.out, line)
		a.printFindings(c.Findings)
	}
}

// printFindings prints each kind of finding once with its reason, and under it
// the places.
func (a *app) printFindings(all []finding) {
	var codes []string
	for _, f := range all {
		if !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	for _, code := range codes {
		fmt.Fprintf(a.out, "  %s: %s\n", code, scenarios.Explain(code))
		for _, f := range all {
			if f.Code == code {
				fmt.Fprintf(a.out, "    %s: %s\n", visible(f.Pos.String()), visible(f.What))
			}
		}
	}
}
