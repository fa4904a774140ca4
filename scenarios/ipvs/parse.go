package ipvs

import (
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// ParseRules reads rules as `ipvsadm -S` and `ipvsadm -S -n` print them and
// ipvsadm-restore takes them: one command a line, with or without the word
// ipvsadm before it, applied in order to a table that is empty at first. Lines
// that begin with # are comments. Real servers keep the order in which they
// were added.
//
// name is the file's, for errors: each is file:line:column and a reason. All
// the mistakes of a text are told at once, and a text with any gives no table.
//
// It is ipvsadm 1.31's grammar (popt's options included: -At ADDR, -srr,
// --scheduler=rr), held to it by a test that feeds the real one. The
// differences are refusals: names of hosts are not looked up (but localhost,
// which -S prints), and neither are netmasks taken that are no prefix, IPv4
// addresses in short forms or in IPv6 clothes, options in an order in which
// ipvsadm forgets them, and the commands that change no table (-L, -S, -Z,
// --set, daemons). Only marks from 2^31 on, which ipvsadm -S prints as negative
// numbers and cannot read back, are taken.
func ParseRules(name, text string) (Table, error) {
	b := builder{index: newIndex()}
	err := eachRule(name, text, func(words []word, _ source.Pos) *ruleError {
		r, err := parseRule(words)
		if err == nil {
			err = b.apply(r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.table, nil
}

// eachRule calls f with the words of each line that has any, but for the word
// ipvsadm, and with the line's place. Its error has all that f complained of.
func eachRule(name, text string, f func(words []word, line source.Pos) *ruleError) error {
	var list source.List
	pos := source.Pos{File: name}
	for rest, more := text, true; more; {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		pos.Line++
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := split(line)
		if len(words) > 0 && words[0].text == "ipvsadm" {
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		if err := f(words, pos); err != nil {
			list.Add(source.Pos{File: name, Line: pos.Line, Col: err.col}, "%s", err.msg)
		}
	}
	return list.Err()
}

// word is a word of a line and the column, from 1, where it begins.
type word struct {
	text string
	col  int
}

// split cuts a line at white space. ipvsadm knows no quotes.
func split(line string) []word {
	const space = " \t\r\v\f"
	var words []word
	for col := 0; col < len(line); {
		rest := line[col:]
		skip := len(rest) - len(strings.TrimLeft(rest, space))
		if skip > 0 {
			col += skip
			continue
		}
		end := strings.IndexAny(rest, space)
		if end < 0 {
			end = len(rest)
		}
		words = append(words, word{rest[:end], col + 1})
		col += end
	}
	return words
}

// builder is a table as the rules read so far have made it.
type builder struct {
	table Table
	// index finds places in the table; without one it is searched.
	index *index
}

// apply does to the table what the kernel would do to its own.
func (b *builder) apply(r *rule) *ruleError {
	if r.cmd == 'C' {
		b.table = nil
		b.index.clear()
		return nil
	}
	i := b.find(r.service)
	there := i >= 0
	if r.cmd == 'A' {
		if there {
			return r.service1.errorf("there is a virtual service %s already", r.service.Name())
		}
		b.table = append(b.table, Entry{Service: r.service})
		b.index.addService(b.table)
		return nil
	}
	if !there {
		return r.service1.errorf("there is no virtual service %s; add it before with -A", r.service.Name())
	}
	switch r.cmd {
	case 'E':
		b.table[i].Service = r.service
	case 'D':
		b.index.dropService(b.table[i], b.table[i+1:])
		b.table = slices.Delete(b.table, i, i+1)
	default:
		return b.applyServer(r, i)
	}
	return nil
}

func (b *builder) applyServer(r *rule, i int) *ruleError {
	entry := &b.table[i]
	name := r.service.Name()
	j := b.findServer(i, r.server)
	there := j >= 0
	switch {
	case r.cmd == 'a' && there:
		return r.server1.errorf("%s has a real server %s already", name, r.server.Addr)
	case r.cmd != 'a' && !there:
		return r.server1.errorf("%s has no real server %s", name, r.server.Addr)
	case r.cmd == 'a':
		entry.Destinations = append(entry.Destinations, r.server)
		b.index.addServer(*entry)
	case r.cmd == 'e':
		entry.Destinations[j] = r.server
	default:
		b.index.dropServer(*entry, entry.Destinations[j], entry.Destinations[j+1:])
		entry.Destinations = slices.Delete(entry.Destinations, j, j+1)
	}
	return nil
}
