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
	// now are the services of the new configuration by their names, and sorry their
	// sorry servers.
	now, sorry map[string]source.Pos
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
// gone says that the service has none of its real servers then.
type asked struct {
	line    int
	service string
	gone    bool
}

func newBlame(b *base, now *config.Config, d *importer.Difference) *blame {
	m := &blame{base: b, changes: make(map[string][]importer.Change), now: make(map[string]source.Pos), sorry: make(map[string]source.Pos), of: make(map[line][]string)}
	for _, c := range d.Changes {
		m.changes[c.Service] = append(m.changes[c.Service], c)
	}
	for i := range now.Services {
		s := &now.Services[i]
		if m.now[s.Name()] = s.Pos; s.Sorry != nil {
			m.sorry[s.Name()] = s.Sorry.Pos
		}
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
			m.steps = append(m.steps, asked{s.Pos.Line, serviceAsked(l, s), losesPool(l, s)})
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

// losesPool reports whether a step takes all its real servers from a service.
func losesPool(l *scenarios.Lab, s scenarios.Step) bool {
	return slices.ContainsFunc(s.Do, func(a scenarios.Action) bool {
		name, nodes, ok := a.RealServers()
		v, known := l.VirtualServices.Get(name)
		return ok && known && poolGone(v, nodes)
	})
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
// service, else of its sorry server where that is to answer, else of the service.
func (m *blame) find(lab, old source.Pos, known bool) (source.Pos, bool) {
	var services []string
	if known {
		services = m.of[line{old.File, old.Line}]
	}
	step := m.stepAt(lab.Line)
	if step.service != "" && !slices.Contains(services, step.service) {
		services = append(slices.Clone(services), step.service)
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
	if pos, ok := m.sorry[step.service]; ok && step.gone {
		return pos, true
	}
	for _, service := range services {
		if pos, ok := m.now[service]; ok {
			return pos, true
		}
	}
	return source.Pos{}, false
}

// stepAt is the step at a line of the lab.
func (m *blame) stepAt(n int) asked {
	var step asked
	for _, s := range m.steps {
		if s.line > n {
			break
		}
		step = s
	}
	return step
}
