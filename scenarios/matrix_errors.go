package scenarios

import (
	"fmt"

	"github.com/lvslab/lvslab/topology/source"
)

// mostAlike is how many different errors at one place are told of a matrix;
// where a value is put into the message, there is one for each.
const mostAlike = 4

// alike gathers the errors of all labs of a matrix, which share a file: what is
// wrong in many of them is told once.
type alike struct {
	labs  int
	order []source.Error
	names map[source.Error][]string
}

func (a *alike) add(name string, list source.List) {
	if a.names == nil {
		a.names = make(map[source.Error][]string)
	}
	a.labs++
	for _, e := range list {
		names, seen := a.names[*e]
		if !seen {
			a.order = append(a.order, *e)
		}
		if len(names) == 0 || names[len(names)-1] != name {
			a.names[*e] = append(names, name)
		}
	}
}

// list are the errors, each with the labs that it is an error of.
func (a *alike) list() source.List {
	var out source.List
	at := make(map[source.Pos]int)
	last := make(map[source.Pos]*source.Error)
	more := make(map[source.Pos]int)
	for _, e := range a.order {
		if at[e.Pos]++; at[e.Pos] > mostAlike {
			more[e.Pos]++
			continue
		}
		e.Msg += a.of(a.names[e])
		out = append(out, &e)
		last[e.Pos] = &e
	}
	for pos, n := range more {
		last[pos].Msg += fmt.Sprintf("; and %d more errors here, in other combinations", n)
	}
	return out
}

// of says which labs an error is of; all of them needs no word.
func (a *alike) of(names []string) string {
	switch {
	case len(names) == a.labs:
		return ""
	case len(names) == 1:
		return fmt.Sprintf(" (in %s)", names[0])
	}
	return fmt.Sprintf(" (in %s and %d more of the %d combinations)", names[0], len(names)-1, a.labs)
}
