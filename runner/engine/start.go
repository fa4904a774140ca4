package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// Running is a lab that has been set up in this kernel.
type Running struct{ world *world }

// Start applies the setup of a plan and returns when the lab is ready: all its
// daemons listen, its links have their carrier, and nothing has crossed its
// wire. What a failed start has made is gone when it returns.
func Start(ctx context.Context, plan *scenarios.Plan) (*Running, error) {
	return startIn(ctx, newWorld(), plan)
}

// startIn is Start in a world that has no nodes yet.
func startIn(ctx context.Context, w *world, plan *scenarios.Plan) (*Running, error) {
	err := w.apply(ctx, plan.Setup)
	if err == nil {
		err = awaitLinks(ctx, w, plan.Lab)
	}
	if err == nil {
		err = awaitGroups(ctx, w, plan.Setup)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return &Running{w}, nil
}

// Node is a running node, or a network by its name.
func (r *Running) Node(name string) (topology.Node, error) { return r.world.Node(name) }

// Apply does ops, those of a step's change, in the running lab.
func (r *Running) Apply(ctx context.Context, ops []topology.Op) error {
	return topology.ApplyAll(ctx, r.world, ops)
}

// Close takes the lab down.
func (r *Running) Close() error { return r.world.close() }

// linkWait bounds the time in which a new link finds its carrier. The kernel
// does that by itself a moment after both ends are up (net/core/link_watch.c),
// and until then it may lose what is sent.
const linkWait = 5 * time.Second

func awaitLinks(ctx context.Context, w *world, lab *scenarios.Lab) error {
	return awaitSome(ctx, w, lab, func(topology.Key) bool { return true })
}

// awaitNew waits for the links that ops have made, in the lab that they belong
// to; those whose cable the ops pull have none to wait for.
func awaitNew(ctx context.Context, w *world, lab *scenarios.Lab, ops []topology.Op) error {
	made := make(map[topology.Key]bool)
	for _, op := range ops {
		switch k := op.About().Key; k.Kind {
		case "link":
			made[k] = true
		case "cable":
			k.Kind = "link"
			made[k] = false // cables come after their links
		}
	}
	return awaitSome(ctx, w, lab, func(k topology.Key) bool { return made[k] })
}

func awaitSome(ctx context.Context, w *world, lab *scenarios.Lab, wanted func(topology.Key) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, linkWait, fmt.Errorf("no carrier within %s", linkWait))
	defer cancel()
	for _, n := range lab.Nodes {
		for _, k := range n.Value.Links {
			if k.Value.Down || !wanted(topology.Key{Node: n.Name, Kind: "link", ID: k.Name}) {
				continue
			}
			// The switch's end notices by itself, too, and passes nothing on
			// before that.
			for _, end := range [][2]string{{n.Name, k.Name}, {k.Value.Network, topology.PortName(n.Name, k.Name)}} {
				live, err := w.live(end[0])
				if err != nil {
					continue // left out on purpose
				}
				if err := awaitCarrier(ctx, live, end[1]); err != nil {
					return fmt.Errorf("node %s: device %s: %w", end[0], end[1], err)
				}
			}
		}
	}
	return nil
}

func awaitCarrier(ctx context.Context, n *liveNode, device string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		dev, err := topology.LinkByName(n, device)
		if err != nil || dev.Attrs().OperState == netlink.OperUp {
			return nil // a link that was left out is for the steps to miss
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
