package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
)

func (a *app) psCmd() *cobra.Command {
	var format *formatFlag
	c := &cobra.Command{
		Use:   "ps",
		Short: "List the labs that are up",
		Long: `Ps lists the labs that are up: their kernel, for how long they have been up, how
many nodes run, and how they are. What is broken on purpose (lvslab fault) is
told there, and what is broken otherwise: a server that ended, a kernel that
died, a lab whose keeper was killed.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list := keeper.List(c.Context(), os.Getenv)
			if *format == formatJSON {
				return a.printJSON(newPsDoc(list))
			}
			a.printPs(list)
			return nil
		},
	}
	format = addFormat(c.Flags(), "text or json")
	return c
}

// psDoc is the document of ps --format json.
type psDoc struct {
	Version int     `json:"version"`
	Labs    []psLab `json:"labs"`
}

type psLab struct {
	live.Info
	// Health is "up", "broken on purpose", "in trouble", "coming up" or "dead".
	Health string       `json:"health"`
	Why    string       `json:"why,omitempty"`
	Status *live.Status `json:"status,omitempty"`
}

// The words of Health.
const (
	healthUp      = "up"
	healthFaulty  = "broken on purpose"
	healthTrouble = "in trouble"
	healthComing  = "coming up"
	healthDead    = "dead"
)

func newPsDoc(list []keeper.Entry) psDoc {
	doc := psDoc{Version: jsonVersion, Labs: []psLab{}}
	for _, e := range list {
		l := psLab{Info: e.Info, Status: e.Status}
		l.Health, l.Why = health(e)
		doc.Labs = append(doc.Labs, l)
	}
	return doc
}

// health is how a lab is, in a word, and why.
func health(e keeper.Entry) (word, why string) {
	var dead *keeper.DeadError
	var coming *keeper.UpError
	switch {
	case errors.As(e.Err, &dead):
		return healthDead, "its keeper was killed, or the machine was started anew"
	case errors.As(e.Err, &coming):
		return healthComing, ""
	case e.Info.Dead != "":
		return healthDead, e.Info.Dead
	case e.Err != nil:
		return healthTrouble, e.Err.Error()
	case e.Status != nil && len(e.Status.Troubles) > 0:
		return healthTrouble, strings.Join(e.Status.Troubles, "; ")
	case e.Status != nil && len(e.Status.Faults) > 0:
		var ids []string
		for _, f := range e.Status.Faults {
			ids = append(ids, f.ID)
		}
		return healthFaulty, strings.Join(ids, ", ")
	}
	return healthUp, ""
}

func (a *app) printPs(list []keeper.Entry) {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "no lab is up; lvslab up LAB brings one up")
		return
	}
	rows := [][]string{{"LAB", "AGE", "NODES", "KERNEL", "HEALTH"}}
	for _, e := range list {
		word, why := health(e)
		if first, more, cut := strings.Cut(why, "\n"); cut && more != "" {
			why = first + " …" // lvslab logs has all of it
		}
		if why != "" {
			word += ": " + why
		}
		nodes := "-"
		if e.Status != nil {
			nodes = strconv.Itoa(len(e.Status.Nodes))
		}
		kernel := e.Info.Kernel
		if kernel == "" {
			kernel = "-"
		}
		since := "-" // where the lab's folder does not say it
		if !e.Info.Started.IsZero() {
			since = age(time.Since(e.Info.Started))
		}
		rows = append(rows, []string{e.Info.Name, since, nodes, kernel, word})
	}
	a.printTable(rows)
}

// printTable prints rows in columns, but for the last as wide as they must be.
func (a *app) printTable(rows [][]string) {
	var widths []int
	for i := range rows[0] {
		w := 0
		for _, r := range rows {
			w = max(w, widest(visible(r[i])))
		}
		widths = append(widths, w)
	}
	for _, r := range rows {
		var words []string
		for i, cell := range r {
			words = append(words, pad(visible(cell), widths[i]))
		}
		fmt.Fprintln(a.out, strings.TrimRight(strings.Join(words, "  "), " "))
	}
}

// age is a duration in its largest units: 42 s, 12 min, 3 h 20 min, 2 d 4 h.
func age(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 0:
		return "-"
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 24*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}
