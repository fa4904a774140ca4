package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/lvslab/lvslab/runner/wire"
)

// Client asks a lab, or its keeper, over a connection. It is a Lab and has the
// methods of a Keeper.
type Client struct {
	conn ssh.Conn
}

var _ Lab = (*Client)(nil)

// Dial greets the other end of a connection, where Serve must be. The connection
// is the client's then, and is closed where the greeting fails. ctx bounds the
// greeting alone.
func Dial(ctx context.Context, conn net.Conn) (*Client, error) {
	config := &ssh.ClientConfig{
		Config: algorithms(), User: "lvslab",
		// Who the other end is, is known by the way to it: the folder that the
		// socket lies in, or the line of a guest.
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil },
	}
	var c ssh.Conn
	err := greet(ctx, conn, func() error {
		var channels <-chan ssh.NewChannel
		var requests <-chan *ssh.Request
		var err error
		if c, channels, requests, err = ssh.NewClientConn(conn, "lab", config); err != nil {
			return err
		}
		go ssh.DiscardRequests(requests)
		go refuse(channels)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Client{c}, nil
}

// greet runs a handshake that ends with ctx.
func greet(ctx context.Context, conn net.Conn, handshake func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeWait, fmt.Errorf("no greeting within %s", handshakeWait))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err := handshake()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("greeting the lab: %w", err)
	}
	return nil
}

func refuse(channels <-chan ssh.NewChannel) {
	for c := range channels {
		_ = c.Reject(ssh.Prohibited, "only a client asks")
	}
}

// Close ends the connection, and with it all that was asked for by it.
func (c *Client) Close() error { return c.conn.Close() }

// Wait returns when the connection has ended, with the reason.
func (c *Client) Wait() error { return c.conn.Wait() }

// call is one thing that was asked for.
type call struct {
	ssh.Channel
	// ended holds how it ended, after all of its output.
	ended chan done
	// left is closed when nobody waits for the other end any more.
	left chan struct{}
}

// ask opens a channel and sends a request. The channel closes with ctx, and
// goodbye later nobody waits for the other end any more.
func (c *Client) ask(ctx context.Context, verb string, args any) (*call, func(), error) {
	line, err := json.Marshal(args)
	if err == nil {
		line, err = json.Marshal(request{Version: wire.Version, Verb: verb, Args: line})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", verb, err)
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	channel, requests, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	a := &call{Channel: channel, ended: make(chan done, 1), left: make(chan struct{})}
	go func() {
		defer close(a.ended)
		for r := range requests {
			var d done
			if r.Type == doneRequest && json.Unmarshal(r.Payload, &d) == nil {
				select {
				case a.ended <- d:
				default:
				}
			}
			_ = r.Reply(false, nil)
		}
	}()
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(goodbye, func() { close(a.left) })
		_ = channel.Close()
	})
	finish := func() {
		stop()
		_ = channel.Close()
	}
	if err := a.unlessLeft(ctx, func() error { _, err := channel.Write(append(line, '\n')); return err }); err != nil {
		finish()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, c.gone(err)
	}
	return a, finish, nil
}

// gone explains the end of a connection.
func (c *Client) gone(err error) error {
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		return &AskError{Message: refused.Message}
	}
	return fmt.Errorf("%w (%w)", ErrGone, err)
}

// end is how a call ended; all of its output must have been read.
func (a *call) end(ctx context.Context) (done, error) {
	var d done
	var ok bool
	select {
	case d, ok = <-a.ended:
	case <-a.left:
	}
	switch {
	case ctx.Err() != nil:
		return d, context.Cause(ctx)
	case !ok:
		return d, ErrGone
	case d.Error != "":
		return d, &AskError{Message: d.Error, Usage: d.Usage}
	}
	return d, nil
}

// stream asks for something whose output goes to w. An error of w ends it.
func (c *Client) stream(ctx context.Context, verb string, args any, w io.Writer) error {
	a, finish, err := c.ask(ctx, verb, args)
	if err != nil {
		return err
	}
	defer finish()
	_ = a.CloseWrite()
	if err := a.copy(ctx, w, a); err != nil && ctx.Err() == nil {
		return err
	}
	_, err = a.end(ctx)
	return err
}

