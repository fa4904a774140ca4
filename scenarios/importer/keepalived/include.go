package keepalived

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// systemDir is where keepalived's configuration lies on most machines. What is
// included from there by its full path is looked for beside the named file.
const systemDir = "/etc/keepalived/"

// include reads the files that an include line names. Its words are keepalived's:
// include, and includer, includem, includew, includeb and includea, which differ
// in what they hold for missing.
func (r *reader) include(l line) bool {
	key, pattern, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
	pattern = strings.TrimSpace(pattern)
	kind, ok := strings.CutPrefix(key, "include")
	if !ok || !slices.Contains([]string{"", "r", "m", "w", "b", "a"}, kind) || pattern == "" {
		return false
	}
	at := l.at
	if r.defining != nil {
		return false
	}
	if strings.ContainsAny(pattern, `"'`) {
		r.errs.Add(at, "%s %s: keepalived takes the quotes for a part of the name; leave them out", key, pattern)
		return true
	}
	pattern, ok = r.inside(key, pattern, at)
	if !ok {
		return true
	}
	for _, p := range braces(pattern) {
		names, err := r.match(p)
		if err != nil {
			r.errs.Add(at, "%s %s: %v", key, p, err)
			continue
		}
		if len(names) == 0 {
			r.missing(key, kind, p, at)
		}
		for _, name := range names {
			r.file(key, name, at)
		}
	}
	return true
}

// inside is a pattern as a path from the top of the file system, if it stays in
// it.
func (r *reader) inside(key, pattern string, at source.Pos) (string, bool) {
	dir := folder(at.File)
	if path.IsAbs(pattern) {
		rest, ok := strings.CutPrefix(path.Clean(pattern), systemDir)
		if !ok {
			r.errs.Add(at, "%s %s: an import reads nothing outside the configuration's folder; copy it there and include it by its name", key, pattern)
			return "", false
		}
		r.note(at, config.Assumed, "%s %s: read as %s beside the configuration", key, pattern, rest)
		dir, pattern = r.base, rest
	}
	full := path.Join(dir, pattern)
	if full == ".." || strings.HasPrefix(full, "../") {
		r.errs.Add(at, "%s %s leads out of the configuration's folder, and an import reads nothing outside it; copy the file there", key, pattern)
		return "", false
	}
	return full, true
}

// missing tells of a pattern without a file. As keepalived -t does, a plain name
// that is not there is a mistake, except to includer; wildcards may well match
// nothing, except those of includew and includea (run).
func (r *reader) missing(key, kind, pattern string, at source.Pos) {
	wild := strings.ContainsAny(pattern, "*?[")
	switch {
	case wild && kind != "w" && kind != "a":
		r.note(at, config.Warning, "%s %s matches no file", key, pattern)
	case kind == "r":
		r.note(at, config.Warning, "%s %s: there is no such file", key, pattern)
	default:
		r.errs.Add(at, "%s %s: there is no such file", key, pattern)
	}
}

// match are the files that a pattern without braces names, sorted. As glob(3), a
// wildcard does not match a leading dot.
func (r *reader) match(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[") {
		if _, err := fs.Stat(r.fsys, pattern); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return nil, plain(err)
		}
		return []string{pattern}, nil
	}
	names, err := fs.Glob(r.fsys, pattern)
	if err != nil {
		return nil, errors.New("a [ that is not closed")
	}
	if err := r.readable(path.Dir(pattern)); err != nil {
		return nil, err
	}
	dotted := strings.HasPrefix(path.Base(pattern), ".")
	names = slices.DeleteFunc(names, func(n string) bool { return !dotted && strings.HasPrefix(path.Base(n), ".") })
	slices.Sort(names)
	return names, nil
}

// readable says why folders that a pattern names cannot be read, which fs.Glob
// takes for empty ones. One that is not there matches nothing.
func (r *reader) readable(pattern string) error {
	if !strings.ContainsAny(pattern, "*?[") {
		if _, err := fs.ReadDir(r.fsys, pattern); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return plain(err)
		}
		return nil
	}
	if err := r.readable(path.Dir(pattern)); err != nil {
		return err
	}
	names, err := fs.Glob(r.fsys, pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		if st, err := fs.Stat(r.fsys, name); err == nil && !st.IsDir() {
			continue // a file beside the folders
		}
		if err := r.readable(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// braces unfolds {a,b} as a shell does.
func braces(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}
	}
	depth, from := 0, open+1
	var parts []string
	for i := open; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '{':
			depth++
		case c == '}' && depth > 1:
			depth--
		case c == ',' && depth == 1:
			parts = append(parts, pattern[from:i])
			from = i + 1
		case c == '}':
			parts = append(parts, pattern[from:i])
			var out []string
			for _, p := range parts {
				if out = append(out, braces(pattern[:open]+p+pattern[i+1:])...); len(out) > maxFiles {
					return out[:maxFiles+1]
				}
			}
			return out
		}
	}
	return []string{pattern}
}

// file reads one included file.
func (r *reader) file(key, name string, at source.Pos) {
	if i := slices.Index(r.open, name); i >= 0 {
		way := append(slices.Clone(r.open[i:]), name)
		r.halt(at, "%s %s includes itself: %s", key, name, strings.Join(way, " includes "))
		return
	}
	switch {
	case len(r.open) > maxIncludes:
		r.halt(at, "files that include one another more than %d deep", maxIncludes)
		return
	case len(r.files) >= maxFiles:
		r.halt(at, "more than %d files in all", maxFiles)
		return
	}
	st, err := fs.Stat(r.fsys, name)
	if err == nil && (!st.Mode().IsRegular() || st.Mode()&0o111 != 0) {
		what := "no regular file"
		switch {
		case st.IsDir():
			what = "a folder"
		case st.Mode().IsRegular():
			what = "executable"
		}
		r.note(at, config.Warning, "%s %s: it is %s, and keepalived passes over it", key, name, what)
		return
	}
	data, err := r.load(name, at)
	if err != nil {
		r.errs.Add(at, "%s %s: %v", key, name, err)
		return
	}
	defining := r.defining
	r.defining = nil
	r.text(name, data)
	r.defining = defining
}

// load reads a file's bytes, bounded.
func (r *reader) load(name string, at source.Pos) ([]byte, error) {
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, errors.New("it is a folder, wanted a keepalived.conf")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, plain(err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("larger than %d MiB; that is no keepalived.conf", maxFileBytes>>20)
	}
	if r.bytes += len(data); r.bytes > maxBytes {
		r.halt(at, "all files together are larger than %d MiB", maxBytes>>20)
	}
	return data, nil
}

// plain is an error without the name of the call and the path, which the message
// around it has.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
