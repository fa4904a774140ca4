package main

import (
	"slices"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// blame finds the line of a new configuration for what fails in the lab of an old
// one.
type blame struct {
	base *base
	// changes are those of each virtual service, by its name in the old
	// configuration, with a place in the new one.
	changes map[string][]importer.Change
	// now are the services of the new configuration by their names; moved are the
	// places of those that have another name now.
	now map[string]source.Pos
	// of are the services that a line of the old configuration is about.
	of map[line][]string
	// steps are the lab's, in the order of their lines, each with the service that
	// it asks.
	steps []asked
}

// line is a place without its column.
type line struct {
	file string
	line int
}

// asked is a step that begins at a line of the lab, and the service that it asks.
type asked struct {
	line    int
	service string
}

func newBlame(b *base, now *config.Config, d *importer.Difference) *blame {
	m := &blame{base: b, changes: make(map[string][]importer.Change), now: make(map[string]source.Pos), of: make(map[line][]string)}
	for _, c := range d.Changes {
		m.changes[c.Service] = append(m.changes[c.Service], c)
	}
	for i := range now.Services {
		m.now[now.Services[i].Name()] = now.Services[i].Pos
	}
	for i := range b.config.Services {
		s := &b.config.Services[i]
		m.about(s.Name(), s.Pos)
		for _, p := range s.Places {
			m.about(s.Name(), p)
		}
		for j := range s.Servers {
			m.about(s.Name(), s.Servers[j].Pos)
			for _, p := range s.Servers[j].Places {
				m.about(s.Name(), p)
			}
		}
		if s.Sorry != nil {
			m.about(s.Name(), s.Sorry.Pos)
		}
	}
	for _, l := range b.labs {
		for _, s := range l.Steps {
			m.steps = append(m.steps, asked{s.Pos.Line, serviceAsked(l, s)})
		}
	}
	return m
}

func (m *blame) about(service string, p source.Pos) {
	at := line{p.File, p.Line}
	if !slices.Contains(m.of[at], service) {
		m.of[at] = append(m.of[at], service)
	}
}

// serviceAsked is the virtual service that a step asks by its name, "" for none.
func serviceAsked(l *scenarios.Lab, s scenarios.Step) string {
	for _, a := range s.Do {
		if a.Request == nil {
			continue
		}
		if v, ok := l.Service(a.Request.To); ok {
			return v.Name()
		}
	}
	return ""
}

// event is an event whose places are those of the new configuration, with those
// of the old one, or of the lab where that is a file, beside them.
func (m *blame) event(e wire.Event) wire.Event {
	e = m.base.places.Through(e, func(lab source.Pos) (source.Pos, *source.Pos) {
		old, known := m.base.places.At(lab)
		beside, _ := m.base.places.AtOrWhole(lab)
		if m.base.onDisk {
			beside = lab
			old, known = m.base.declared[line{old.File, old.Line}]
		}
		now, ok := m.find(lab, old, known)
		switch {
		case ok:
			return now, &beside
		case beside.IsValid():
			return beside, nil
		}
		return lab, nil
	})
	if !m.base.onDisk {
		e = m.base.places.Reword(e)
	}
	return e
}

// find is the place in the new configuration that a place of the lab is about:
// that of what was changed on the very line, else of what was changed in the same
// service, else of the service.
func (m *blame) find(lab, old source.Pos, known bool) (source.Pos, bool) {
	var services []string
	if known {
		services = m.of[line{old.File, old.Line}]
	}
	if service := m.serviceAt(lab.Line); service != "" && !slices.Contains(services, service) {
		services = append(slices.Clone(services), service)
	}
	for _, exact := range []bool{true, false} {
		for _, service := range services {
			for _, c := range m.changes[service] {
				here := known && c.Old.Pos.File == old.File && c.Old.Pos.Line == old.Line
				if c.New.Pos.IsValid() && (here || !exact) {
					return c.New.Pos, true
				}
			}
		}
	}
	for _, service := range services {
		if pos, ok := m.now[service]; ok {
			return pos, true
		}
	}
	return source.Pos{}, false
}

// serviceAt is the service that the step at a line of the lab asks.
func (m *blame) serviceAt(n int) string {
	service := ""
	for _, s := range m.steps {
		if s.line > n {
			break
		}
		service = s.service
	}
	return service
}
