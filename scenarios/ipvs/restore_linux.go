package ipvs

import (
	"context"
	"fmt"

	"github.com/lvslab/lvslab/topology"
)

// Restore makes n's table be t, as `ipvsadm-restore` does: it flushes, then
// adds in t's order. Unlike ipvsadm-restore it checks the whole of t first, and
// when the kernel refuses a part of it (a scheduler that it has not), puts back
// the table that was there. Between the flush and the last rule the node
// balances nothing, or not all; the kernel offers no other way.
func Restore(ctx context.Context, n topology.Node, t Table) error {
	if err := t.Validate(); err != nil {
		return fmt.Errorf("%s: nothing restored: %w", n.Name(), err)
	}
	c, err := Open(n)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Replace(ctx, t)
}

// Replace is Restore on an open Conn.
func (c *Conn) Replace(ctx context.Context, t Table) error {
	if err := t.Validate(); err != nil {
		return fmt.Errorf("%s: nothing restored: %w", c.node, err)
	}
	before, err := c.Table(ctx)
	if err != nil {
		return err
	}
	if err = c.load(ctx, t); err == nil {
		return nil
	}
	if back := c.load(ctx, before); back != nil {
		return fmt.Errorf("restoring: %w; the table that was there could not be put back: %w", err, back)
	}
	return fmt.Errorf("restoring: %w; the table is as it was before", err)
}

// load flushes, adds, and reads the whole back.
func (c *Conn) load(ctx context.Context, t Table) error {
	if err := c.Flush(ctx); err != nil {
		return err
	}
	for _, e := range t {
		if err := c.AddService(ctx, e.Service); err != nil {
			return err
		}
		for _, d := range e.Destinations {
			if err := c.AddDestination(ctx, e.Service, d); err != nil {
				return err
			}
		}
	}
	got, err := c.Table(ctx)
	if err != nil {
		return err
	}
	if diff := got.Diff(t); len(diff) > 0 {
		return c.unbelieved("-R", fmt.Sprintf("%d differences, the first: %s", len(diff), diff[0]))
	}
	return nil
}
