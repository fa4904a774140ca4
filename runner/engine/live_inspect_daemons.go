package engine

import (
	"cmp"
	"slices"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/node"
)

// States of daemons, see live.Daemon.
const (
	daemonListens = "listens"
	daemonHangs   = "hangs"
	daemonKilled  = "killed"
)

// daemons are a node's servers, those that a fault has ended too.
func (o onlooker) daemons(n *liveNode) []live.Daemon {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []live.Daemon
	for name, running := range n.daemons {
		d := live.Daemon{Name: name, Port: n.started[name].Port, State: daemonListens}
		if p, ok := running.(*node.Daemon); ok {
			if how := p.Ended(); how != "" {
				d.State = how
			}
		}
		if o.broken(live.Hang, n, name) && d.State == daemonListens {
			d.State = daemonHangs
		}
		list = append(list, d)
	}
	for name, d := range n.started {
		if _, running := n.daemons[name]; !running && o.broken(live.Kill, n, name) {
			list = append(list, live.Daemon{Name: name, Port: d.Port, State: daemonKilled})
		}
	}
	slices.SortFunc(list, func(a, b live.Daemon) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name)) })
	return list
}

// broken reports whether a fault of that kind is a daemon's, which it may name by
// its service alone.
func (o onlooker) broken(kind string, n *liveNode, daemon string) bool {
	return slices.ContainsFunc(o.faults, func(f live.Broken) bool {
		return f.Kind == kind && f.Node == n.name && (f.Daemon == daemon || f.Daemon == n.started[daemon].Service)
	})
}
