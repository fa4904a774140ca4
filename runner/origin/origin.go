// Package origin tells of labs that were imported where in the configuration
// their parts came from, so that a report names the line that an operator has to
// look at.
package origin

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/topology/source"
)

// Map knows where the lines of lab files came from. The zero value, and nil, know
// of none.
type Map struct{ files map[string]*file }

// file is one lab file.
type file struct {
	// at are the places that its lines came from, by line, from 1; those of lines
	// that came from nowhere are not valid.
	at []source.Pos
	// whole is the place of the lab as a whole.
	whole source.Pos
	// named are places of the file in a text: "PATH:12:3".
	named *regexp.Regexp
}

// Of reads the comments of lab files that tell it, as importer.ReadOrigins does.
// Within a step, a line without one came from where the nearest line above it did
// that has one, and the lines before the first such from where that did. A step
// without any came from where the one before it did: the steps about a virtual
// service stand together.
func Of(files []wire.File) *Map {
	m := &Map{files: make(map[string]*file)}
	for _, f := range files {
		if o := importer.ReadOrigins(f.Data); len(o) > 0 {
			m.files[f.Path] = read(f.Path, f.Data, o)
		}
	}
	return m
}

func read(path string, text []byte, origins importer.Origins) *file {
	lines := bytes.Split(text, []byte("\n"))
	f := &file{at: make([]source.Pos, len(lines)+1), named: regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(path) + `:(\d+)(:\d+)?`)}
	var last source.Pos
	steps, indent := false, -1 // that of the steps' dashes
	for i, line := range lines {
		n := i + 1
		switch {
		case bytes.HasPrefix(line, []byte("steps:")):
			steps, indent = true, -1
		case steps && beginsStep(line, indent):
			indent = dash(line)
			if pos, told := first(lines[i:], origins, n, indent); told {
				last = pos
			}
		case len(line) > 0 && line[0] != ' ' && line[0] != '#' && line[0] != '-', bytes.HasPrefix(line, []byte("---")):
			steps, last = false, source.Pos{}
		}
		pos, told := origins[n]
		switch {
		case told:
			f.at[n], last = pos, pos
		case steps:
			f.at[n] = last
		}
		if !steps {
			last = source.Pos{}
		}
	}
	return f
}

// dash is the indentation of a line that begins an item of a list; -1 of any other.
func dash(line []byte) int {
	said := bytes.TrimLeft(line, " ")
	if !bytes.HasPrefix(said, []byte("- ")) {
		return -1
	}
	return len(line) - len(said)
}

// beginsStep reports whether a line begins a step, whose dashes are indented so
// far; -1 where no step has begun.
func beginsStep(line []byte, indent int) bool {
	at := dash(line)
	return at >= 0 && (indent < 0 || at == indent)
}

// first is the first place that a step tells, which begins with the first of lines,
// line n of the file.
func first(lines [][]byte, origins importer.Origins, n, indent int) (source.Pos, bool) {
	for i, line := range lines {
		if i > 0 && (beginsStep(line, indent) || len(line) > 0 && line[0] != ' ' && line[0] != '#' && line[0] != '-') {
			break
		}
		if pos, told := origins[n+i]; told {
			return pos, true
		}
	}
	return source.Pos{}, false
}

// Whole says where the lab of a file as a whole came from: what stands for its
// parts that came from nowhere.
func (m *Map) Whole(path string, pos source.Pos) {
	if f := m.files[path]; f != nil {
		f.whole = pos
	}
}

// At is the place that a place of a lab came from, false where that is not known.
func (m *Map) At(p source.Pos) (source.Pos, bool) {
	f := m.file(p.File)
	if f == nil || p.Line < 1 || p.Line >= len(f.at) || !f.at[p.Line].IsValid() {
		return source.Pos{}, false
	}
	return f.at[p.Line], true
}

func (m *Map) file(path string) *file {
	if m == nil {
		return nil
	}
	return m.files[path]
}

// Beside is an event with the places that its own came from beside them, for a
// lab that is a file of its own.
func (m *Map) Beside(e wire.Event) wire.Event {
	return m.Through(e, func(pos source.Pos) (source.Pos, *source.Pos) {
		if o, ok := m.At(pos); ok {
			return pos, &o
		}
		return pos, nil
	})
}

// Instead is an event with the places that its own came from in their place, for
// a lab that nobody has seen.
func (m *Map) Instead(e wire.Event) wire.Event {
	return m.Reword(m.Through(e, func(lab source.Pos) (source.Pos, *source.Pos) {
		if o, ok := m.AtOrWhole(lab); ok {
			return o, nil
		}
		return lab, nil
	}))
}

// AtOrWhole is At, or else the place of the lab as a whole.
func (m *Map) AtOrWhole(p source.Pos) (source.Pos, bool) {
	if o, ok := m.At(p); ok {
		return o, true
	}
	if f := m.file(p.File); f != nil && f.whole.IsValid() {
		return f.whole, true
	}
	return source.Pos{}, false
}

// Reword is an event in whose texts, those of errors, places of the configuration
// stand for those of a lab.
func (m *Map) Reword(e wire.Event) wire.Event {
	e.Message = m.reword(e.Message)
	if e.Step != nil && e.Step.Error != "" {
		s := *e.Step
		s.Error = m.reword(s.Error)
		e.Step = &s
	}
	return e
}

// reword puts places of the configuration where a text names places of a lab.
func (m *Map) reword(text string) string {
	if m == nil || text == "" {
		return text
	}
	for path, f := range m.files {
		text = f.named.ReplaceAllStringFunc(text, func(s string) string {
			part := f.named.FindStringSubmatch(s)
			line, _ := strconv.Atoi(part[2])
			if o, ok := m.AtOrWhole(source.Pos{File: path, Line: line}); ok {
				return part[1] + o.String()
			}
			return s
		})
	}
	return text
}

// Through is a copy of an event with other places, each with a second one beside
// it where that is not nil; what it shares with the event stays as it is.
func (*Map) Through(e wire.Event, place func(source.Pos) (source.Pos, *source.Pos)) wire.Event {
	if e.Pos != nil {
		pos, from := place(*e.Pos)
		e.Pos = &pos
		if from != nil {
			e.From = from
		}
	}
	if e.Step == nil || len(e.Step.Results) == 0 {
		return e
	}
	s := *e.Step
	s.Results = slices.Clone(s.Results)
	for i := range s.Results {
		r := &s.Results[i]
		pos, from := place(r.Pos)
		r.Pos = pos
		if from != nil {
			r.From = from
		}
	}
	e.Step = &s
	return e
}
