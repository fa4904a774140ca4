package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
)

// IncompleteError says that the events of a run are not all there: it was killed,
// or its file was cut off. What is there can be reported, as that of a broken
// run.
type IncompleteError struct {
	// Name is the file; Why a clause.
	Name, Why string
}

func (e *IncompleteError) Error() string { return e.Name + ": " + e.Why }

// ReadEvents reads the events of one run, as JSON writes them. name is the file's,
// for errors, which name the line too.
//
// The events must be those of a whole run: this version, no event of a kind or
// with a verdict that nobody sends, none of a lab after its verdict, a verdict for
// every lab that began, and RunFinished, whose counts are those of the labs, at
// the end. Of a run that is not whole, ReadEvents returns what is there, and an
// *IncompleteError; with any other error it returns nothing.
func ReadEvents(r io.Reader, name string) ([]wire.Event, error) {
	in := wire.NewReader(r)
	c := reading{name: name, open: make(map[string]int), done: make(map[string]int)}
	for {
		e, err := in.Event()
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return c.events, &IncompleteError{name, fmt.Sprintf("line %d ends in its middle: the file was cut off there", in.Line())}
		case errors.Is(err, io.EOF):
			return c.end()
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %w", name, max(in.Line(), 1), err)
		}
		if err := c.take(e, in.Line()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, in.Line(), err)
		}
	}
}

// reading is a run on its way in.
type reading struct {
	name   string
	events []wire.Event
	// open are the lines in which labs began that have no verdict, done those
	// of the last verdict of each.
	open, done map[string]int
	verdicts   int
	last       int // the line of RunFinished, 0 before it
	counts     wire.Counts
	line       int
}

// kinds are those of the events that a run prints, and whether they are a lab's.
var kinds = map[string]bool{
	wire.RunStarted: false, wire.Log: false, wire.RunFinished: false,
	wire.LabStarted: true, wire.StepFinished: true, wire.Captured: true, wire.LabFinished: true,
}

func (c *reading) take(e wire.Event, line int) error {
	c.line = line
	ofLab, known := kinds[e.Kind]
	switch {
	case !known:
		return fmt.Errorf("no run sends the event %q", clip(e.Kind))
	case c.last > 0:
		return fmt.Errorf("%s after %s, which is in line %d; are these several runs? Give each a file of its own", e.Kind, wire.RunFinished, c.last)
	case ofLab && e.Lab == "":
		return fmt.Errorf("%s of no lab", e.Kind)
	case e.Kind == wire.StepFinished && e.Step == nil:
		return fmt.Errorf("%s of %q without its step", e.Kind, clip(e.Lab))
	case e.Kind == wire.RunFinished && e.Counts == nil:
		return fmt.Errorf("%s without its counts", e.Kind)
	}
	if err := verdictsOf(e); err != nil {
		return err
	}
	c.events = append(c.events, e)
	switch e.Kind {
	case wire.LabStarted:
		c.open[e.Lab] = line
	case wire.StepFinished, wire.Captured:
		if c.open[e.Lab] == 0 {
			if at := c.done[e.Lab]; at > 0 {
				return fmt.Errorf("%s of %q after its verdict, which is in line %d", e.Kind, clip(e.Lab), at)
			}
			c.open[e.Lab] = line
		}
	case wire.LabFinished:
		delete(c.open, e.Lab)
		c.done[e.Lab] = line
		c.verdicts++
	case wire.RunFinished:
		c.last, c.counts = line, *e.Counts
	}
	return nil
}

// verdictsOf refuses verdicts that there are not.
func verdictsOf(e wire.Event) error {
	all := []wire.Verdict{e.Verdict}
	switch e.Kind {
	case wire.LabFinished:
	case wire.StepFinished:
		for _, r := range e.Step.Results {
			all = append(all, r.Verdict)
		}
	default:
		return nil
	}
	for _, v := range all {
		if words[v] == "" {
			return fmt.Errorf("%s of %q has the verdict %q; wanted pass, skip, fail or broken", e.Kind, clip(e.Lab), clip(string(v)))
		}
	}
	return nil
}

// off says how a run's counts are not those of its labs; "" if they are. A run in
// several kernels counts each lab once, or once for each kernel.
func (c *reading) off() string {
	n := c.counts
	if n.Pass+n.Fail+n.Broken+n.Skip == n.Labs && (n.Labs == c.verdicts || n.Labs == len(c.done)) {
		return ""
	}
	return fmt.Sprintf("%s in line %d counts %d labs (%d pass, %d fail, %d broken, %d skip), and the lines before it have %d verdicts: some are lost",
		wire.RunFinished, c.last, n.Labs, n.Pass, n.Fail, n.Broken, n.Skip, c.verdicts)
}

func (c *reading) end() ([]wire.Event, error) {
	switch {
	case len(c.events) == 0:
		return nil, &IncompleteError{c.name, "it is empty: the run was ended before it began, or this is not the file of lvslab run --json=FILE"}
	case c.last == 0:
		return c.events, &IncompleteError{c.name, fmt.Sprintf("there is no %s behind line %d: the run was killed, or the file was cut off", wire.RunFinished, c.line)}
	case len(c.open) > 0:
		var names []string
		for name := range c.open {
			names = append(names, name)
		}
		slices.Sort(names)
		return c.events, &IncompleteError{c.name, "no verdict of " + inline(strings.Join(names, ", ")) + ", though the run came to its end"}
	case c.off() != "":
		return c.events, &IncompleteError{c.name, c.off()}
	}
	return c.events, nil
}
