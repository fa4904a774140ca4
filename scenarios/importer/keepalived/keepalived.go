// Package keepalived reads a keepalived.conf, with all that it includes, into a
// config.Config: the table that keepalived would build, its defaults written out.
//
// It reads as keepalived 2.2.7 does, which was asked (keepalived -t, and its
// tables in a running kernel) about each rule that a comment here calls "run".
// In three layers: the reader turns files into lines (comments, conditions,
// definitions, ~SEQ and ~LST, includes), the tree puts lines into blocks, and
// the translator knows what the words mean.
//
// Where keepalived complains and goes on, this package weighs what is lost. What
// leaves a table that one can tell (a real server twice, a port that is reset)
// is a warning, and done likewise. What leaves something else than was meant (no
// such scheduler, a port out of range) is an error: a test of a configuration
// that its own tool cannot read says nothing.
package keepalived

import (
	"io/fs"
	"path"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// Options say what the files do not. The zero value is keepalived without
// options, except that it has no config-id.
type Options struct {
	// ID is keepalived's --config-id: lines that begin with @ID are for it
	// alone, and those that begin with @^ID for all others. keepalived's own
	// default is the machine's name, which an import does not ask for: with ""
	// every @ line is for somebody else.
	ID string
}

// Bounds. A file beyond them is an error that says so.
const (
	// maxFileBytes is the largest single file, and maxBytes the most that all
	// files together, includes counted each time, may have.
	maxFileBytes = 8 << 20
	maxBytes     = 32 << 20
	// maxFiles is how many files may be read, and maxIncludes how deep they may
	// include one another.
	maxFiles    = 1000
	maxIncludes = 32
	// maxLine is the longest line that keepalived 2.2.7 reads as one (run): the
	// rest is another line to it.
	maxLine = 1023
	// maxLines bounds the lines that definitions, ~SEQ and ~LST unfold to, each
	// use of a definition counted as one.
	maxLines = 1 << 18
	// maxDepth is how deep blocks may nest; keepalived's own nest four deep.
	maxDepth = 16
	// maxUnfold is how deep definitions may unfold into one another.
	maxUnfold = 32
	// maxServices bounds what groups and ranges may unfold to.
	maxServices = 1 << 16
	// maxServers bounds the real servers of all services together, each counted
	// in every service that it is of.
	maxServers = 1 << 18
)

// Parse reads the file called name from fsys and what it includes from there.
// Files are named relative to fsys in places and in Config.Files.
//
// The error is a source.List with all mistakes at their places. What is left out,
// taken over from keepalived's defaults, or doubtful is in Config.Notes, in the
// order of the files and their lines.
func Parse(fsys fs.FS, name string, o Options) (*config.Config, error) {
	root := &block{}
	r := newReader(fsys, o, root)
	r.top(name)
	t := newTranslator(r)
	if !r.broken {
		t.file(root)
	}
	if err := r.errs.Err(); err != nil {
		return nil, err
	}
	t.cfg.Files = r.files
	t.cfg.Notes = inOrder(r.files, append(r.finish(), t.finish()...))
	return t.cfg, nil
}

// inOrder sorts notes by the order of the files and their lines.
func inOrder(files []config.File, notes []config.Note) []config.Note {
	rank := make(map[string]int, len(files))
	for i, f := range files {
		rank[f.Name] = i
	}
	slices.SortStableFunc(notes, func(a, b config.Note) int {
		if a.Pos.File != b.Pos.File {
			return rank[a.Pos.File] - rank[b.Pos.File]
		}
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	return slices.Compact(notes) // a definition may be used many times in a line
}

// note is a note to be.
func note(at source.Pos, kind config.NoteKind, msg string) config.Note {
	return config.Note{Pos: at, Kind: kind, Msg: msg}
}

// folder is the folder of a file's name, "." for the top.
func folder(name string) string { return path.Dir(name) }
