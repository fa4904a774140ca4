package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/topology/source"
)

// selection is what the arguments of a verb stand for.
type selection struct {
	args  []string
	files []wire.File
	// argOf is, by place in files, the argument that names the file on a
	// command line.
	argOf []string
	// only are, by place in files, the labs that were asked for by name; nil
	// where the whole file was.
	only [][]string
	// errs are the arguments that stand for nothing and the files that cannot
	// be read; load tells them together with what is wrong inside the others.
	errs source.List
	// What is in it already: the places in files of shipped ones by name, and
	// of those on disk by identity.
	shipped map[string]int
	onDisk  []onDisk
}

// onDisk is a file that is in a selection.
type onDisk struct {
	info  os.FileInfo
	place int
}

func newSelection() *selection { return &selection{shipped: make(map[string]int)} }

// pick turns arguments into lab files: names of shipped labs ("dr/arptables"),
// chapters ("dr"), files and folders. No argument means all shipped labs. An
// argument that ends in .yaml, or begins with a dot or a slash, is a path; of
// any other, the shipped name wins over a path. A file that comes twice is taken
// once. Of a file that holds several labs, one is named behind a slash:
// "matrix/all/dr-tcp-rr", "my.yaml/dr-tcp-rr".
func pick(args []string) *selection {
	s := newSelection()
	s.args = args
	if len(args) == 0 {
		s.addShipped(labs.All())
		return s
	}
	for _, arg := range args {
		found := labs.Find(strings.Trim(arg, "/"))
		switch {
		case arg == "":
			s.errs.Add(source.Pos{}, "an empty argument; wanted the name of a lab, a chapter, a file or a folder")
		case len(found) > 0 && !looksLikePath(arg):
			s.addShipped(found)
		case !looksLikePath(arg) && s.addShippedPart(strings.Trim(arg, "/")):
		default:
			s.addDisk(arg)
		}
	}
	return s
}

// add puts a file in, or more of one that is in it already.
func (s *selection) add(place int, f wire.File, arg string, lab string) int {
	var only []string
	if lab != "" {
		only = []string{lab}
	}
	if place < 0 {
		s.files, s.argOf, s.only = append(s.files, f), append(s.argOf, arg), append(s.only, only)
		return len(s.files) - 1
	}
	if lab == "" {
		s.only[place] = nil
	} else if s.only[place] != nil {
		s.only[place] = append(s.only[place], lab)
	}
	return place
}

// addShippedPart adds one lab of a shipped file that holds several.
func (s *selection) addShippedPart(name string) bool {
	for _, f := range labs.All() {
		if strings.HasPrefix(name, f.Name+"/") {
			place, in := s.shipped[f.Name]
			if !in {
				place = -1
			}
			s.shipped[f.Name] = s.add(place, f, f.Name, name)
			return true
		}
	}
	return false
}

func looksLikePath(arg string) bool {
	return filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") || isLabFile(arg)
}

// isLabFile reports whether a path ends as those of lab files do.
func isLabFile(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".yaml" || ext == ".yml"
}

func (s *selection) addShipped(files []wire.File) {
	for _, f := range files {
		place, in := s.shipped[f.Name]
		if !in {
			place = -1
		}
		s.shipped[f.Name] = s.add(place, f, f.Name, "")
	}
}

// addDisk adds a file, or the lab files of a folder and those below it.
func (s *selection) addDisk(arg string) {
	info, err := os.Stat(arg)
	switch {
	case err != nil && s.addDiskPart(arg):
	case errors.Is(err, fs.ErrNotExist):
		s.errs.Add(source.Pos{}, "%v", notFound(arg))
	case err != nil:
		s.fail(arg, err)
	case info.IsDir():
		s.addFolder(arg)
	default:
		s.addFile(arg, scenarios.NameOf(arg), "", info)
	}
}

// addDiskPart adds one lab of a file that holds several: "my.yaml/dr-tcp-rr".
func (s *selection) addDiskPart(arg string) bool {
	for i := range len(arg) {
		if arg[i] != '/' || !isLabFile(arg[:i]) {
			continue
		}
		if info, err := os.Stat(arg[:i]); err == nil && info.Mode().IsRegular() {
			name := scenarios.NameOf(arg[:i])
			s.addFile(arg[:i], name, name+arg[i:], info)
			return true
		}
	}
	return false
}

func (s *selection) addFolder(arg string) {
	found := false
	// With the slash, a link to a folder is the folder.
	root := filepath.Clean(arg) + string(filepath.Separator)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s.fail(path, err)
			found = true
			return nil
		case d.IsDir() || !isLabFile(path):
			return nil
		}
		info, err := os.Stat(path)
		if err != nil {
			s.fail(path, err)
			return nil
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		found = true
		s.addFile(path, strings.ToLower(strings.TrimSuffix(filepath.ToSlash(rel), filepath.Ext(rel))), "", info)
		return nil
	})
	switch {
	case err != nil:
		s.fail(arg, err)
	case !found:
		s.errs.Add(source.Pos{}, "folder %s holds no lab file (*.yaml)", arg)
	}
}

