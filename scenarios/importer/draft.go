package importer

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// Draft writes the lab for a configuration: its networks and nodes, its virtual
// services, and steps that say what must happen. What a lab cannot be, such as a
// director that is its own real server, is a source.List with the places in the
// configuration. The lab that comes of it has no findings (scenarios.Load).
func Draft(c *config.Config, o DraftOptions) (*Lab, error) {
	if o.ManagedBy != "" && o.ManagedBy != managedByKeepalived {
		return nil, fmt.Errorf("%s; leave it out where lvslab shall write the tables", source.Unknown("manager", o.ManagedBy, []string{managedByKeepalived}))
	}
	if o.Name == "" {
		o.Name = nameOf(c)
	}
	if err := scenarios.CheckName(o.Name); err != nil {
		return nil, err
	}
	w, err := survey(c, o)
	if err != nil {
		return nil, err
	}
	w.configID, w.hasProgram = o.ConfigID, o.HasProgram
	steps := w.steps()
	w.dropSources(steps)
	p := new(page)
	w.writeHead(p)
	p.steps(steps)
	text := p.b.Bytes()
	return &Lab{Name: o.Name, Text: text, Notes: inOrder(c, w.notes), Origins: ReadOrigins(text)}, nil
}

// nameOf is the lab's name by that of the configuration's file.
func nameOf(c *config.Config) string {
	name := ""
	if len(c.Files) > 0 {
		base := filepath.Base(c.Files[0].Name)
		name = strings.TrimSuffix(base, filepath.Ext(base))
	}
	name = strings.Trim(strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-_")
	return cmp.Or(name[:min(len(name), 63)], "imported")
}

// inOrder are the reader's notes and the draft's, in the order of the files.
func inOrder(c *config.Config, notes []config.Note) []config.Note {
	file := make(map[string]int, len(c.Files))
	for i, f := range c.Files {
		file[f.Name] = i
	}
	all := slices.Concat(c.Notes, notes)
	slices.SortStableFunc(all, func(a, b config.Note) int {
		return cmp.Or(cmp.Compare(file[a.Pos.File], file[b.Pos.File]), cmp.Compare(a.Pos.Line, b.Pos.Line))
	})
	return all
}

// dropSources leaves clients only the addresses that some request comes from, and
// the first of each family.
func (w *world) dropSources(steps []step) {
	used := make(map[string]bool)
	for _, s := range steps {
		for _, a := range s.do {
			for _, word := range strings.FieldsFunc(a.text, func(c rune) bool { return strings.ContainsRune(" ,{}[]'\"", c) }) {
				used[word] = true
			}
		}
	}
	for _, m := range w.nodes {
		if !slices.Contains(w.clients, m.name) {
			continue
		}
		for i := range m.links {
			var seen [2]bool
			m.links[i].addresses = slices.DeleteFunc(m.links[i].addresses, func(a linkAddress) bool {
				f := family(a.Addr())
				first := !seen[f]
				seen[f] = true
				return !first && !used[a.Addr().String()]
			})
		}
	}
}

// steps writes the steps of a lab.
func (p *page) steps(list []step) {
	p.space()
	p.line(0, source.Pos{}, "steps:")
	for i, s := range list {
		if i > 0 {
			p.space()
		}
		p.comment(0, s.comment)
		p.line(0, source.Pos{}, "- name: %s", scalar(s.name))
		if s.within != "" {
			p.line(1, source.Pos{}, "within: %s", s.within)
		}
		p.assertions("do", s.do)
		p.assertions("expect", s.expect)
	}
}

// assertions writes one list of a step: on one line, where it is a single entry
// without a place of its own.
func (p *page) assertions(key string, list []assertion) {
	if len(list) == 0 {
		return
	}
	if len(list) == 1 && !list[0].from.IsValid() && !strings.Contains(list[0].text, "\n") {
		p.line(1, source.Pos{}, "%s: [%s]", key, list[0].text)
		return
	}
	p.line(1, source.Pos{}, "%s:", key)
	for _, a := range list {
		a.write(p, 1)
	}
}
