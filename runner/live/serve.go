package live

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/lvslab/lvslab/runner/wire"
)

// Serve answers what one connection asks of a lab, and of its keeper, which is
// nil where there is none at this end. It returns when the connection has ended
// and all that was asked for by it; ctx ends it. The connection is closed then.
// What Run emits may come from several goroutines.
func Serve(ctx context.Context, conn net.Conn, lab Lab, keeper Keeper) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{Config: algorithms(), NoClientAuth: true}
	config.AddHostKey(signer)
	var c ssh.Conn
	var channels <-chan ssh.NewChannel
	var requests <-chan *ssh.Request
	err = greet(ctx, conn, func() (err error) {
		c, channels, requests, err = ssh.NewServerConn(conn, config)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	go ssh.DiscardRequests(requests)
	s := server{lab: lab, keeper: keeper}
	var wg sync.WaitGroup
	for n := range channels {
		if n.ChannelType() != channelType {
			_ = n.Reject(ssh.UnknownChannelType, "not a channel of lvslab's")
			continue
		}
		channel, requests, err := n.Accept()
		if err != nil {
			continue // the connection is ending
		}
		wg.Go(func() { s.serve(ctx, channel, requests) })
	}
	cancel()
	wg.Wait()
	if err := c.Wait(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

type server struct {
	lab    Lab
	keeper Keeper
}

// serve answers one request.
func (s server) serve(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := signals{resize: make(chan Size, 1), signals: make(chan string, 16)}
	go func() {
		defer cancel() // the client has closed the channel
		in.listen(requests)
	}()
	r := bufio.NewReader(channel)
	exit, err := s.answer(ctx, r, channel, in)
	_ = channel.CloseWrite()
	_, _ = channel.SendRequest(doneRequest, false, newDone(exit, err))
	_ = channel.Close()
}

// signals are what comes beside the data of a channel.
type signals struct {
	resize  chan Size
	signals chan string
}

func (s signals) listen(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case resizeRequest:
			var size Size
			if json.Unmarshal(r.Payload, &size) != nil {
				break
			}
			select {
			case <-s.resize: // only the newest counts
			default:
			}
			s.resize <- size
		case signalRequest:
			var name string
			if json.Unmarshal(r.Payload, &name) != nil {
				break
			}
			select {
			case s.signals <- name:
			default: // nobody takes them
			}
		}
		_ = r.Reply(true, nil)
	}
}

// answer is what came of a request. A mistake of lvslab's own in one is told to who
// asked, and to the log: it must not end the lab, and what others do in it.
func (s server) answer(ctx context.Context, r *bufio.Reader, channel ssh.Channel, in signals) (exit *Exit, err error) {
	defer func() {
		if why := recover(); why != nil {
			fmt.Fprintf(os.Stderr, "lvslab: panic: %v\n%s", why, debug.Stack())
			exit, err = nil, fmt.Errorf("a mistake of lvslab's own, which its log has in full: %v", why)
		}
	}()
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return nil, fmt.Errorf("not a request of lvslab's: %s: %w", wire.Quote(line), err)
	}
	if err := checkVersion(q.Version); err != nil {
		return nil, err
	}
	if q.Verb == verbExec {
		var e Exec
		if err := json.Unmarshal(q.Args, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", q.Verb, err)
		}
		exit, err := s.lab.Exec(ctx, e, Streams{
			Stdin: r, Stdout: channel, Stderr: channel.Stderr(), Resize: in.resize, Signals: in.signals,
		})
		return &exit, err
	}
	return nil, s.call(ctx, q, channel)
}

// readLine is the first line, without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxRequest {
			return nil, fmt.Errorf("a request of more than %d bytes", maxRequest)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the request: %w", err)
		}
	}
}

// call answers what is no program.
func (s server) call(ctx context.Context, q request, w io.Writer) error {
	switch q.Verb {
	case verbStatus:
		v, err := s.lab.Status(ctx)
		return answer(w, v, err)
	case verbInspect:
		v, err := s.lab.Inspect(ctx)
		return answer(w, v, err)
	case verbLogs:
		return with(q, func(a Logs) error { return s.lab.Logs(ctx, a, w) })
	case verbApply:
		return with(q, func(a Apply) error {
			v, err := s.lab.Apply(ctx, a)
			return answer(w, v, err)
		})
	case verbRun:
		return with(q, func(a Run) error { return s.run(ctx, a, w) })
	case verbCapture:
		return with(q, func(a Capture) error { return s.lab.Capture(ctx, a, w) })
	case verbFault:
		return with(q, func(a Fault) error {
			v, err := s.lab.Fault(ctx, a)
			return answer(w, v, err)
		})
	case verbHeal:
		return with(q, func(a Heal) error {
			v, err := s.lab.Heal(ctx, a)
			return answer(w, v, err)
		})
	}
	if s.keeper != nil {
		switch q.Verb {
		case verbInfo:
			info := s.keeper.Info()
			return answer(w, &info, nil)
		case verbDown:
			// Who asked may be gone, and the lab goes down all the same.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downWait)
			defer cancel()
			return s.keeper.Down(ctx)
		}
	}
	return fmt.Errorf("%q cannot be asked for here", q.Verb)
}

func with[T any](q request, f func(T) error) error {
	var args T
	if err := json.Unmarshal(q.Args, &args); err != nil {
		return fmt.Errorf("%s: %w", q.Verb, err)
	}
	return f(args)
}

func answer[T any](w io.Writer, v *T, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(v)
}

// run passes events on. A client that has gone, or takes none for too long, ends
// the run.
func (s server) run(ctx context.Context, r Run, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := newSpool(w, maxSpool)
	defer func() { _ = out.end() }() // after a panic, too
	events := wire.NewWriter(out)
	err := s.lab.Run(ctx, r, func(e wire.Event) {
		if e.Time.IsZero() {
			e.Time = time.Now().UTC()
		}
		if err := events.Event(e); err != nil {
			cancel(err)
		}
	})
	return cmp.Or(err, out.end())
}
