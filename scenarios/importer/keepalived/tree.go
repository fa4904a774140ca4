package keepalived

import (
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// word is one word of a line.
type word struct {
	text string
	at   source.Pos
}

// stmt is one line, and the block that follows it, if one does.
type stmt struct {
	words []word
	block *block
}

func (s *stmt) key() string    { return s.words[0].text }
func (s *stmt) at() source.Pos { return s.words[0].at }

// args are the words after the first.
func (s *stmt) args() []word { return s.words[1:] }

// rest is all words after the first, as one text.
func (s *stmt) rest() string {
	parts := make([]string, 0, len(s.words))
	for _, w := range s.args() {
		parts = append(parts, w.text)
	}
	return strings.Join(parts, " ")
}

// block is what stands between braces.
type block struct {
	open  source.Pos
	stmts []*stmt
	// head are the words that the block belongs to, and key the first of them.
	head, key string
}

// tree puts lines into blocks.
type tree struct {
	r     *reader
	stack []*block
	// last is the line that a { may follow.
	last *stmt
	// slab is room for the words of lines to come: one piece of memory for many.
	slab []word
	// bare is the first line that should have a block and has none.
	bare *stmt
	// astray is the first block that began inside open, where none like it may
	// be: open has probably not been closed.
	astray *stmt
	open   *block
}

func (t *tree) top() *block { return t.stack[len(t.stack)-1] }

// line takes one line apart at its braces, which count everywhere but in double
// quotes, even inside a word (run).
func (t *tree) line(l line) {
	from := 0
	quoted := false
	for i := 0; i < len(l.text) && !t.r.broken; i++ {
		switch c := l.text[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '}'):
			t.words(l, from, i)
			from = i + 1
			switch {
			case strings.HasPrefix(l.text[i:], "{{"), strings.HasPrefix(l.text[i:], "{%"):
				t.r.halt(l.col(i), "%s is of a template; fill that in and import what comes out", quote(l.text[i:i+2]))
			case c == '{':
				t.down(l.col(i))
			default:
				t.up(l.col(i))
			}
		}
	}
	t.words(l, from, len(l.text))
}

// wordsAtOnce is for how many words room is made.
const wordsAtOnce = 1024

// words adds a line's words from i to end. Words are parted by blanks and by
// double quotes, which hold one word between them; single quotes and backslashes
// mean nothing here (run), only in the commands of scripts.
func (t *tree) words(l line, i, end int) {
	if cap(t.slab)-len(t.slab) < wordsAtOnce/8 {
		t.slab = make([]word, 0, wordsAtOnce)
	}
	words := t.slab[len(t.slab):]
	for i < end {
		switch c := l.text[i]; {
		case isBlank(c):
			i++
		case c == '"':
			n := strings.IndexByte(l.text[i+1:end], '"')
			if n < 0 {
				t.r.errs.Add(l.col(i), "a double quote that is not closed in its line")
				return
			}
			words = append(words, word{l.text[i+1 : i+1+n], l.col(i)})
			i += n + 2
		default:
			n := strings.IndexAny(l.text[i:end], " \t\f\v\r\n\"")
			if n < 0 {
				n = end - i
			}
			words = append(words, word{l.text[i : i+n], l.col(i)})
			t.r.refuse(words[len(words)-1])
			i += n
		}
	}
	if len(words) > 0 {
		t.settle()
		if n := len(t.slab) + len(words); n <= cap(t.slab) {
			t.slab = t.slab[:n]
		}
		t.last = &stmt{words: words[:len(words):len(words)]}
		t.top().stmts = append(t.top().stmts, t.last)
	}
}

func isBlank(c byte) bool { return strings.IndexByte(" \t\f\v\r\n", c) >= 0 }

// refuse tells of words that another program would fill in.
func (r *reader) refuse(w word) {
	switch {
	case strings.Contains(w.text, "$("):
		r.errs.Add(w.at, "%s asks for a command's output; an import runs nothing, and keepalived has no such thing: write the value itself", quote(w.text))
	case strings.HasPrefix(w.text, "$") && strings.Contains(w.text, "="):
		r.errs.Add(w.at, "%s is no definition: a name is of letters, digits and _, and does not begin with a digit", quote(w.text))
	}
}

func (t *tree) down(at source.Pos) {
	if t.last == nil {
		t.r.halt(at, "a { that follows no keyword")
		return
	}
	if len(t.stack) > maxDepth {
		t.r.halt(at, "blocks nested deeper than %d", maxDepth)
		return
	}
	outer := t.top()
	if t.astray == nil && len(t.stack) > 1 && (!nests(t.last.key()) || t.last.key() == outer.key) {
		t.astray, t.open = t.last, outer
	}
	b := &block{open: at, head: title(t.last), key: t.last.key()}
	t.last.block = b
	t.stack = append(t.stack, b)
	t.last = nil
}

func (t *tree) up(at source.Pos) {
	t.settle()
	t.last = nil
	if len(t.stack) == 1 {
		hint := ""
		if t.bare != nil {
			hint = "; " + title(t.bare) + " in " + inLine(t.bare.at(), at) + " has none"
		}
		t.r.halt(at, "a } without its {%s", hint)
		return
	}
	t.stack = t.stack[:len(t.stack)-1]
}

// end is called when all is read.
func (t *tree) end(r *reader) {
	if r.broken {
		return
	}
	if len(t.stack) == 1 {
		return
	}
	t.unclosed(1, "")
}

// unclosed tells which of the blocks above a depth has probably no }, and then
// the rest.
func (t *tree) unclosed(depth int, rest string) {
	if t.astray != nil && t.open.open.File == t.stack[depth].open.File {
		t.r.halt(t.open.open, "the { of %s is never closed: %s in %s begins inside it%s", t.open.head, title(t.astray), inLine(t.astray.at(), t.open.open), rest)
		return
	}
	t.r.halt(t.stack[depth].open, "the { of %s is never closed%s", t.stack[depth].head, rest)
}

// settle looks at the last line when it is known that no { follows it.
func (t *tree) settle() {
	if s := t.last; s != nil && s.block == nil && t.bare == nil && (s.key() == "virtual_server" || s.key() == "real_server") {
		t.bare = s
	}
}

// nests says whether a block may stand inside another.
func nests(key string) bool {
	switch key {
	case "virtual_server", "virtual_server_group", "vrrp_instance", "global_defs", "vrrp_sync_group", "vrrp_script":
		return false
	}
	return true
}

// title is a line as messages name it.
func title(s *stmt) string {
	text := s.key()
	for _, w := range s.args() {
		if len(text)+len(w.text) > 60 {
			return text + " …"
		}
		text += " " + w.text
	}
	return text
}
