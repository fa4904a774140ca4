package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/origin"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// against runs the lab of an old configuration with the table of a new one.
func (t *testRun) against(args []string, old string) error {
	switch {
	case len(args) != 1:
		return usageError{fmt.Errorf("--against: one configuration is held against OLD, and %d were named", len(args))}
	case t.with:
		return usageError{errors.New("--against and --with-keepalived: keepalived would bring the machines of its own configuration; give one of them")}
	case old == "":
		return usageError{errors.New("--against: wanted the older configuration, or a lab that was imported from it")}
	case old == importer.Stdin && args[0] == importer.Stdin:
		return usageError{errors.New("both files are standard input, which is read once")}
	}
	now, err := t.imported.read(args[0])
	if err != nil {
		return err
	}
	t.tellNotes(warnings(now.Notes))
	base, err := t.base(old)
	if err != nil {
		return err
	}
	if base.file.Set, err = managedByRules(base.labs, now); err != nil {
		return err
	}
	base.file.Set = append(base.file.Set, lostVIPs(base.labs, base.config, now)...)
	d, err := importer.Compare(base.config, now, t.imported.draftOptions())
	if err != nil {
		return err
	}
	t.tellChanges(base.config, now, d)
	base.playChanges(t.app, now)
	blame := newBlame(base, now, d)
	blame.blameVIPs(base.config, now)
	t.work.mapEvent = blame.event
	if err := t.load([]wire.File{base.file}, base.places); err != nil {
		return err
	}
	t.work.kept, err = base.kept(args[0], old)
	return err
}

// kept is the lab as it is run, in a file that needs nothing else to be run again.
func (b *base) kept(now, old string) ([]wire.File, error) {
	text, err := scenarios.Written(b.file.Path, b.file.Name, b.file.Data, b.file.Set...)
	if err != nil {
		return nil, err
	}
	f := b.file
	f.Set = nil
	f.Data = slices.Concat([]byte("# The lab of "+visible(old)+" with the director's rules of "+visible(now)+",\n# as lvslab test "+visible(now)+" --against "+visible(old)+" ran it.\n"), text)
	return []wire.File{f}, nil
}

// base is what a new configuration is held against.
type base struct {
	file wire.File
	labs []*scenarios.Lab
	// config is what the lab tells its directors.
	config *config.Config
	places *origin.Map
	// onDisk says that the lab is a file of its own, whose lines a person can
	// look at.
	onDisk bool
	// declared are the places at which such a lab declares what came from a line
	// of the configuration.
	declared map[line]source.Pos
}

// base reads the older configuration, or the lab that was made of it.
func (t *testRun) base(old string) (*base, error) {
	if isLabFile(old) {
		return baseLab(old)
	}
	lab, c, err := t.draft(old, nil)
	if err != nil {
		return nil, err
	}
	b := &base{file: draftFile(old, lab), config: c}
	b.places = origin.Of([]wire.File{b.file})
	b.places.Whole(b.file.Path, wholeOf(c))
	if b.labs, err = scenarios.Load(b.file.Path, b.file.Name, b.file.Data); err != nil {
		return nil, originErrors(b.places, err)
	}
	return b, nil
}

