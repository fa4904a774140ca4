package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/live"
)

func (a *app) faultCmd() *cobra.Command {
	var w faultWords
	var format *formatFlag
	c := &cobra.Command{
		Use:   "fault LAB [KIND NODE[:DEVICE] [VALUE]]",
		Short: "Break something in a lab that is up, on purpose",
		Long: `Fault breaks one thing in a lab that is up, prints how, and how to heal it. All
else stays as it is, what was typed by hand included: only a node that is stopped
loses what was set in its kernel, as a machine does. Without KIND it lists what is
broken, and what can be.

  cut NODE[:DEVICE]                  pull the cable of a link
  delay NODE[:DEVICE] TIME           hold back all that the node sends there
  lose NODE[:DEVICE] PERCENT         lose packets that it sends
  reorder NODE[:DEVICE] PERCENT      let packets overtake the others
  corrupt NODE[:DEVICE] PERCENT      turn a bit over in packets
  duplicate NODE[:DEVICE] PERCENT    send packets twice
  kill NODE [DAEMON]                 end a server
  hang NODE [DAEMON]                 let it take connections and answer none
  stop NODE                          switch the node off; its files are kept
  drop-arp NODE [ADDRESS]            drop the ARP packets for an address

A device, a daemon or an address need not be said where there is but one; of the
addresses a virtual IP is meant first. Several faults of a link add up.

Exit status: 0 it is broken; 2 wrong usage, or no such thing to break; 3 the lab
could not be changed.`,
		Example: `  lvslab fault dr/arptables                       what is broken, what can be
  lvslab fault dr/arptables cut web1
  lvslab fault dr/arptables delay web1 50ms --jitter 10ms
  lvslab fault dr/arptables lose director:eth0 30%
  lvslab fault dr/arptables hang web1 http`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if w.jitter != 0 || w.delay != 0 {
					return usageError{fmt.Errorf("what shall be late? as in: lvslab fault %s delay NODE 50ms", shellWord(args[0]))}
				}
				return a.listFaults(c.Context(), args[0], *format)
			}
			f, err := w.fault(args[1:])
			if err != nil {
				return usageError{err}
			}
			conn, err := a.connect(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			change, err := conn.Lab.Fault(c.Context(), f)
			if err != nil {
				return err
			}
			if *format == formatJSON {
				return a.printJSON(changeDoc{jsonVersion, change})
			}
			a.printCommands(change)
			if n := len(change.Faults); n > 0 {
				b := change.Faults[n-1]
				fmt.Fprintf(a.out, "\nbroken: %s\nheal it by: lvslab heal %s %s\n", visible(b.String()), shellWord(args[0]), visible(b.ID))
			}
			return nil
		},
		ValidArgsFunction: completeFault,
	}
	c.Flags().DurationVar(&w.jitter, "jitter", 0, "of delay: give or take this `time`; packets then overtake one another")
	c.Flags().DurationVar(&w.delay, "delay", 0, fmt.Sprintf("of reorder: how late those are that are overtaken, where nothing delays the link anyway (default %s)", live.ReorderDelay))
	format = addFormat(c.Flags(), "text or json")
	return c
}

func (a *app) printCommands(change *live.Change) {
	for _, line := range change.Commands {
		fmt.Fprintln(a.out, visible(line))
	}
}

// faultsDoc is what is broken, as a document.
type faultsDoc struct {
	Version int           `json:"version"`
	Faults  []live.Broken `json:"faults"`
	Kinds   []string      `json:"kinds"`
}

