package live

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// goodbye is how long the other end may take to answer that a call is over. What
// it sent before that still comes. One that is stopped, or whose kernel hangs,
// never answers, and nothing in package ssh ends the waiting for one channel.
const goodbye = 2 * time.Second

// open opens a channel, unless ctx ends before the other end answers.
func (c *Client) open(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		channel  ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	answer := make(chan opened, 1)
	go func() {
		channel, requests, err := c.conn.OpenChannel(channelType, nil)
		answer <- opened{channel, requests, err}
	}()
	select {
	case o := <-answer:
		if o.err != nil {
			return nil, nil, c.gone(o.err)
		}
		return o.channel, o.requests, nil
	case <-ctx.Done():
		go func() {
			if o := <-answer; o.err == nil {
				_ = o.channel.Close()
				ssh.DiscardRequests(o.requests)
			}
		}()
		return nil, nil, context.Cause(ctx)
	}
}

// unlessLeft is the result of f, or the cause of ctx's end when the call is left.
func (a *call) unlessLeft(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-a.left:
		return context.Cause(ctx)
	}
}

// copy copies until the end of r, or until the call is left. Nothing is written
// to w after it has returned.
func (a *call) copy(ctx context.Context, w io.Writer, r io.Reader) error {
	g := &gated{w: w}
	defer g.shut()
	return a.unlessLeft(ctx, func() error { _, err := io.Copy(g, r); return err })
}

// gated is a writer until it is shut.
type gated struct {
	mu   sync.Mutex
	w    io.Writer
	over bool
}

func (g *gated) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return 0, io.ErrClosedPipe
	}
	return g.w.Write(p)
}

func (g *gated) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
}
