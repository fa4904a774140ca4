package keepalived

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// leftovers are keywords inside blocks that do not concern balancing. Those of one
// kind of block are one note, each keyword with the line that has it first, however
// often they are said: a checker has three of them, and a real server a checker.
type leftovers struct {
	kinds []*leftover
}

// leftover are those of one kind of block.
type leftover struct {
	of    string
	keys  []string
	first []source.Pos // of the keys
	lines int
}

// add notes a keyword of a kind of block.
func (l *leftovers) add(s *stmt, of string) {
	i := slices.IndexFunc(l.kinds, func(k *leftover) bool { return k.of == of })
	if i < 0 {
		i = len(l.kinds)
		l.kinds = append(l.kinds, &leftover{of: of})
	}
	k := l.kinds[i]
	k.lines++
	if !slices.Contains(k.keys, s.key()) {
		k.keys, k.first = append(k.keys, s.key()), append(k.first, s.at())
	}
}

func (l *leftovers) notes() []config.Note {
	out := make([]config.Note, 0, len(l.kinds))
	for _, k := range l.kinds {
		out = append(out, note(k.first[0], config.Ignored, k.String()))
	}
	return out
}

// String is "connect_timeout, retry (line 12) of TCP_CHECK are left out: they
// change no virtual service (8 lines in all)".
func (k *leftover) String() string {
	words := slices.Clone(k.keys)
	for i, at := range k.first {
		if i > 0 {
			words[i] += " (" + inLine(at, k.first[0]) + ")"
		}
	}
	msg := strings.Join(words, ", ") + " of " + k.of
	switch {
	case len(words) > 1:
		msg += " are left out: they change no virtual service"
	default:
		msg += " is left out: it changes no virtual service"
	}
	switch {
	case k.lines > len(words) && len(words) > 1:
		msg += fmt.Sprintf(" (%d lines in all)", k.lines)
	case k.lines > 1 && len(words) == 1:
		msg += fmt.Sprintf(" (the first of %d)", k.lines)
	}
	return msg
}
