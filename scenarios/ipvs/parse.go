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
	var list source.List
	var b builder
	for i, line := range strings.Split(text, "\n") {
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
		at := func(col int) source.Pos { return source.Pos{File: name, Line: i + 1, Col: col} }
		r, err := parseRule(words)
		if err == nil {
			err = b.apply(r)
		}
		if err != nil {
			list.Add(at(err.col), "%s", err.msg)
		}
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	return b.table, nil
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
type builder struct{ table Table }

// apply does to the table what the kernel would do to its own.
func (b *builder) apply(r *rule) *ruleError {
	if r.cmd == 'C' {
		b.table = nil
		return nil
	}
	entry, there := b.table.Find(r.service)
	if r.cmd == 'A' {
		if there {
			return r.service1.errorf("there is a virtual service %s already", r.service.Name())
		}
		b.table = append(b.table, Entry{Service: r.service})
		return nil
	}
	if !there {
		return r.service1.errorf("there is no virtual service %s; add it before with -A", r.service.Name())
	}
	switch r.cmd {
	case 'E':
		entry.Service = r.service
	case 'D':
		b.table = slices.DeleteFunc(b.table, func(e Entry) bool { return e.Same(r.service) })
	default:
		return b.applyServer(r, entry)
	}
	return nil
}

func (b *builder) applyServer(r *rule, entry *Entry) *ruleError {
	name := r.service.Name()
	d, there := entry.Find(r.server)
	switch {
	case r.cmd == 'a' && there:
		return r.server1.errorf("%s has a real server %s already", name, r.server.Addr)
	case r.cmd != 'a' && !there:
		return r.server1.errorf("%s has no real server %s", name, r.server.Addr)
	case r.cmd == 'a':
		entry.Destinations = append(entry.Destinations, r.server)
	case r.cmd == 'e':
		*d = r.server
	default:
		entry.Destinations = slices.DeleteFunc(entry.Destinations, func(d Destination) bool {
			return d.Addr == r.server.Addr
		})
	}
	return nil
}
