package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/topology/source"
)

// faultWords are how a fault is said on the command line: its flags, and the
// words KIND TARGET [VALUE].
type faultWords struct{ jitter, delay time.Duration }

// fault reads the words of a fault.
func (w faultWords) fault(args []string) (live.Fault, error) {
	f, err := w.target(args)
	if err != nil {
		return f, err
	}
	rest := args[2:]
	switch f.Kind {
	case live.Kill, live.Hang, live.DropARP:
		rest = rest[min(1, len(rest)):] // target has it
	case live.Delay:
		if len(rest) == 0 {
			return f, fmt.Errorf("how late? as in: %s %s 50ms", f.Kind, args[1])
		}
		if f.Delay, err = time.ParseDuration(rest[0]); err != nil {
			return f, fmt.Errorf("%s: wanted a time such as 50ms, found %q", f.Kind, rest[0])
		}
		rest = rest[1:]
	case live.Lose, live.Reorder, live.Corrupt, live.Duplicate:
		if len(rest) == 0 {
			return f, fmt.Errorf("how many? as in: %s %s 30%%", f.Kind, args[1])
		}
		if f.Percent, err = strconv.ParseFloat(strings.TrimSuffix(rest[0], "%"), 64); err != nil {
			return f, fmt.Errorf("%s: wanted a percentage such as 30%%, found %q", f.Kind, rest[0])
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return f, fmt.Errorf("%s %s: %q is one word too many", f.Kind, args[1], rest[0])
	}
	if w.jitter != 0 && f.Kind != live.Delay {
		return f, fmt.Errorf("--jitter is of delay, not of %s", f.Kind)
	}
	if w.delay != 0 && f.Kind != live.Reorder {
		return f, fmt.Errorf("--delay is of reorder, not of %s", f.Kind)
	}
	f.Jitter = w.jitter
	if w.delay != 0 {
		f.Delay = w.delay
	}
	return f, nil
}

// target reads the words that say what is broken, without how much.
func (faultWords) target(args []string) (live.Fault, error) {
	f := live.Fault{Kind: args[0]}
	if !slices.Contains(live.FaultKinds(), f.Kind) {
		return f, errors.New(source.Unknown("kind of fault", f.Kind, live.FaultKinds()))
	}
	if len(args) < 2 {
		return f, fmt.Errorf("%s what? name a node", f.Kind)
	}
	var with bool
	word := ""
	if len(args) > 2 {
		word = args[2]
	}
	switch f.Kind {
	case live.Kill, live.Hang:
		if f.Node, f.Daemon, with = strings.Cut(args[1], "/"); !with {
			f.Daemon = word
		} else if word != "" {
			return f, fmt.Errorf("%s %s: %q is one word too many", f.Kind, args[1], word)
		}
	case live.DropARP:
		f.Node, f.Address = args[1], word
	case live.Stop:
		f.Node = args[1]
	default:
		if f.Node, f.Device, with = strings.Cut(args[1], ":"); with && f.Device == "" {
			return f, fmt.Errorf("%s %s: wanted a device behind the colon", f.Kind, args[1])
		}
	}
	return f, nil
}

// completeFault offers labs, then kinds, then nodes.
func completeFault(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return completeLiving(c, args, word)
	case 1:
		return live.FaultKinds(), cobra.ShellCompDirectiveNoFileComp
	case 2:
		nodes, _ := completeLiving(c, args[:1], word)
		return nodes, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeHeal offers labs, then what is broken.
func completeHeal(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeLiving(c, args, word)
	}
	s := statusOf(c, args[0])
	if s == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, b := range s.Faults {
		words = append(words, b.ID, b.Node)
	}
	slices.Sort(words)
	return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
}
