package keepalived

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// reader turns files into lines, and lines into a tree of blocks.
type reader struct {
	fsys  fs.FS
	id    string
	errs  source.List
	notes []config.Note
	files []config.File
	// broken says that what follows cannot be made sense of: blocks do not
	// close, or a bound is reached.
	broken bool

	base  string // the folder of the named file
	open  []string
	bytes int
	lines int

	defs map[string]*definition
	// defining is the definition that goes on in the next line, nil for none.
	defining *definition
	away     elsewhere
	tree     tree
}

func newReader(fsys fs.FS, o Options, root *block) *reader {
	r := &reader{fsys: fsys, id: o.ID, defs: map[string]*definition{}}
	r.tree = tree{r: r, stack: []*block{root}}
	return r
}

// line is what is read as one line. Its column is 0 where its text is not the
// file's own but a definition's.
type line struct {
	text string
	at   source.Pos
}

// col is the place of the text's byte i.
func (l line) col(i int) source.Pos {
	at := l.at
	if at.Col > 0 {
		at.Col += i
	}
	return at
}

// halt records an error after which nothing more is read.
func (r *reader) halt(at source.Pos, format string, args ...any) {
	if !r.broken {
		r.errs.Add(at, format, args...)
	}
	r.broken = true
}

func (r *reader) note(at source.Pos, kind config.NoteKind, format string, args ...any) {
	r.notes = append(r.notes, note(at, kind, fmt.Sprintf(format, args...)))
}

// finish are the reader's notes, when all is read.
func (r *reader) finish() []config.Note { return append(r.notes, r.away.notes(r.id)...) }

// top reads the named file.
func (r *reader) top(name string) {
	r.base = folder(name)
	at := source.Pos{File: name}
	data, err := r.load(name, at)
	if err != nil {
		r.halt(at, "%v", err)
		return
	}
	if len(bytes.TrimSpace(data)) == 0 {
		r.halt(at, "is empty; a keepalived.conf for IPVS has virtual_server blocks")
		return
	}
	r.text(name, data)
	r.tree.end(r)
}

// text reads the lines of a file.
func (r *reader) text(name string, data []byte) {
	r.files = append(r.files, config.File{Name: name, Data: data})
	r.open = append(r.open, name)
	depth := len(r.tree.stack)
	if !r.legible(name, data) {
		return
	}
	n := 0
	for raw := range strings.Lines(string(data)) {
		n++
		at := source.Pos{File: name, Line: n}
		raw = strings.TrimRight(raw, "\r\n")
		if len(raw) > maxLine {
			r.halt(at, "a line of %d bytes; keepalived reads at most %d as one and takes the rest for another line", len(raw), maxLine)
		}
		if r.broken {
			return
		}
		r.physical(raw, at)
	}
	r.define(nil) // a definition ends with its file
	r.open = r.open[:len(r.open)-1]
	switch {
	case r.broken || len(r.open) == 0:
	case len(r.tree.stack) > depth:
		r.tree.unclosed(depth, "; each { of an included file must be closed in it")
	case len(r.tree.stack) < depth:
		r.halt(source.Pos{File: name, Line: n}, "the file closes a block that began in the file which includes it; each } of an included file must have its { there")
	}
}

// legible refuses what is no text.
func (r *reader) legible(name string, data []byte) bool {
	place := func(i int) source.Pos {
		return source.Pos{File: name, Line: bytes.Count(data[:i], []byte("\n")) + 1, Col: i - bytes.LastIndexByte(data[:i], '\n')}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		r.halt(place(i), "a NUL byte: this is no text file")
		return false
	}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		r.halt(place(0), "begins with a byte-order mark, which keepalived takes for part of the first word; save the file as UTF-8 without it")
		return false
	}
	if utf8.Valid(data) {
		return true
	}
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 {
			r.halt(place(i), "byte 0x%02x is not valid UTF-8", data[i])
			break
		}
		i += size
	}
	return false
}

// physical reads one line of a file: without its comment, and with what goes on
// in the next line collected.
func (r *reader) physical(raw string, at source.Pos) {
	indent := len(raw) - len(strings.TrimLeft(raw, " \t"))
	text, terminated := uncommented(raw[indent:])
	at.Col = indent + 1
	if !terminated {
		at.Col += strings.LastIndexByte(text, '"')
		r.errs.Add(at, "a double quote that is not closed in its line")
		return
	}
	if r.defining != nil {
		if r.define(&text) {
			return
		}
	}
	r.unfold(line{text, at}, 0)
}

// uncommented is a line without its comment and the blanks around it. Only
// double quotes hide a comment's sign. A backslash before it does not: that
// makes a sign of it when keepalived reads the file, and a comment when its
// children read what it has read (run).
func uncommented(s string) (text string, terminated bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+1 < len(s) && (quoted || s[i+1] != '#' && s[i+1] != '!'):
			i++
		case c == '\\' && i+1 < len(s), !quoted && (c == '#' || c == '!'):
			return goesOn(s, i), true
		}
	}
	return strings.TrimRight(s, " \t\r"), !quoted
}

// goesOn is the text before the comment at i. The backslash with which the line
// goes on in the next one counts even at the end of a comment (run).
func goesOn(s string, i int) string {
	text := strings.TrimRight(s[:i], " \t")
	if strings.HasSuffix(strings.TrimRight(s, "\r"), `\`) && !strings.HasSuffix(s, `\\`) {
		text += `\`
	}
	return text
}