func baseLab(path string) (*base, error) {
	data, err := source.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{fmt.Errorf("--against: %w", notFound(path))}
	}
	if err != nil {
		return nil, err
	}
	b := &base{file: wire.File{Path: path, Name: scenarios.NameOf(path), Data: data}, onDisk: true, declared: make(map[line]source.Pos)}
	if b.labs, err = scenarios.Load(path, b.file.Name, data); err != nil {
		return nil, err
	}
	b.places = origin.Of([]wire.File{b.file})
	b.config = &config.Config{Files: []config.File{{Name: path, Data: data}}}
	for _, l := range b.labs {
		if err := b.declare(l); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// declare adds what a lab tells its directors to the base's configuration.
func (b *base) declare(l *scenarios.Lab) error {
	if len(l.VirtualServices) == 0 {
		return &source.Error{Pos: l.Pos, Msg: "the lab has no virtual services, which a configuration could be held against; wanted one that lvslab import has made"}
	}
	at := func(p source.Pos) source.Pos {
		p.Col = 0
		if o, ok := b.places.At(p); ok {
			b.declared[line{o.File, o.Line}] = p
		}
		return p
	}
	for _, director := range l.Directors() {
		for _, d := range l.Declared(director) {
			if slices.ContainsFunc(b.config.Services, func(s config.Service) bool { return s.Name() == d.Entry.Name() }) {
				continue // another director's, or another lab's of the file
			}
			s := config.Service{Service: d.Entry.Service, Pos: at(d.Pos)}
			for i, dest := range d.Entry.Destinations {
				s.Servers = append(s.Servers, config.Server{Destination: dest, Pos: at(d.Places[i])})
			}
			b.config.Services = append(b.config.Services, s)
		}
	}
	return nil
}

// managedByRules are the assignments by which the directors of labs get the table
// of another configuration, and nothing else changes.
func managedByRules(labs []*scenarios.Lab, now *config.Config) ([]string, error) {
	table := now.Table()
	if err := table.Validate(); err != nil {
		return nil, &source.Error{Pos: wholeOf(now), Msg: err.Error()}
	}
	if len(table) == 0 {
		return nil, &source.Error{Pos: wholeOf(now), Msg: "no virtual service is in it, so that there is nothing to try"}
	}
	text, err := json.Marshal(ipvs.FormatCommands(table)) // which YAML reads as it is
	if err != nil {
		return nil, err
	}
	var set []string
	add := func(assignment string) {
		if !slices.Contains(set, assignment) {
			set = append(set, assignment)
		}
	}
	for _, l := range labs {
		for _, d := range l.Directors() {
			add("nodes." + d + ".rules=" + string(text))
		}
		for _, s := range l.VirtualServices {
			add("virtual_services." + s.Name + ".managed_by=" + scenarios.ManagedByRules)
		}
	}
	return set, nil
}

// playChanges has the steps that change virtual services, as those do that play the
// part of keepalived when all real servers are gone, change the director's rules: the
// services are not the lab's to change. Steps that change something else of them,
// and all of them where the new configuration is ipvsadm rules, which know of no
// sorry server, are left out. All lines stay where they are.
func (b *base) playChanges(a *app, now *config.Config) {
	p := &pools{now: now, lines: bytes.Split(b.file.Data, []byte("\n"))}
	for _, l := range b.labs {
		for i := range l.Steps {
			s := &l.Steps[i]
			change := slices.IndexFunc(s.Do, func(a scenarios.Action) bool { return a.ChangesServices() })
			if change < 0 || now.Kind == config.Keepalived && p.play(l, s) {
				continue
			}
			end := lastLine(p.lines, s.Pos.Line)
			if i+1 < len(l.Steps) {
				end = l.Steps[i+1].Pos.Line
			}
			for n := s.Pos.Line; n < end; n++ {
				p.lines[n-1] = nil
			}
			at := s.Do[change].Pos
			if o, ok := b.places.AtOrWhole(at); ok && !b.onDisk {
				at = o
			}
			a.complain("%v: note: the step %q changes virtual services, which are not the lab's here; it is left out", at, s.Name)
		}
	}
	b.file.Data = bytes.Join(p.lines, []byte("\n"))
}

// mostChanges is how many changes are told before a run.
const mostChanges = 20

// tellChanges tells what the new configuration changes, before it is run.
func (t *testRun) tellChanges(old, now *config.Config, d *importer.Difference) {
	var b strings.Builder
	names := [2]string{visible(old.Files[0].Name), visible(now.Files[0].Name)}
	if len(d.Changes) == 0 {
		fmt.Fprintf(&b, "%s and %s tell a director the same\n", names[0], names[1])
	} else {
		fmt.Fprintf(&b, "%s -> %s: %s\n", names[0], names[1], plural(len(d.Changes), "change"))
	}
	for i, c := range d.Changes {
		if i == mostChanges {
			fmt.Fprintf(&b, "  and %s more: lvslab diff\n", plural(len(d.Changes)-i, "change"))
			break
		}
		text := changeText(c)
		if c.Service != "" && c.What != importer.WhatService && c.What != importer.WhatMoved {
			text = c.Service + ": " + text
		}
		fmt.Fprintf(&b, "  %s\n", visible(text))
	}
	if *t.flags.format == formatJSON {
		t.complain("%s", strings.TrimSuffix(b.String(), "\n"))
		return
	}
	fmt.Fprintf(t.out, "%s\n", b.String())
}
