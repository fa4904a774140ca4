package importer

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// withDoubts is a configuration with notes of what either tool takes without a
// word, and what may well not be meant. All notes are then in the order of the
// files, and in each by line.
func withDoubts(c *config.Config) *config.Config {
	order := make(map[string]int, len(c.Files))
	for i, f := range c.Files {
		order[f.Name] = i
		// Both tools take the carriage return for white space (run).
		if at := bytes.Index(f.Data, []byte("\r\n")); at >= 0 {
			pos := place(f.Name, f.Data, at)
			pos.Col = 0
			c.Notes = append(c.Notes, config.Note{
				Pos: pos, Kind: config.Warning,
				Msg: fmt.Sprintf("lines end in carriage return and newline (CRLF); %s takes them, other tools may not", c.Kind),
			})
		}
		// A keepalived.conf that was cut off lacks a }; rules lack nothing else.
		if c.Kind == config.IPVSAdm && !bytes.HasSuffix(f.Data, []byte("\n")) {
			pos := place(f.Name, f.Data, len(f.Data))
			pos.Col = 0
			c.Notes = append(c.Notes, config.Note{
				Pos: pos, Kind: config.Warning,
				Msg: "the last line does not end in a newline, as what ipvsadm saves does; has the file been cut off?",
			})
		}
	}
	c.Notes = append(c.Notes, doubts(c)...)
	slices.SortStableFunc(c.Notes, func(a, b config.Note) int {
		return cmp.Or(
			cmp.Compare(order[a.Pos.File], order[b.Pos.File]),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Col, b.Pos.Col),
		)
	})
	return c
}

// doubts are what either tool takes without a word, and what may well not be
// meant.
func doubts(c *config.Config) []config.Note {
	var notes []config.Note
	warn := func(at source.Pos, format string, args ...any) {
		notes = append(notes, config.Note{Pos: at, Kind: config.Warning, Msg: fmt.Sprintf(format, args...)})
	}
	own := ownAddresses(c)
	told := make(map[source.Pos]bool) // a group's services have their servers in common
	carried := make(map[netip.Addr]bool)
	var families [2]bool
	for _, a := range c.Addresses {
		carried[a.Prefix.Addr()] = true
		families[family(a.Prefix.Addr())] = true
	}
	for i := range c.Services {
		s := &c.Services[i]
		if len(s.Servers) == 0 && s.Sorry == nil {
			warn(s.Pos, "%s has no real server: whoever connects is refused", s.Name())
		}
		if addr := s.Addr.Addr(); s.FWMark == 0 && c.Kind == config.Keepalived && !carried[addr] && families[family(addr)] && !addr.IsLoopback() {
			carried[addr] = true // it is told
			warn(s.Place("address"), "%v is in no virtual_ipaddress, as the file's others are: unless something else gives it to the director, nobody answers there", addr)
		}
		for j := range s.Servers {
			d := &s.Servers[j]
			addr := d.Addr.Addr()
			whose, ours := own[addr]
			if told[d.Pos] {
				continue
			}
			told[d.Pos] = true
			switch {
			case s.FWMark == 0 && addr == s.Addr.Addr():
				warn(d.Pos, "real server %s has the virtual address itself: the director would be its own real server", d.Addr)
			case ours:
				warn(d.Pos, "real server %s is the director itself, which has that address by %s", d.Addr, lineOf(whose))
			case addr.IsLoopback():
				warn(d.Pos, "real server %s is the director itself", d.Addr)
			}
		}
	}
	return notes
}

// ownAddresses are those that the director has, with the first place that says
// so.
func ownAddresses(c *config.Config) map[netip.Addr]source.Pos {
	own := make(map[netip.Addr]source.Pos)
	add := func(a netip.Addr, at source.Pos) {
		if _, there := own[a]; !there && a.IsValid() {
			own[a] = at
		}
	}
	for i := range c.Services {
		if s := &c.Services[i]; s.FWMark == 0 {
			add(s.Addr.Addr(), s.Pos)
		}
	}
	for _, a := range c.Addresses {
		add(a.Prefix.Addr(), a.Pos)
	}
	return own
}

func lineOf(p source.Pos) string {
	p.Col = 0
	return p.String()
}
