package engine

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/scenarios"
)

// stimuli are what outlives the action that began it: connections that are held
// open, and requests in the background.
type stimuli struct {
	held       []held
	background []chan []assert.Reply
}

// held is a connection that a request left open.
type held struct {
	node, name string
	conn       io.Closer
}

// close lets all connections go. Requests in the background end with their
// step's context, and are waited for.
func (s *stimuli) close() {
	for _, h := range s.held {
		_ = h.conn.Close()
	}
	for _, b := range s.background {
		<-b
	}
	*s = stimuli{}
}

// request sends requests, or begins to: those in the background are collected by
// wait.
func (r *labRun) request(ctx context.Context, q *scenarios.Request) error {
	series := node.Series{Count: q.Count, Concurrency: q.Concurrency, Interval: q.Interval}
	for _, name := range q.From {
		n, err := r.env.live(name)
		if err != nil {
			return err
		}
		series.From = append(series.From, n.Namespace)
	}
	spec := specOf(q)
	spec.Ports = r.ports
	if q.Background {
		done := make(chan []assert.Reply, 1)
		r.stimuli.background = append(r.stimuli.background, done)
		go func() { done <- replies(q, spec, series.Send(ctx, spec)) }()
		return nil
	}
	answers := series.Send(ctx, spec)
	for _, a := range answers {
		if a.Held != nil {
			r.stimuli.held = append(r.stimuli.held, held{a.From, q.Name, a.Held})
		}
	}
	r.env.outcomes.Replies = append(r.env.outcomes.Replies, replies(q, spec, answers)...)
	return ctx.Err()
}

func specOf(q *scenarios.Request) node.RequestSpec {
	spec := node.RequestSpec{
		Client: q.Client, Network: q.Network, Addr: q.Addr, Path: q.Path, Timeout: q.Timeout,
		Bytes: q.Bytes, Upload: q.Upload, Active: q.Mode == "active", Hold: q.Hold, SameSocket: q.SameSocket,
	}
	if q.Source.Valid() {
		a := q.Source.Addr
		if !a.IsValid() {
			a = netip.IPv4Unspecified()
		}
		spec.Source = netip.AddrPortFrom(a, q.Source.Port)
	}
	return spec
}

// replies are answers as checks see them.
func replies(q *scenarios.Request, spec node.RequestSpec, answers []node.Reply) []assert.Reply {
	var out []assert.Reply
	for _, a := range answers {
		reply := assert.Reply{
			From: a.From, To: q.Addr.String(), Result: string(a.Result), Server: a.Server, Peer: a.Peer,
			Status: a.Status, Body: string(a.Body), Elapsed: a.Elapsed,
			Protocol: a.Protocol, Local: a.Local, Remote: spec.Addr,
		}
		if a.Err != nil {
			reply.Err = a.Err.Error()
			if spec.Client == "http" && a.Result != node.Failed {
				reply.Err = fmt.Sprintf("curl would exit with %d", a.CurlExit())
			}
		}
		out = append(out, reply)
	}
	return out
}

// wait collects what came of the requests in the background, in the order in
// which they were begun.
func (r *labRun) wait(ctx context.Context) error {
	for len(r.stimuli.background) > 0 {
		r.env.outcomes.Replies = append(r.env.outcomes.Replies, <-r.stimuli.background[0]...)
		r.stimuli.background = r.stimuli.background[1:]
	}
	return ctx.Err()
}

// release closes connections that are held.
func (r *labRun) release(q *scenarios.Release) error {
	var kept []held
	for _, h := range r.stimuli.held {
		if q.Node != "" && q.Node != h.node || q.Name != "" && q.Name != h.name {
			kept = append(kept, h)
			continue
		}
		_ = h.conn.Close() // a connection that is broken is closed all the same
	}
	r.stimuli.held = kept
	return nil
}

// daemon stops a server as if it had been killed, or starts it again.
func (r *labRun) daemon(ctx context.Context, verb string, c *scenarios.DaemonChange) error {
	n, err := r.env.live(c.Node)
	if err != nil {
		return err
	}
	d := c.Serve.Daemon()
	if verb == "stop" {
		return n.StopDaemon(d.Name)
	}
	return n.StartDaemon(ctx, d)
}

func (r *labRun) ping(ctx context.Context, q *scenarios.Ping) error {
	n, err := r.env.live(q.From)
	if err != nil {
		return err
	}
	for _, a := range node.Ping(ctx, n.Namespace, q.Addr, q.Count, q.Timeout) {
		reply := assert.Reply{
			From: q.From, To: q.Addr.String(), Result: string(a.Result), Elapsed: a.Elapsed,
			Protocol: "icmp", Remote: netip.AddrPortFrom(q.Addr, 0),
		}
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
