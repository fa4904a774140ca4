package ipvs

import (
	"context"
	"time"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// The kind and the role of the op for timeouts.
const (
	KindTimeouts = "ipvs-timeouts"

	RoleTimeouts topology.Role = "timeouts"
)

// defaultTimeouts are those of a new namespace: tcp_timeouts, its state
// FIN_WAIT, and udp_timeouts of net/netfilter/ipvs/ip_vs_proto_{tcp,udp}.c.
func defaultTimeouts() Timeouts {
	return Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute}
}

// TimeoutsOp is the wish for how long a director remembers connections.
type TimeoutsOp struct {
	Node     string
	Timeouts Timeouts

	meta topology.Meta
}

// NewTimeoutsOp is the wish for timeouts t on node. Undo leads back to those of
// a new namespace.
func NewTimeoutsOp(node string, t Timeouts, why string, pos source.Pos) *TimeoutsOp {
	return &TimeoutsOp{Node: node, Timeouts: t, meta: topology.Meta{
		Key:   topology.Key{Node: node, Kind: KindTimeouts},
		Role:  RoleTimeouts,
		Why:   why,
		Pos:   pos,
		Needs: []topology.Feature{"ip_vs"},
	}}
}

// About says what the op is for.
func (o *TimeoutsOp) About() topology.Meta { return o.meta }

// Shell is `ipvsadm --set …`.
func (o *TimeoutsOp) Shell(topology.Dialect) []string {
	return shell(o.Node, "--set "+o.Timeouts.String())
}

// Apply sets the timeouts of connections to come.
func (o *TimeoutsOp) Apply(ctx context.Context, w topology.World) error {
	return with(ctx, w, o.Node, func(c *Conn) error { return c.SetTimeouts(ctx, o.Timeouts) })
}

// Undo sets those of a new namespace.
func (o *TimeoutsOp) Undo() (topology.Op, bool) {
	back := *o
	back.Timeouts = defaultTimeouts()
	return &back, true
}
