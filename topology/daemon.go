package topology

import (
	"context"
	"fmt"
)

type daemonOp struct {
	meta Meta
	d    Daemon
	stop bool
}

// NewDaemon is the op that starts a server in a node.
func NewDaemon(m Meta, node string, d Daemon) Op {
	m.Key = Key{node, "daemon", d.Name}
	m.Role = Role(d.Service + "-daemon")
	return daemonOp{m, d, false}
}

func (o daemonOp) About() Meta { return o.meta }

// Shell calls the functions that a printed script defines at its top.
func (o daemonOp) Shell(Dialect) []string {
	if o.stop {
		return []string{fmt.Sprintf("stop_%s %s %d", o.d.Service, o.meta.Key.Node, o.d.Port)}
	}
	return []string{fmt.Sprintf("serve_%s %s %d", o.d.Service, o.meta.Key.Node, o.d.Port)}
}

func (o daemonOp) Apply(ctx context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	if o.stop {
		return fail(o, n.StopDaemon(o.d.Name))
	}
	return fail(o, n.StartDaemon(ctx, o.d))
}

func (o daemonOp) Undo() (Op, bool) {
	o.stop = !o.stop
	return o, true
}
