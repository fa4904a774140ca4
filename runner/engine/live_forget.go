package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// expireKey has connections end whose real server was taken out, those too that
// a director keeps for persistence (Documentation/networking/ipvs-sysctl.rst).
const expireKey = "net.ipv4.vs.expire_nodest_conn"

// forgetWait bounds the time in which a director forgets its connections. The
// kernel looks for them a clock tick after their real servers have gone.
const forgetWait = 2 * time.Second

// forget has the nodes of a lab know as little of one another as when it came up:
// neighbours, connections, what packets fit. What stands in their tables stays,
// and each scheduler begins anew.
func (l *Live) forget(ctx context.Context, plan *scenarios.Plan) error {
	var there []string
	turns := turnsOf(plan.Setup)
	for _, name := range plan.Lab.Nodes.Names() {
		n, err := l.world.live(name)
		if err != nil {
			continue // switched off
		}
		there = append(there, name)
		if err := l.forgetConnections(ctx, n, turns); err != nil {
			return err
		}
		// Of the kernel's files there are those of what it can.
		for _, key := range []string{"net.ipv4.route.flush", "net.ipv6.route.flush"} {
			_ = n.SetSysctl(key, "1")
		}
		if err := l.forgetTracked(ctx, n); err != nil {
			return err
		}
	}
	if len(there) == 0 {
		return nil // none is what flush takes for all
	}
	return (&labRun{env: newEnv(l.world, plan.Lab)}).flush(there)
}

// turnsOf are the places of real servers in the order in which they are put in,
// by which schedulers go, by the keys of their ops.
func turnsOf(ops []topology.Op) map[topology.Key]int {
	turns := make(map[topology.Key]int)
	for i, op := range ops {
		if k := op.About().Key; k.Kind == ipvs.KindDestination {
			turns[k] = i
		}
	}
	return turns
}

// inTurn has the real servers of a table in the order of turns; those that were
// put in by hand come last.
func inTurn(node string, table ipvs.Table, turns map[topology.Key]int) ipvs.Table {
	table = table.Clone()
	for _, e := range table {
		place := func(d ipvs.Destination) int {
			k := ipvs.NewDestinationOp(node, e.Service, d, "", source.Pos{}).About().Key
			if i, ok := turns[k]; ok {
				return i
			}
			return math.MaxInt
		}
		slices.SortStableFunc(e.Destinations, func(a, b ipvs.Destination) int { return cmp.Compare(place(a), place(b)) })
	}
	return table
}

// forgetConnections has a director forget its connections, what it has counted,
// and where its schedulers are: its real servers are taken out, all their connections with
// them, and put in again.
func (l *Live) forgetConnections(ctx context.Context, n *liveNode, turns map[topology.Key]int) (err error) {
	if _, err := n.ProcNet("ip_vs"); errors.Is(err, fs.ErrNotExist) {
		return nil // to ask for more would have the kernel look for its module
	}
	counted, err := ipvs.Stats(n)
	if err != nil {
		return err
	}
	known, err := ipvs.Connections(n)
	if err != nil {
		return err
	}
	conn, err := ipvs.Open(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	stands, err := conn.Table(ctx)
	if err != nil {
		return err
	}
	table := inTurn(n.name, stands, turns)
	if counted.Conns == 0 && len(known) == 0 && ipvs.FormatRules(table) == ipvs.FormatRules(stands) {
		return nil // as it came up
	}
	was, err := n.Sysctl(expireKey)
	if errors.Is(err, fs.ErrNotExist) { // in a user namespace, ip_vs_control_net_init_sysctl
		l.log.note(n.name, "still knows %s: %s is not to be had here", count(len(known), "connection"), expireKey)
		return nil
	}
	if err != nil {
		return err
	}
	if err := n.SetSysctl(expireKey, "1"); err != nil {
		return err
	}
	// Also after an interrupt.
	defer func() {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWait)
		defer cancel()
		err = errors.Join(err, conn.Replace(back, table), conn.Zero(back, nil), n.SetSysctl(expireKey, was))
	}()
	if err := conn.Flush(ctx); err != nil {
		return err
	}
	left, err := awaitForgotten(ctx, n)
	if err == nil && left > 0 {
		l.log.note(n.name, "still knows %s", count(left, "connection"))
	}
	return err
}

// awaitForgotten waits until a director knows no connection, and says how many
// are left: those that never had a real server here, as the sync daemon brings
// them, end by themselves alone.
func awaitForgotten(ctx context.Context, n *liveNode) (left int, err error) {
	deadline := time.Now().Add(forgetWait)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		known, err := ipvs.Connections(n)
		if left = len(known); err != nil || left == 0 || time.Now().After(deadline) {
			return left, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left, context.Cause(ctx)
		}
	}
}

// forgetTracked empties a node's table of tracked connections.
func (l *Live) forgetTracked(ctx context.Context, n *liveNode) error {
	if !loaded("nf_conntrack") {
		return nil
	}
	if l.host.Load != nil {
		if _, err := l.host.Load(ctx, "nf_conntrack_netlink"); err != nil {
			return err
		}
	}
	// A kernel that cannot be asked keeps them until they end.
	return n.Do(func() error {
		_ = netlink.ConntrackTableFlush(netlink.ConntrackTable)
		return nil
	})
}
