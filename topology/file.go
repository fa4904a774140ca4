package topology

import (
	"context"
	"path"
	"slices"
	"strings"
)

type fileOp struct {
	meta    Meta
	content string
	gone    bool
}

// NewFile is the op that writes a file in a node's own view of the files. The
// folders above it are made where they are missing.
func NewFile(m Meta, node, name, content string) Op {
	m.Key = Key{node, "file", name}
	m.Role = "file"
	m.Needs = append(slices.Clone(m.Needs), "overlay")
	return fileOp{m, content, false}
}

func (o fileOp) About() Meta { return o.meta }

func (o fileOp) Shell(Dialect) []string {
	file := NodeFile(o.meta.Key.Node, o.meta.Key.ID)
	if o.gone {
		return []string{"rm -f " + file}
	}
	return WriteLines(file, o.content)
}

func (o fileOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	if o.gone {
		return fail(o, n.RemoveFile(o.meta.Key.ID))
	}
	return fail(o, n.WriteFile(o.meta.Key.ID, []byte(o.content)))
}

func (o fileOp) Undo() (Op, bool) {
	o.gone = !o.gone
	return o, true
}

// NodeFile is where a printed script keeps a file of a node, as a word of the
// shell: network namespaces alone have no files of their own. Whatever the path
// says, it is below the script's state folder.
func NodeFile(node, file string) string {
	var words []string
	for w := range strings.SplitSeq(path.Clean("/" + file)[1:], "/") {
		words = append(words, Quote(w))
	}
	return `"$state"/files/` + node + "/" + strings.Join(words, "/")
}

// WriteLines are the lines of a printed script that write a file, given as a
// word of the shell.
func WriteLines(file, content string) []string {
	text, whole := strings.CutSuffix(content, "\n")
	write := "printf %s " + Quote(text)
	switch {
	case content == "":
		write = ":"
	case whole:
		write = "printf '%s\\n' " + Quote(text)
	}
	return []string{"mkdir -p " + path.Dir(file), write + " >" + file}
}
