package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// split parts the programs that a lab needs from what its kernel must have.
func split(needs []topology.Feature) (programs []string, kernel []topology.Feature) {
	for _, f := range needs {
		if name, ok := f.Program(); ok {
			programs = append(programs, name)
		} else {
			kernel = append(kernel, f)
		}
	}
	return programs, kernel
}

// notInstalled are the programs that a node would not find: it sees the
// machine's files, with a PATH of its own.
func notInstalled(programs []string) []string {
	return slices.DeleteFunc(programs, func(name string) bool {
		if strings.Contains(name, "/") {
			return executable(name)
		}
		return slices.ContainsFunc(filepath.SplitList(node.Path), func(dir string) bool {
			return executable(filepath.Join(dir, name))
		})
	})
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// daemonOutputs are what the machine's own daemons wrote so far, for a person who
// looks for the reason of a failure.
func (r *labRun) daemonOutputs() []wire.Evidence {
	var out []wire.Evidence
	for _, name := range r.env.lab.Nodes.Names() {
		n, err := r.env.live(name)
		if err != nil {
			continue // left out on purpose
		}
		for _, said := range n.outputs() {
			out = append(out, wire.Evidence{Title: name + ": what " + said.daemon + " wrote", Text: said.text})
		}
	}
	return out
}
