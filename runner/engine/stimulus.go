package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/scenarios"
)

func (r *labRun) request(ctx context.Context, q *scenarios.Request) error {
	n, err := r.env.live(q.From)
	if err != nil {
		return err
	}
	spec := node.RequestSpec{Addr: q.Addr, Path: q.Path, Timeout: q.Timeout}
	for _, a := range node.Requests(ctx, n.Namespace, spec, q.Count, q.Concurrency) {
		reply := assert.Reply{
			From: q.From, To: q.Addr.String(), Result: string(a.Result), Server: a.Server, Peer: a.Peer,
			Status: a.Status, Body: string(a.Body), Elapsed: a.Elapsed,
		}
		if a.Err != nil {
			reply.Err = fmt.Sprintf("curl would exit with %d", a.CurlExit())
			if a.Result == node.Failed {
				reply.Err = a.Err.Error()
			}
		}
		r.env.outcomes.Replies = append(r.env.outcomes.Replies, reply)
	}
	return ctx.Err()
}

func (r *labRun) ping(ctx context.Context, q *scenarios.Ping) error {
	n, err := r.env.live(q.From)
	if err != nil {
		return err
	}
	for _, a := range node.Ping(ctx, n.Namespace, q.Addr, q.Count, q.Timeout) {
		reply := assert.Reply{From: q.From, To: q.Addr.String(), Result: string(a.Result), Elapsed: a.Elapsed}
		if a.Err != nil {
			reply.Err = a.Err.Error()
		}
		r.env.outcomes.Replies = append(r.env.outcomes.Replies, reply)
	}
	return ctx.Err()
}

func (r *labRun) command(ctx context.Context, c *scenarios.Run) error {
	n, err := r.env.live(c.Node)
	if err != nil {
		return err
	}
	out := node.Run(ctx, n.files, node.Command{Shell: c.Command, Timeout: c.Timeout, Combined: true})
	if out.Err != nil {
		return out.Err
	}
	res := assert.Output{Node: c.Node, Command: c.Command, Text: strings.TrimRight(string(out.Stdout), "\n"), Exit: out.ExitCode}
	switch {
	case out.TimedOut:
		res.Note = fmt.Sprintf("stopped after %s", c.Timeout)
	case out.Truncated:
		res.Note = "stopped: it wrote too much"
	case out.Signal != "":
		res.Note = "ended by " + out.Signal
	}
	r.env.outcomes.Outputs = append(r.env.outcomes.Outputs, res)
	return nil
}

// flush empties neighbour tables as `ip neigh flush all` does; no name means
// every node. It goes round twice: while it empties one node's, another that
// still waits for an answer may ask once more, by which the first learns anew.
func (r *labRun) flush(nodes []string) error {
	if len(nodes) == 0 {
		nodes = r.env.lab.Nodes.Names()
	}
	for range 2 {
		for _, name := range nodes {
			if err := r.flushNode(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *labRun) flushNode(name string) error {
	n, err := r.env.live(name)
	if err != nil {
		return err
	}
	list, err := n.Netlink().NeighList(0, netlink.FAMILY_V4)
	for range 5 { // a dump that a change interrupted is asked for again
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		list, err = n.Netlink().NeighList(0, netlink.FAMILY_V4)
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