// addFile adds a lab file, or the one lab of it that is given.
func (s *selection) addFile(path, name, lab string, info os.FileInfo) {
	for _, o := range s.onDisk {
		if os.SameFile(o.info, info) {
			s.add(o.place, wire.File{}, "", lab)
			return
		}
	}
	data, err := source.Read(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	if !isLabFile(path) && importer.IsConfiguration(data) {
		s.errs.Add(source.Pos{File: path}, "is a director's configuration, and not a lab; try it with: lvslab test %s", shellWord(path))
		return
	}
	s.onDisk = append(s.onDisk, onDisk{info, s.add(-1, wire.File{Path: path, Name: name, Data: data}, path, lab)})
}

// fail keeps why a file cannot be read.
func (s *selection) fail(path string, err error) {
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the path stands before it
	}
	s.errs.AddError(source.Pos{File: path}, err)
}

// notFound tells of an argument that stands for nothing, with the nearest that
// would: a shipped lab, or a lab file beside it.
func notFound(arg string) error {
	known := labs.Chapters()
	for _, f := range labs.All() {
		known = append(known, f.Name)
	}
	what := "neither a shipped lab or chapter nor a file"
	if looksLikePath(arg) {
		what = "no file"
		known = nil
		dir := filepath.Dir(arg)
		entries, _ := os.ReadDir(dir) // without them there is nothing near
		for _, e := range entries {
			if e.IsDir() || isLabFile(e.Name()) {
				known = append(known, strings.TrimSuffix(arg, filepath.Base(arg))+e.Name())
			}
		}
	}
	msg := fmt.Sprintf("%q is %s", arg, what)
	if n := source.Nearest(arg, known); n != "" {
		return fmt.Errorf("%s; did you mean %q?", msg, n)
	}
	return errors.New(msg + " (lvslab list names the shipped labs)")
}

// chosen are the labs of a selection.
type chosen struct {
	labs []*scenarios.Lab
	// argOf is, by lab, the argument that names it on a command line, and fileOf
	// the one that names its file.
	argOf, fileOf map[string]string
	// flags are those that made the run what it was, for rerun to say again.
	flags []string
	// args are those that chose all of them.
	args []string
}

// load reads all the labs. Its error has the mistakes of all files.
func (s *selection) load() (*chosen, error) {
	c := &chosen{args: s.args, argOf: make(map[string]string), fileOf: make(map[string]string)}
	first := make(map[string]source.Pos)
	errs := s.errs
	for i, f := range s.files {
		found, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			errs.AddError(source.Pos{File: f.Path}, err)
			continue
		}
		part, err := onlyNamed(found, s.only[i])
		errs.AddError(source.Pos{File: f.Path}, err)
		for _, l := range part {
			if pos, twice := first[l.Name]; twice {
				errs.Add(l.Pos, "a second lab is called %s; the first is at %s. Name one of the files otherwise, or run them apart", l.Name, pos)
				continue
			}
			first[l.Name] = l.Pos
			c.labs = append(c.labs, l)
			c.argOf[l.Name], c.fileOf[l.Name] = s.argOf[i], s.argOf[i]
			if l.Matrix != nil {
				c.argOf[l.Name] += strings.TrimPrefix(l.Name, f.Name)
			}
		}
	}
	return c, errs.Err()
}

// onlyNamed are the labs of a file that were asked for by name, in the file's
// order; all of them where no names are given.
func onlyNamed(all []*scenarios.Lab, names []string) ([]*scenarios.Lab, error) {
	if names == nil {
		return all, nil
	}
	var known []string
	for _, l := range all {
		known = append(known, l.Name)
	}
	for _, name := range names {
		if !slices.ContainsFunc(known, func(k string) bool { return within(k, name) }) {
			if near := source.Nearest(name, known); near != "" {
				return nil, fmt.Errorf("no lab of this file is called %s; did you mean %q?", name, near)
			}
			return nil, fmt.Errorf("no lab of this file is called %s; its first is %s (lvslab check names them all)", name, known[0])
		}
	}
	return slices.DeleteFunc(all, func(l *scenarios.Lab) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return within(l.Name, n) })
	}), nil
}

// within reports whether a lab has the name, or a name below it.
func within(lab, name string) bool { return lab == name || strings.HasPrefix(lab, name+"/") }

func (c *chosen) names() []string {
	var names []string
	for _, l := range c.labs {
		names = append(names, l.Name)
	}
	return names
}

// mostArgs is how many labs of one file rerun names one by one.
const mostArgs = 8

// rerun is the command that runs the labs again: where that is all that were
// chosen, the words that chose them.
func (c *chosen) rerun(names []string) string {
	words := []string{"lvslab", "run"}
	for _, f := range c.flags {
		words = append(words, shellWord(f))
	}
	if len(names) == len(c.labs) {
		for _, arg := range c.args {
			words = append(words, shellWord(arg))
		}
		return strings.Join(words, " ")
	}
	count := make(map[string]int)
	for _, l := range names {
		count[c.fileOf[l]]++
	}
	seen := make(map[string]bool)
	for _, l := range names {
		arg := c.argOf[l]
		if file := c.fileOf[l]; count[file] > mostArgs {
			arg = file
		}
		if !seen[arg] {
			seen[arg] = true
			words = append(words, shellWord(arg))
		}
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word where a shell would not take it as it is.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shippedLabs loads shipped lab files. An error would be a mistake of this
// build of lvslab.
func shippedLabs(files []wire.File) ([]*scenarios.Lab, error) {
	s := newSelection()
	s.addShipped(files)
	c, err := s.load()
	return c.labs, err
}
