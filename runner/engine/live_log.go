package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/serve"
)

// journal is what has happened to a living lab, in its last lines.
type journal struct {
	mu    sync.Mutex
	lines []entry
}

type entry struct {
	at         time.Time
	node, text string
}

// journalLines bounds the journal.
const journalLines = 2000

func newJournal() *journal { return &journal{} }

// note adds a line about a node, or with "" about the lab.
func (j *journal) note(node, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, entry{time.Now(), node, fmt.Sprintf(format, args...)})
	if over := len(j.lines) - journalLines; over > 0 {
		j.lines = slices.Delete(j.lines, 0, over)
	}
}

// of are the lines about one node, or with "" all.
func (j *journal) of(node string) []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []entry
	for _, e := range j.lines {
		if node == "" || e.node == node {
			list = append(list, e)
		}
	}
	return list
}

// Logs implements live.Lab.
func (l *Live) Logs(_ context.Context, a live.Logs, w io.Writer) error {
	lab, _, _ := l.state()
	names := lab.Nodes.Names()
	if a.Node != "" {
		if !slices.Contains(names, a.Node) {
			return unknownNode(a.Node, lab)
		}
		names = []string{a.Node}
	}
	for _, e := range l.log.of(a.Node) {
		about := ""
		if e.node != "" {
			about = e.node + ": "
		}
		if _, err := fmt.Fprintf(w, "%s %s%s\n", e.at.Format(time.TimeOnly), about, e.text); err != nil {
			return err
		}
	}
	for _, name := range names {
		n, err := l.world.live(name)
		if err != nil {
			continue // switched off
		}
		for _, said := range append(n.outputs(), n.questions()...) {
			if _, err := fmt.Fprintf(w, "--- %s: %s\n%s\n", name, said.daemon, said.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// output is what a daemon wrote.
type output struct{ daemon, text string }

// outputs are what the machine's own daemons of a node wrote so far.
func (n *liveNode) outputs() []output {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []output
	for _, name := range slices.Sorted(maps.Keys(n.daemons)) {
		if d, ok := n.daemons[name].(*node.Daemon); ok {
			if text := d.Output(); text != "" {
				list = append(list, output{name, text})
			}
		}
	}
	return list
}

// questions are who asked the node's own servers of late.
func (n *liveNode) questions() []output {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []output
	for _, name := range slices.Sorted(maps.Keys(n.daemons)) {
		if d, ok := n.daemons[name].(serve.Logger); ok {
			if lines := d.Log(); len(lines) > 0 {
				list = append(list, output{name, strings.Join(lines, "\n")})
			}
		}
	}
	return list
}

// troubles are the daemons of a node that ended by themselves.
func (n *liveNode) troubles() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(n.daemons)) {
		if d, ok := n.daemons[name].(*node.Daemon); ok {
			if how := d.Ended(); how != "" {
				list = append(list, fmt.Sprintf("%s: %s: %s", n.name, name, strings.TrimSpace(how)))
			}
		}
	}
	return list
}