// listFaults prints what is broken in a lab, and what could be.
func (a *app) listFaults(ctx context.Context, lab string, format formatFlag) error {
	conn, err := a.connect(ctx, lab)
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := conn.Lab.Status(ctx)
	if err != nil {
		return err
	}
	if format == formatJSON {
		return a.printJSON(faultsDoc{jsonVersion, append([]live.Broken{}, s.Faults...), live.FaultKinds()})
	}
	if len(s.Faults) == 0 {
		fmt.Fprintf(a.out, "nothing is broken on purpose in %s\n", visible(lab))
	}
	for _, b := range s.Faults {
		fmt.Fprintf(a.out, "%s  %s\n", b.Since.Local().Format(time.TimeOnly), visible(b.String()))
	}
	node := "NODE"
	if n := len(s.Nodes); n > 0 {
		node = s.Nodes[n-1]
	}
	fmt.Fprintf(a.out, "\nbreak something by:\n")
	values := map[string]string{
		live.Delay: " 50ms --jitter 10ms", live.Lose: " 30%", live.Reorder: " 25%", live.Corrupt: " 5%", live.Duplicate: " 10%",
	}
	for _, kind := range live.FaultKinds() {
		fmt.Fprintf(a.out, "  lvslab fault %s %s %s%s\n", shellWord(lab), kind, node, values[kind])
	}
	if len(s.Faults) > 0 {
		fmt.Fprintf(a.out, "\nheal by:\n  lvslab heal %s %s\n  lvslab heal %s --all\n", shellWord(lab), s.Faults[0].ID, shellWord(lab))
	}
	return nil
}

func (a *app) healCmd() *cobra.Command {
	var all bool
	var format *formatFlag
	c := &cobra.Command{
		Use:   "heal LAB [KIND [NODE[:DEVICE]] | NODE... | --all]",
		Short: "Take back what was broken on purpose in a lab",
		Long: `Heal takes back faults of a lab that is up: one by the words it was made with, all
of a kind, all of some nodes, or all. What the lab has learned meanwhile it keeps,
as real machines do: a neighbour that was found dead is asked for anew when it is
next needed.

Exit status: 0 all that was named is healed; 2 wrong usage, or no such fault; 3
the lab could not be changed.`,
		Example: `  lvslab heal dr/arptables cut web1
  lvslab heal dr/arptables web1 web2
  lvslab heal dr/arptables --all`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			words := healWords(args[1:])
			if all && len(words) > 0 {
				return usageError{fmt.Errorf("either --all or %s", strings.Join(args[1:], " "))}
			}
			conn, err := a.connect(c.Context(), args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			if !all && len(words) == 0 {
				return a.whichFault(c.Context(), conn, args[0])
			}
			change, err := conn.Lab.Heal(c.Context(), live.Heal{IDs: words})
			if err != nil {
				return err
			}
			if *format == formatJSON {
				return a.printJSON(changeDoc{jsonVersion, change})
			}
			a.printCommands(change)
			for i, b := range change.Faults {
				if i == 0 {
					fmt.Fprintln(a.out, "\nstill broken:")
				}
				fmt.Fprintf(a.out, "  %s\n", visible(b.String()))
			}
			return nil
		},
		ValidArgsFunction: completeHeal,
	}
	c.Flags().BoolVar(&all, "all", false, "heal everything")
	format = addFormat(c.Flags(), "text or json")
	return c
}

// whichFault tells what could be healed.
func (a *app) whichFault(ctx context.Context, conn *connection, lab string) error {
	s, err := conn.Lab.Status(ctx)
	if err != nil {
		return err
	}
	if len(s.Faults) == 0 {
		return usageError{fmt.Errorf("nothing is broken on purpose in %s", lab)}
	}
	var ids []string
	for _, b := range s.Faults {
		ids = append(ids, b.ID)
	}
	return usageError{fmt.Errorf("which of these? %s; lvslab heal %s --all heals everything", strings.Join(ids, ", "), shellWord(lab))}
}

// healWords are what live.Heal is asked for. Words that begin with a kind are
// those that a fault is made with; all others name one each.
func healWords(args []string) []string {
	if len(args) < 2 || !slices.Contains(live.FaultKinds(), args[0]) {
		return args
	}
	var w faultWords
	f, err := w.fault(args)
	if err != nil && len(args) == 2 {
		f, err = w.target(args) // without how much
	}
	if err == nil {
		return []string{f.ID()}
	}
	return []string{strings.Join(args, " ")}
}
