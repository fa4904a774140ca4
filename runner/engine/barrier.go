package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// barrier returns when all that the nodes had sent to one another before the
// call has arrived, so that what is not seen by then will not come. Nodes whose
// link has no carrier can neither send nor be waited for.
//
// A thorough one waits at every link. A packet may have to cross every network,
// one after the other, so it goes round that often, or until a whole round has
// seen nothing. That is proof enough: whatever was on some link when the round
// began was at the latest driven out of it by the sweep of that network, past the
// capture at its end; and what no link has on it will not turn up on another. A lab
// that is never still, since its daemons speak of their own accord, has all its
// rounds.
func (e *env) barrier(ctx context.Context, thorough bool) error {
	var networks [][]capture.Station
	for _, w := range e.lab.Networks {
		if stations := e.stations(w.Name); len(stations) > 1 {
			networks = append(networks, stations)
		}
	}
	rounds := 1
	if thorough {
		rounds = len(networks)
	}
	var before uint64
	all := rounds > 1
	if all {
		before, all = e.seen(networks)
	}
	for range rounds {
		for _, stations := range networks {
			if err := e.barrierAt(ctx, stations, thorough); err != nil {
				return fmt.Errorf("what did not arrive cannot be told from what is late: %w", err)
			}
		}
		if !all {
			continue
		}
		now, _ := e.seen(networks)
		if now == before {
			return nil
		}
		before = now
	}
	return nil
}

// seen is how many packets were captured at the links of some networks, and
// whether every link there has a capture.
func (e *env) seen(networks [][]capture.Station) (packets uint64, all bool) {
	for _, stations := range networks {
		for _, s := range stations {
			c, ok := e.captures[captureName(s.Node, s.Device)]
			if !ok {
				return 0, false
			}
			packets += c.Seen()
		}
	}
	return packets, true
}

// barrierWait bounds a barrier of this lab.
func (e *env) barrierWait() time.Duration {
	return barrierWait + time.Duration(len(e.lab.Nodes))*barrierNode
}

// stations are the links of a network that carry something.
func (e *env) stations(network string) []capture.Station {
	var stations []capture.Station
	for _, n := range e.lab.Nodes {
		live, err := e.live(n.Name)
		if err != nil {
			continue // left out on purpose
		}
		for _, k := range n.Value.Links {
			if k.Value.Network != network {
				continue
			}
			l, err := topology.LinkByName(live, k.Name)
			if err != nil || l.Attrs().OperState != netlink.OperUp {
				continue
			}
			stations = append(stations, capture.Station{Node: n.Name, NS: live.Namespace, Device: k.Name})
		}
	}
	return stations
}

func (e *env) barrierAt(ctx context.Context, stations []capture.Station, thorough bool) error {
	if thorough {
		return e.barriers.Sweep(ctx, stations)
	}
	// Where clients listen is where absence is judged. One that said nothing
	// and is not looked at is left out: a barrier costs every node a frame, and
	// there may be a thousand of both.
	clients := slices.DeleteFunc(slices.Clone(e.lab.Clients()), func(name string) bool { return !e.watched[name] && !e.spoke(name) })
	slices.SortStableFunc(stations, func(a, b capture.Station) int {
		return cmp.Compare(bool2int(!slices.Contains(clients, a.Node)), bool2int(!slices.Contains(clients, b.Node)))
	})
	for i, s := range stations {
		if i > 0 && !slices.Contains(clients, s.Node) {
			break
		}
		if err := e.barriers.Barrier(ctx, s, stations); err != nil {
			return err
		}
	}
	return nil
}

// spoke reports whether a node did something in this step.
func (e *env) spoke(node string) bool {
	return slices.ContainsFunc(e.outcomes.Replies, func(r assert.Reply) bool { return r.From == node }) ||
		slices.ContainsFunc(e.outcomes.Outputs, func(o assert.Output) bool { return o.Node == node })
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}
