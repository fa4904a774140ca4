// Package source is the ground floor: positions in a lab file, lists of errors
// that carry them, and strict decoding of YAML into Go values.
//
// It knows nothing of networks. Everything a lab file says is decoded here, so
// that every error reads the same way: file:line:column, what is wrong, the
// nearest known word, what is allowed.
package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a lab file. Line and Col count from 1; zero means unknown.
type Pos struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String is file:line:col, without the parts that are unknown.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// IsValid reports whether the place is known.
func (p Pos) IsValid() bool { return p.Line > 0 }

// Error is one thing that is wrong at one place. Code names the kind of a
// finding that a lab may allow ("vip-in-no-network"); it is empty for an error
// of structure, which nothing can allow.
type Error struct {
	Pos  Pos
	Code string
	Msg  string
}

func (e *Error) Error() string {
	msg := e.Msg
	if e.Code != "" {
		msg += " [" + e.Code + "]"
	}
	if p := e.Pos.String(); p != "" {
		return p + ": " + msg
	}
	return msg
}

// List collects all the errors of a file, so that one run tells them all.
type List []*Error

// Add appends an error of structure.
func (l *List) Add(pos Pos, format string, args ...any) {
	*l = append(*l, &Error{Pos: pos, Msg: fmt.Sprintf(format, args...)})
}

// Find appends a finding that a lab may allow by its code.
func (l *List) Find(pos Pos, code, format string, args ...any) {
	*l = append(*l, &Error{Pos: pos, Code: code, Msg: fmt.Sprintf(format, args...)})
}

// AddError appends err, keeping the places of a *Error or List inside it; any
// other error is put at pos.
func (l *List) AddError(pos Pos, err error) {
	var list List
	var one *Error
	switch {
	case err == nil:
	case errors.As(err, &list):
		*l = append(*l, list...)
	case errors.As(err, &one):
		*l = append(*l, one)
	default:
		l.Add(pos, "%v", err)
	}
}

// Error is one line an error, in the order of the file.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Err sorts the list by place, drops repetitions, and returns nil when nothing
// is left.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	sorted := slices.Clone(l)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		if c := strings.Compare(a.Pos.File, b.Pos.File); c != 0 {
			return c
		}
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	seen := make(map[Error]bool)
	return slices.DeleteFunc(sorted, func(e *Error) bool {
		again := seen[*e]
		seen[*e] = true
		return again
	})
}

// Nearest is the word of known that word is cut short from, or that is nearest
// to it by edit distance; "" when none is near enough to be worth naming.
func Nearest(word string, known []string) string {
	best, bestDist := "", len(word)/3+2
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if len(word) >= 4 && strings.HasPrefix(k, word) {
			d = min(d, 1) // cut short
		}
		if d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// Unknown is the sentence for a word that is not among those allowed.
func Unknown(what, word string, allowed []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unknown %s %q", what, word)
	if n := Nearest(word, allowed); n != "" {
		fmt.Fprintf(&b, ", did you mean %q?", n)
	} else {
		b.WriteByte(';')
	}
	fmt.Fprintf(&b, " Allowed: %s", strings.Join(allowed, ", "))
	return b.String()
}

// distance is Levenshtein's, by bytes, bounded so that a hostile file cannot
// make it costly.
func distance(a, b string) int {
	const most = 64
	if len(a) > most || len(b) > most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
