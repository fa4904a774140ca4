package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
)

// comparison is what labs came to on several kernels.
type comparison struct {
	labs, kernels []string
	cells         map[cell]outcome
}

// cell is a lab on a kernel.
type cell struct{ lab, kernel string }

// outcome is what became of it.
type outcome struct {
	verdict wire.Verdict
	seconds float64
}

// add takes an event of a kernel's run.
func (m *comparison) add(kernel string, e wire.Event) {
	if e.Kind == wire.LabFinished {
		m.cells[cell{e.Lab, kernel}] = outcome{wire.Worst(wire.Pass, e.Verdict), e.Seconds}
	}
}

// counts are those of all labs on all kernels.
func (m *comparison) counts() wire.Counts {
	var c wire.Counts
	for _, o := range m.cells {
		c.Add(o.verdict)
	}
	return c
}

func (m *comparison) worst() wire.Verdict {
	v := wire.Pass
	for _, o := range m.cells {
		v = wire.Worst(v, o.verdict)
	}
	return v
}

// red reports whether anything failed or is broken.
func (m *comparison) red() bool { return wire.Worst(m.worst(), wire.Skip) != wire.Skip }

// ran reports whether any lab came to a verdict on a kernel.
func (m *comparison) ran(kernel string) bool {
	for c := range m.cells {
		if c.kernel == kernel {
			return true
		}
	}
	return false
}

// differs reports whether a lab came to different verdicts. A kernel that lacks
// something is no difference, unless strict.
func (m *comparison) differs(lab string, strict bool) bool {
	var first wire.Verdict
	for _, k := range m.kernels {
		o, ran := m.cells[cell{lab, k}]
		switch {
		case !ran || o.verdict == wire.Skip && !strict:
		case first == "":
			first = o.verdict
		case first != o.verdict:
			return true
		}
	}
	return false
}

// shownVerdicts are the verdicts as a person reads them.
var shownVerdicts = map[wire.Verdict]string{wire.Pass: "pass", wire.Skip: "skip", wire.Fail: "FAIL", wire.Broken: "BROKEN"}

func (o outcome) String() string {
	if o.seconds <= 0 {
		return shownVerdicts[o.verdict]
	}
	return fmt.Sprintf("%-6s %6.2f s", shownVerdicts[o.verdict], o.seconds)
}

// print writes the table: a line for each lab, a column for each kernel.
func (m *comparison) print(w io.Writer, strict bool) {
	rows := [][]string{append([]string{"LAB"}, m.kernels...)}
	var differ []string
	for _, lab := range m.labs {
		row := []string{visible(lab)}
		ran := false
		for _, k := range m.kernels {
			text := "-"
			if o, ok := m.cells[cell{lab, k}]; ok {
				text, ran = o.String(), true
			}
			row = append(row, text)
		}
		if !ran {
			continue
		}
		if m.differs(lab, strict) {
			differ = append(differ, lab)
			row = append(row, "differs")
		}
		rows = append(rows, row)
	}
	if len(rows) == 1 {
		return // no kernel has run any
	}
	for _, line := range table(rows) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	compared := 0
	for _, k := range m.kernels {
		if m.ran(k) {
			compared++
		} else {
			fmt.Fprintf(w, "%s has run no lab, and is not compared\n", visible(k))
		}
	}
	on := fmt.Sprintf("%s on %s", plural(len(rows)-1, "lab"), plural(compared, "kernel"))
	if len(differ) == 0 {
		text := "no difference"
		if compared < 2 {
			text = "nothing to compare with"
		}
		fmt.Fprintf(w, "%s: %s\n", on, text)
		return
	}
	fmt.Fprintf(w, "%s: %d came to different verdicts: %s\n", on, len(differ), visible(strings.Join(differ, ", ")))
}
