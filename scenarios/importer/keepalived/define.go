package keepalived

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// definition is what $NAME= says. One of several lines can only be used where
// nothing follows it.
type definition struct {
	lines []string
	multi bool
}

// define adds a line to the definition that is open, and reports whether it took
// it. An empty line ends a definition, as does one without a backslash (run).
func (r *reader) define(text *string) bool {
	d := r.defining
	if d == nil {
		return false
	}
	if text == nil || *text == "" {
		r.defining = nil
		return text != nil
	}
	more := strings.HasSuffix(*text, `\`)
	if !more {
		r.defining = nil
	}
	if body := strings.TrimRight(strings.TrimSuffix(*text, `\`), " \t"); body != "" {
		d.lines = append(d.lines, body)
	}
	return true
}

// definitionOf takes "$NAME=VALUE" apart; there is no blank before the =.
func definitionOf(text string) (name, value string, ok bool) {
	if !strings.HasPrefix(text, "$") {
		return "", "", false
	}
	n := nameLen(text[1:])
	if n == 0 || len(text) <= 1+n || text[1+n] != '=' {
		return "", "", false
	}
	return text[1 : 1+n], strings.TrimLeft(text[n+2:], " \t"), true
}

// nameLen is the length of the name that s begins with.
func nameLen(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

func (r *reader) set(name, value string) {
	d := &definition{}
	body, more := strings.CutSuffix(value, `\`)
	d.multi = more
	if more {
		r.defining = d
	}
	if body = strings.TrimRight(body, " \t"); body != "" {
		d.lines = append(d.lines, body)
	}
	r.defs[name] = d
}

// inList is the depth of what stands in the parentheses of ~SEQ and ~LST, where
// nothing may unfold to several lines.
const inList = -1

// unfold does what stands before the words of a line: conditions, definitions,
// repetitions, the use of definitions, includes.
func (r *reader) unfold(l line, depth int) {
	if depth > maxUnfold {
		r.halt(l.at, "definitions that use one another more than %d deep; is one used in itself?", maxUnfold)
	}
	if depth > 0 {
		r.work(l)
	}
	for l.text != "" && !r.broken {
		if l.text[0] == '@' {
			if !r.condition(&l) {
				return
			}
			continue
		}
		if name, value, ok := definitionOf(l.text); ok {
			r.set(name, value)
			return
		}
		if strings.HasPrefix(l.text, "~SEQ") || strings.HasPrefix(l.text, "~LST") {
			r.repeat(l, depth)
			return
		}
		done, again := r.use(&l, depth)
		if done {
			return
		}
		if !again {
			break
		}
	}
	if l.text == "" || r.broken || r.include(l) {
		return
	}
	r.undefined(l)
	if !r.broken {
		r.tree.line(l)
	}
}

// work counts what is done for a line beside reading it, and ends where that is
// too much.
func (r *reader) work(l line) {
	if r.lines++; r.lines > maxLines {
		r.halt(l.at, "unfolds to more than %d lines; look at its definitions, ~SEQ and ~LST", maxLines)
	}
}

// use puts definitions in. done says that the line was unfolded into several and
// is dealt with; again, that it is another now and to be looked at anew.
func (r *reader) use(l *line, depth int) (done, again bool) {
	text := l.text
	for from, count := 0, 0; ; count++ {
		i := strings.IndexByte(text[from:], '$')
		if i < 0 {
			break
		}
		i += from
		name, args, end := reference(text, i)
		value, multi, ok := r.value(name, args, end == len(text), l.at)
		if !ok {
			from = i + 1
			continue
		}
		again = true
		if r.work(*l); r.broken {
			return true, false
		}
		first := ""
		if len(value) > 0 {
			first = value[0]
		}
		text = text[:i] + first + text[end:]
		from = i
		if count > maxUnfold*maxUnfold || len(text) > maxLine {
			r.halt(l.at, "with its definitions put in, the line is longer than the %d bytes that keepalived reads; is one used in itself?", maxLine)
			return true, false
		}
		if name == "_HASH" || name == "_BANG" {
			// The sign begins a comment when keepalived's children read the
			// line that it has unfolded (run).
			if cut, ok := uncommented(text); ok {
				text = cut
			}
			continue
		}
		if multi && depth == inList {
			r.halt(l.at, "a definition of several lines cannot stand in a list")
			return true, false
		}
		if multi {
			at := l.at
			at.Col = 0
			for n, t := range value {
				if n == 0 {
					t = text
				}
				r.unfold(line{t, at}, depth+1)
			}
			return true, false
		}
	}
	if again {
		l.text = strings.TrimLeft(text, " \t")
		l.at.Col = 0
	}
	return false, again
}

// reference reads $NAME or ${NAME args} at i. Without braces a blank, a comma, a
// closing parenthesis or the end of the line must follow.
func reference(text string, i int) (name, args string, end int) {
	rest := text[i+1:]
	if inner, ok := strings.CutPrefix(rest, "{"); ok {
		n := nameLen(inner)
		m := n
		for m < len(inner) && (inner[m] == ' ' || inner[m] >= '0' && inner[m] <= '9') {
			m++
		}
		if n == 0 || m == len(inner) || inner[m] != '}' {
			return "", "", i + 1
		}
		return inner[:n], inner[n:m], i + 2 + m + 1
	}
	n := nameLen(rest)
	if n == 0 || n < len(rest) && strings.IndexByte(" \t,)", rest[n]) < 0 {
		return "", "", i + 1
	}
	return rest[:n], "", i + 1 + n
}

// value is what a name stands for: its lines, of which a definition of several
// has more than one or is multi.
func (r *reader) value(name, args string, last bool, at source.Pos) (lines []string, multi, ok bool) {
	if name == "" {
		return nil, false, false
	}
	if d, found := r.defs[name]; found {
		if args != "" || d.multi && !last {
			return nil, false, false
		}
		return d.lines, d.multi, true
	}
	switch name {
	case "_PWD":
		// Includes are relative to their own file, and nothing else that is
		// kept has a path in it.
		return []string{"."}, false, true
	case "_INSTANCE":
		if r.id == "" {
			r.note(at, config.Assumed, "${_INSTANCE} is keepalived's config-id, which is not given; taken as empty")
		}
		return []string{r.id}, false, true
	case "_RANDOM":
		low := 0
		if f := strings.Fields(args); len(f) > 0 {
			low, _ = strconv.Atoi(f[0]) // digits alone
		}
		r.note(at, config.Assumed, "${_RANDOM} is another number at each start of keepalived; taken as its lowest, %d", low)
		return []string{strconv.Itoa(low)}, false, true
	case "_HASH":
		return []string{"#"}, false, true
	case "_BANG":
		return []string{"!"}, false, true
	}
	return nil, false, false
}

// undefined tells of ${NAME} that nothing defines: keepalived leaves it, and the
// braces would part the line. In quotes it may be a script's own.
func (r *reader) undefined(l line) {
	quoted := false
	for i := range len(l.text) {
		if l.text[i] == '"' {
			quoted = !quoted
		}
		if quoted || !strings.HasPrefix(l.text[i:], "${") {
			continue
		}
		inner := l.text[i+2:]
		n := nameLen(inner)
		if n == 0 || n == len(inner) || inner[n] != '}' {
			continue
		}
		why := "is not defined before this line; if another program fills it in, import what that writes"
		if d, ok := r.defs[inner[:n]]; ok && d.multi {
			why = "is a definition of several lines, after which nothing may follow in the line"
		}
		r.errs.Add(l.col(i), "${%s} %s", inner[:n], why)
		r.broken = true
	}
}

// elsewhere counts the lines that are for another config-id.
type elsewhere struct {
	order []string
	first map[string]source.Pos
	count map[string]int
	taken bool
}

// condition reads @ID or @^ID in front of a line, and reports whether the line
// counts.
func (r *reader) condition(l *line) bool {
	word, _, _ := strings.Cut(l.text, "\t")
	word, _, _ = strings.Cut(word, " ")
	rest := strings.TrimLeft(l.text[len(word):], " \t")
	id, not := strings.CutPrefix(word[1:], "^")
	if rest == "" {
		r.note(l.at, config.Warning, "%s with nothing behind it says nothing", quote(word))
		return false
	}
	if (id == r.id && r.id != "") == not {
		if r.away.first == nil {
			r.away.first, r.away.count = map[string]source.Pos{}, map[string]int{}
		}
		if r.away.count[word]++; r.away.count[word] == 1 {
			r.away.order = append(r.away.order, word)
			r.away.first[word] = l.at
		}
		return false
	}
	if not && r.id == "" && !r.away.taken {
		r.away.taken = true
		r.note(l.at, config.Assumed, "lines that begin with @^ are taken: no config-id was given")
	}
	if l.at.Col > 0 {
		l.at.Col += len(l.text) - len(rest)
	}
	l.text = rest
	return true
}

// notes say which lines were left out.
func (e *elsewhere) notes(id string) []config.Note {
	var out []config.Note
	for _, w := range e.order {
		is := fmt.Sprintf("the config-id is %s", id)
		if id == "" {
			is = "no config-id was given"
		}
		out = append(out, note(e.first[w], config.Ignored, fmt.Sprintf("lines that begin with %s are left out (%s from here on): %s", w, plural(e.count[w], "line"), is)))
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// quote is a word as messages show it.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strconv.Quote(s)
}
