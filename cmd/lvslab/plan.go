package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// dialects are the names that arptables goes by.
var dialects = [...]string{"arptables", "arptables-legacy"}

func (a *app) planCmd() *cobra.Command {
	var dialect string
	var omit []string
	var ops, roles bool
	c := &cobra.Command{
		Use:   "plan LAB",
		Short: "Print a lab as a shell script that makes the same lab by hand",
		Example: `  lvslab plan dr/arptables >lab.sh     then, as root: sh lab.sh up; sh lab.sh step 1; sh lab.sh down
  lvslab plan dr/arptables --ops       what is done, in which role, and for which line of the lab file
  lvslab plan dr --roles               what --omit can leave out`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no lab is named")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if ops && roles {
				return usageError{errors.New("--ops and --roles: one at a time")}
			}
			if dialect == "" {
				release, _ := os.ReadFile("/etc/os-release") // absent: no Debian
				dialect = dialectOf(string(release))
			} else if !slices.Contains(dialects[:], dialect) {
				return usageError{errors.New("--dialect: " + source.Unknown("dialect", dialect, dialects[:]))}
			}
			plans, err := plansOf(args, omit)
			if err != nil {
				return err
			}
			d := topology.Dialect{Arptables: dialect}
			switch {
			case ops:
				for _, p := range plans {
					printOps(a.out, p, d)
				}
			case roles:
				for _, r := range rolesOf(plans) {
					fmt.Fprintln(a.out, r)
				}
			case len(plans) > 1:
				return usageError{fmt.Errorf("one lab at a time: a script is one lab's, and %s is %d labs; name one, or give --ops or --roles", strings.Join(args, " "), len(plans))}
			default:
				fmt.Fprint(a.out, plans[0].Script(d))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dialect, "dialect", "", "how arptables is called: arptables or arptables-legacy (default: as this machine's distribution has it)")
	f.StringSliceVar(&omit, "omit", nil, "leave out all that plays a `role` (such as arp-announce), on purpose")
	f.BoolVar(&ops, "ops", false, "a table of what is done instead of a script")
	f.BoolVar(&roles, "roles", false, "the roles that can be left out instead of a script")
	return c
}

// plansOf are the plans of the labs that arguments stand for.
func plansOf(args, omit []string) ([]*scenarios.Plan, error) {
	chosen, err := pick(args).load()
	if err != nil {
		return nil, err
	}
	var out []topology.Role
	for _, r := range omit {
		out = append(out, topology.Role(r))
	}
	var plans []*scenarios.Plan
	var errs source.List
	for _, l := range chosen.labs {
		p, err := l.Plan(out...)
		errs.AddError(l.Pos, err)
		plans = append(plans, p)
	}
	return plans, errs.Err()
}

// dialectOf is what arptables is called where the legacy tables are meant, by
// os-release(5). On Debian and its children `arptables` is the variant that
// needs nf_tables, which not every kernel has for ARP; elsewhere there may be
// no other name.
func dialectOf(release string) string {
	for line := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, id := range strings.Fields(strings.Trim(value, `"'`)) {
			if id == "debian" || id == "ubuntu" {
				return "arptables-legacy"
			}
		}
	}
	return "arptables"
}

func rolesOf(plans []*scenarios.Plan) []topology.Role {
	var all []topology.Role
	for _, p := range plans {
		for _, r := range p.Roles {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// printOps prints a plan's ops as a table: those of the setup, then those of
// each step that changes something.
func printOps(w io.Writer, p *scenarios.Plan, d topology.Dialect) {
	fmt.Fprintf(w, "%s\n\n", p.Lab.Name)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHEN\tNODE\tKIND\tWHAT\tROLE\tPLACE\tWHY\tCOMMAND")
	row := func(when string, o topology.Op) {
		m := o.About()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", when, m.Key.Node, m.Key.Kind, dash(m.Key.ID), m.Role, visible(m.Pos.String()), visible(m.Why), visible(strings.Join(o.Shell(d), "; ")))
	}
	for _, o := range p.Setup {
		row("setup", o)
	}
	for i, s := range p.Steps {
		for _, a := range s.Do {
			for _, o := range a.Ops {
				row(fmt.Sprintf("step %d", i+1), o)
			}
		}
	}
	_ = t.Flush() // standard output keeps its first error
	fmt.Fprintln(w)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
