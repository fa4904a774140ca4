package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// flush empties neighbour tables as `ip neigh flush all` does; no name means
// every node that runs. It goes round twice: while it empties one node's, another that
// still waits for an answer may ask once more, by which the first learns anew.
func (r *labRun) flush(nodes []string) error {
	if len(nodes) == 0 {
		// One that is switched off has none.
		nodes = slices.DeleteFunc(r.env.lab.Nodes.Names(), func(name string) bool {
			_, err := r.env.live(name)
			return err != nil
		})
	}
	families := []int{netlink.FAMILY_V4}
	if r.env.lab.UsesIPv6() {
		families = append(families, netlink.FAMILY_V6)
	}
	for range 2 {
		for _, name := range nodes {
			for _, family := range families {
				if err := r.flushNode(name, family); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *labRun) flushNode(name string, family int) error {
	n, err := r.env.live(name)
	if err != nil {
		return err
	}
	list, err := n.Netlink().NeighList(0, family)
	for range 5 { // a dump that a change interrupted is asked for again
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		list, err = n.Netlink().NeighList(0, family)
	}
	if err != nil {
		return fmt.Errorf("node %s: neighbours: %w", name, err)
	}
	for _, e := range list {
		if e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 {
			continue
		}
		if err := n.Netlink().NeighDel(&e); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("node %s: ip neigh del %s: %w", name, e.IP, err)
		}
	}
	return nil
}

// zero sets the counters of directors' services to zero, as ipvsadm -Z does.
func (r *labRun) zero(ctx context.Context, nodes []string) error {
	for _, name := range nodes {
		n, err := r.env.live(name)
		if err != nil {
			return err
		}
		c, err := ipvs.Open(n)
		if err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
		err = c.Zero(ctx, nil)
		c.Close()
		if err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
	}
	return nil
}
