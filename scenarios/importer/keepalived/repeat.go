package keepalived

import (
	"strconv"
	"strings"
)

// repeat does ~SEQ(NAME, …) and ~LST(NAME, …): what follows in the line is read
// once for each value. The name stays defined after it.
func (r *reader) repeat(l line, depth int) {
	word := l.text[:len("~SEQ")]
	rest := l.text[len(word):]
	hex := false
	if word == "~SEQ" {
		rest, hex = strings.CutPrefix(rest, "x")
	}
	rest = strings.TrimLeft(rest, " \t")
	inside, body, ok := parenthesis(rest)
	if !ok {
		r.errs.Add(l.at, "%s needs its list in parentheses: %s", word, usage(word))
		return
	}
	inside, ok = r.flat(inside, l)
	if !ok {
		return
	}
	var names []string
	var rows [][]string
	var wrong string
	if word == "~SEQ" {
		names, rows, wrong = sequence(inside, hex)
	} else {
		names, rows, wrong = list(inside)
	}
	if wrong != "" {
		r.errs.Add(l.at, "%s(%s): %s", word, inside, wrong)
		return
	}
	body = strings.TrimLeft(body, " \t")
	if body == "" {
		r.errs.Add(l.at, "%s has nothing behind it to repeat", word)
		return
	}
	at := l.at
	at.Col = 0
	for _, row := range rows {
		for i, n := range names {
			r.defs[n] = &definition{lines: []string{row[i]}}
		}
		if r.broken {
			return
		}
		r.unfold(line{body, at}, depth+1)
	}
}

func usage(word string) string {
	if word == "~SEQ" {
		return "~SEQ(NAME, FIRST, STEP, LAST)"
	}
	return "~LST(NAME, VALUE, VALUE, …)"
}

// parenthesis takes "(…)" off the front of s.
func parenthesis(s string) (inside, rest string, ok bool) {
	if !strings.HasPrefix(s, "(") {
		return "", s, false
	}
	inside, rest, ok = strings.Cut(s[1:], ")")
	return inside, rest, ok
}

// flat puts definitions into the list itself.
func (r *reader) flat(s string, l line) (string, bool) {
	in := line{s, l.at}
	if done, _ := r.use(&in, inList); done {
		return "", false
	}
	return in.text, true
}

// sequence reads NAME[, FIRST[, STEP]], LAST.
func sequence(s string, hex bool) (names []string, rows [][]string, wrong string) {
	parts := fields(s)
	if len(parts) < 2 || len(parts) > 4 || nameLen(parts[0]) != len(parts[0]) || parts[0] == "" {
		return nil, nil, "wanted a name and one to three numbers, " + usage("~SEQ")
	}
	var v []int64
	for _, p := range parts[1:] {
		n, err := strconv.ParseInt(p, 0, 32)
		if err != nil {
			return nil, nil, quote(p) + " is no number"
		}
		v = append(v, n)
	}
	first, step, last := int64(1), int64(1), v[len(v)-1]
	switch {
	case len(v) > 1:
		first = v[0]
	case last < 0:
		first = -1
	}
	if last < first {
		step = -1
	}
	if len(v) == 3 {
		step = v[1]
	}
	switch {
	case step == 0 || first < last && step < 0 || first > last && step > 0:
		return nil, nil, "the step does not lead from the first number to the last"
	case hex && (first < 0 || last < 0):
		return nil, nil, "~SEQx is for positive numbers alone"
	case (last-first)/step >= maxLines:
		return nil, nil, "that is more than " + strconv.Itoa(maxLines) + " numbers"
	}
	base := 10
	if hex {
		base = 16
	}
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		rows = append(rows, []string{strconv.FormatInt(n, base)})
	}
	return parts[:1], rows, ""
}

// list reads NAME, VALUE, … or {NAME, NAME}, {VALUE, VALUE}, ….
func list(s string) (names []string, rows [][]string, wrong string) {
	rest := strings.TrimSpace(s)
	for first := true; rest != ""; first = false {
		var row []string
		if inner, ok := strings.CutPrefix(rest, "{"); ok {
			in, after, closed := strings.Cut(inner, "}")
			if !closed {
				return nil, nil, "a { that is not closed"
			}
			row, rest = fields(in), strings.TrimSpace(after)
		} else {
			item, _, _ := strings.Cut(rest, ",")
			row, rest = []string{strings.TrimSpace(item)}, rest[len(item):]
		}
		switch {
		case first:
			names = row
			for _, n := range names {
				if n == "" || nameLen(n) != len(n) {
					return nil, nil, quote(n) + " cannot be a name"
				}
			}
		case len(row) > len(names):
			return nil, nil, plural(len(row), "value") + " for " + plural(len(names), "name")
		default:
			for len(row) < len(names) {
				row = append(row, "")
			}
			rows = append(rows, row)
		}
		var comma bool
		if rest, comma = strings.CutPrefix(rest, ","); !comma && rest != "" {
			return nil, nil, "wanted a comma before " + quote(rest)
		}
		rest = strings.TrimSpace(rest)
	}
	if len(rows) == 0 {
		return nil, nil, "wanted a name and values, " + usage("~LST")
	}
	return names, rows, ""
}

func fields(s string) []string {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		parts[i] = strings.TrimSpace(p)
	}
	return parts
}
