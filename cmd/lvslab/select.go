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
	"github.com/lvslab/lvslab/topology/source"
)

// selection is what the arguments of a verb stand for.
type selection struct {
	files []wire.File
	// argOf is, by place in files, the argument that names the file on a
	// command line.
	argOf []string
	// errs are the arguments that stand for nothing and the files that cannot
	// be read; load tells them together with what is wrong inside the others.
	errs source.List
	// What is in it already: shipped labs by name, files by identity.
	shipped map[string]bool
	onDisk  []os.FileInfo
}

// pick turns arguments into lab files: names of shipped labs ("dr/arptables"),
// chapters ("dr"), files and folders. No argument means all shipped labs. An
// argument that ends in .yaml, or begins with a dot or a slash, is a path; of
// any other, the shipped name wins over a path. A file that comes twice is taken
// once.
func pick(args []string) *selection {
	s := &selection{shipped: make(map[string]bool)}
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
		default:
			s.addDisk(arg)
		}
	}
	return s
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
		if !s.shipped[f.Name] {
			s.shipped[f.Name] = true
			s.files, s.argOf = append(s.files, f), append(s.argOf, f.Name)
		}
	}
}

// addDisk adds a file, or the lab files of a folder and those below it.
func (s *selection) addDisk(arg string) {
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.errs.Add(source.Pos{}, "%v", notFound(arg))
	case err != nil:
		s.fail(arg, err)
	case info.IsDir():
		s.addFolder(arg)
	default:
		s.addFile(arg, scenarios.NameOf(arg), info)
	}
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
		s.addFile(path, strings.ToLower(strings.TrimSuffix(filepath.ToSlash(rel), filepath.Ext(rel))), info)
		return nil
	})
	switch {
	case err != nil:
		s.fail(arg, err)
	case !found:
		s.errs.Add(source.Pos{}, "folder %s holds no lab file (*.yaml)", arg)
	}
}

func (s *selection) addFile(path, name string, info os.FileInfo) {
	if slices.ContainsFunc(s.onDisk, func(o os.FileInfo) bool { return os.SameFile(o, info) }) {
		return
	}
	s.onDisk = append(s.onDisk, info)
	data, err := source.Read(path)
	if err != nil {
		s.fail(path, err)
		return
	}
	s.files = append(s.files, wire.File{Path: path, Name: name, Data: data})
	s.argOf = append(s.argOf, path)
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
	// argOf is, by lab, the argument that names its file on a command line.
	argOf map[string]string
}

// load reads all the labs. Its error has the mistakes of all files.
func (s *selection) load() (*chosen, error) {
	c := &chosen{argOf: make(map[string]string)}
	first := make(map[string]source.Pos)
	errs := s.errs
	for i, f := range s.files {
		found, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			errs.AddError(source.Pos{File: f.Path}, err)
			continue
		}
		for _, l := range found {
			if pos, twice := first[l.Name]; twice {
				errs.Add(l.Pos, "a second lab is called %s; the first is at %s. Name one of the files otherwise, or run them apart", l.Name, pos)
				continue
			}
			first[l.Name] = l.Pos
			c.labs = append(c.labs, l)
			c.argOf[l.Name] = s.argOf[i]
		}
	}
	return c, errs.Err()
}

func (c *chosen) names() []string {
	var names []string
	for _, l := range c.labs {
		names = append(names, l.Name)
	}
	return names
}

// rerun is the command that runs the labs again.
func (c *chosen) rerun(names []string) string {
	words := []string{"lvslab", "run"}
	seen := make(map[string]bool)
	for _, l := range names {
		if arg := c.argOf[l]; !seen[arg] {
			seen[arg] = true
			words = append(words, shellWord(arg))
		}
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word where a shell would not take it as it is.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shippedLabs loads shipped lab files. An error would be a mistake of this
// build of lvslab.
func shippedLabs(files []wire.File) ([]*scenarios.Lab, error) {
	s := &selection{shipped: make(map[string]bool)}
	s.addShipped(files)
	c, err := s.load()
	return c.labs, err
}