// ask1 asks for one value.
func ask1[T any](ctx context.Context, c *Client, verb string, args any) (*T, error) {
	var v T
	r, w := io.Pipe()
	var decoded error
	var wg sync.WaitGroup
	wg.Go(func() {
		decoded = json.NewDecoder(r).Decode(&v)
		_, _ = io.Copy(io.Discard, r)
	})
	err := c.stream(ctx, verb, args, w)
	_ = w.Close()
	wg.Wait()
	if err != nil {
		return nil, err
	}
	if decoded != nil {
		return nil, fmt.Errorf("%s: the answer is none: %w", verb, decoded)
	}
	return &v, nil
}

// Exec implements Lab.
func (c *Client) Exec(ctx context.Context, e Exec, s Streams) (Exit, error) {
	a, finish, err := c.ask(ctx, verbExec, e)
	if err != nil {
		return Exit{}, err
	}
	defer finish()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case size := <-s.Resize:
				send(a, resizeRequest, size)
			case name := <-s.Signals:
				send(a, signalRequest, name)
			case <-over:
				return
			}
		}
	}()
	go func() {
		if s.Stdin != nil {
			_, _ = io.Copy(a, s.Stdin) // it may end before, which is no error of ours
		}
		_ = a.CloseWrite()
	}()
	// Who does not take what the program writes (head) ends it, as the end of a
	// pipe would.
	var wg sync.WaitGroup
	var failed [2]error
	wg.Go(func() { failed[0] = pass(ctx, s.Stdout, a, a) })
	wg.Go(func() { failed[1] = pass(ctx, s.Stderr, a.Stderr(), a) })
	wg.Wait()
	d, err := a.end(ctx)
	if werr := errors.Join(failed[0], failed[1]); werr != nil && ctx.Err() == nil {
		return Exit{}, werr
	}
	if err != nil {
		return Exit{}, err
	}
	if d.Exit == nil {
		return Exit{}, ErrGone
	}
	return *d.Exit, nil
}

// pass copies until the end. Where the writer fails, it closes the channel.
func pass(ctx context.Context, w io.Writer, r io.Reader, a *call) error {
	if w == nil {
		w = io.Discard
	}
	err := a.copy(ctx, w, r)
	if err != nil {
		_ = a.Close()
	}
	return err
}

func send(a ssh.Channel, name string, payload any) {
	b, _ := json.Marshal(payload)        // of strings and numbers
	_, _ = a.SendRequest(name, false, b) // the program may have ended
}

// Status implements Lab.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return ask1[Status](ctx, c, verbStatus, nil)
}

// Inspect implements Lab.
func (c *Client) Inspect(ctx context.Context) (*Inspection, error) {
	return ask1[Inspection](ctx, c, verbInspect, nil)
}

// Logs implements Lab.
func (c *Client) Logs(ctx context.Context, l Logs, w io.Writer) error {
	return c.stream(ctx, verbLogs, l, w)
}

// Apply implements Lab.
func (c *Client) Apply(ctx context.Context, a Apply) (*Change, error) {
	return ask1[Change](ctx, c, verbApply, a)
}

// Run implements Lab. emit is called by one goroutine.
func (c *Client) Run(ctx context.Context, r Run, emit func(wire.Event)) error {
	a, finish, err := c.ask(ctx, verbRun, r)
	if err != nil {
		return err
	}
	defer finish()
	_ = a.CloseWrite()
	events := wire.NewReader(a)
	for {
		e, err := events.Event()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		emit(e)
	}
	_, err = a.end(ctx)
	return err
}

// Capture implements Lab.
func (c *Client) Capture(ctx context.Context, p Capture, w io.Writer) error {
	return c.stream(ctx, verbCapture, p, w)
}

// Fault implements Lab.
func (c *Client) Fault(ctx context.Context, f Fault) (*Change, error) {
	return ask1[Change](ctx, c, verbFault, f)
}

// Heal implements Lab.
func (c *Client) Heal(ctx context.Context, h Heal) (*Change, error) {
	return ask1[Change](ctx, c, verbHeal, h)
}

// Info is that of the Keeper at the other end.
func (c *Client) Info(ctx context.Context) (*Info, error) { return ask1[Info](ctx, c, verbInfo, nil) }

// Down has the Keeper at the other end take the lab down.
func (c *Client) Down(ctx context.Context) error {
	return c.stream(ctx, verbDown, nil, io.Discard)
}

// downWait bounds Down at the keeper's side: who asked for it may be gone.
const downWait = 30 * time.Second
