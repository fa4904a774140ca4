package ipvs

import (
	"context"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// The kind and the role of the ops for sync daemons.
const (
	KindDaemon = "ipvs-daemon"

	RoleDaemon topology.Role = "sync-daemon"
)

// SyncDaemonOp is the wish for a sync daemon on a director.
type SyncDaemonOp struct {
	Node   string
	Daemon SyncDaemon

	meta topology.Meta
	edit bool
}

// NewSyncDaemonOp is the wish for daemon d on node. Its interface is a wish of
// its own, which must come before.
func NewSyncDaemonOp(node string, d SyncDaemon, why string, pos source.Pos) *SyncDaemonOp {
	needs := []topology.Feature{"ip_vs"}
	if !plainDaemon(d) {
		needs = append(needs, featureSync)
	}
	if d.Normal().Group.Is6() {
		needs = append(needs, featureIPv6)
	}
	return &SyncDaemonOp{Node: node, Daemon: d, meta: topology.Meta{
		Key:   topology.Key{Node: node, Kind: KindDaemon, ID: d.State.String()},
		Role:  RoleDaemon,
		Why:   why,
		Pos:   pos,
		Needs: needs,
	}}
}

// About says what the op is for.
func (o *SyncDaemonOp) About() topology.Meta { return o.meta }

// Shell is `ipvsadm --start-daemon …`.
func (o *SyncDaemonOp) Shell(topology.Dialect) []string {
	start := shell(o.Node, "--start-daemon "+o.Daemon.String())
	if o.edit {
		return append(shell(o.Node, "--stop-daemon "+o.Daemon.State.String()), start...)
	}
	return start
}

// Edit implements topology.Editor: a daemon that runs is stopped first.
func (o *SyncDaemonOp) Edit() topology.Op {
	e := *o
	e.edit = true
	return &e
}

// Apply starts the daemon; one that runs otherwise is stopped first.
func (o *SyncDaemonOp) Apply(ctx context.Context, w topology.World) error {
	return with(ctx, w, o.Node, func(c *Conn) error { return c.StartDaemon(ctx, o.Daemon) })
}

// Undo stops the daemon.
func (o *SyncDaemonOp) Undo() (topology.Op, bool) { return &stopDaemon{*o}, true }

type stopDaemon struct{ op SyncDaemonOp }

func (u *stopDaemon) About() topology.Meta {
	m := u.op.meta
	m.Why = "no longer wanted: " + m.Why
	m.Needs = []topology.Feature{"ip_vs"}
	return m
}

func (u *stopDaemon) Shell(topology.Dialect) []string {
	return shell(u.op.Node, "--stop-daemon "+u.op.Daemon.State.String())
}

func (u *stopDaemon) Apply(ctx context.Context, w topology.World) error {
	return with(ctx, w, u.op.Node, func(c *Conn) error { return c.StopDaemon(ctx, u.op.Daemon.State) })
}

func (u *stopDaemon) Undo() (topology.Op, bool) { op := u.op; return &op, true }
