package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// fake is a lab whose programs are functions.
type fake struct {
	exec func(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error)
}

func (f fake) Exec(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	return f.exec(ctx, e, s)
}

func (fake) Status(context.Context) (*live.Status, error) {
	return &live.Status{Lab: "dr", Nodes: []string{"client", "web1"}}, nil
}

func (fake) Inspect(context.Context) (*live.Inspection, error) {
	in := &live.Inspection{Lab: "dr"}
	for i := range 5000 { // more than a packet of SSH's holds
		in.Nodes = append(in.Nodes, live.Node{Name: fmt.Sprintf("node%d", i), Routes: []string{strings.Repeat("x", 100)}})
	}
	return in, nil
}

func (fake) Logs(_ context.Context, l live.Logs, w io.Writer) error {
	_, err := fmt.Fprintf(w, "log of %s\n", l.Node)
	return err
}

func (fake) Apply(_ context.Context, a live.Apply) (*live.Change, error) {
	var list source.List
	list.Add(source.Pos{File: a.File.Path, Line: 3, Col: 1}, "unknown key")
	return nil, list
}

func (fake) Run(_ context.Context, _ live.Run, emit func(wire.Event)) error {
	emit(wire.Event{Kind: wire.LabStarted, Lab: "dr"})
	emit(wire.Event{Kind: wire.LabFinished, Lab: "dr", Verdict: wire.Pass})
	return nil
}

// Capture writes until its reader has gone.
func (fake) Capture(ctx context.Context, _ live.Capture, w io.Writer) error {
	for ctx.Err() == nil {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return err
		}
	}
	return nil
}

func (fake) Fault(_ context.Context, f live.Fault) (*live.Change, error) {
	return nil, fmt.Errorf("no node %s", f.Node)
}

func (fake) Heal(context.Context, live.Heal) (*live.Change, error) {
	return &live.Change{Commands: []string{"ip link set eth0 up"}, Done: 1}, nil
}

type keeper struct{}

func (keeper) Info() live.Info            { return live.Info{Name: "mine"} }
func (keeper) Down(context.Context) error { return nil }

// pair is a pair of connected sockets.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

// ask is a client of a lab, and over a second such server where twice is set:
// that is how a lab in a guest is asked.
func ask(t *testing.T, lab live.Lab, twice bool) *live.Client {
	t.Helper()
	ours, theirs := pair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := live.Serve(context.Background(), theirs, lab, keeper{}); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := live.Dial(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { c.Close() })
	if twice {
		return ask(t, c, false)
	}
	return c
}

func TestCalls(t *testing.T) {
	c := ask(t, fake{}, true)
	s, err := c.Status(t.Context())
	if err != nil || !cmp.Equal(s.Nodes, []string{"client", "web1"}) {
		t.Errorf("Status: %+v, %v", s, err)
	}
	if in, err := c.Inspect(t.Context()); err != nil || len(in.Nodes) != 5000 {
		t.Errorf("Inspect: %v", err)
	}
	var log strings.Builder
	if err := c.Logs(t.Context(), live.Logs{Node: "web1"}, &log); err != nil || log.String() != "log of web1\n" {
		t.Errorf("Logs: %q, %v", log.String(), err)
	}
	var asked *live.AskError
	if _, err := c.Apply(t.Context(), live.Apply{File: wire.File{Path: "my.yaml", Data: make([]byte, 1<<20)}}); !errors.As(err, &asked) || asked.Message != "my.yaml:3:1: unknown key" {
		t.Errorf("Apply: %v", err)
	}
	if _, err := c.Fault(t.Context(), live.Fault{Node: "web9"}); !errors.As(err, &asked) || asked.Usage || asked.Message != "no node web9" {
		t.Errorf("Fault: %v", err)
	}
	var kinds []string
	if err := c.Run(t.Context(), live.Run{}, func(e wire.Event) { kinds = append(kinds, e.Kind) }); err != nil || !cmp.Equal(kinds, []string{wire.LabStarted, wire.LabFinished}) {
		t.Errorf("Run: %v, %v", kinds, err)
	}
	if ch, err := c.Heal(t.Context(), live.Heal{}); err != nil || ch.Done != 1 {
		t.Errorf("Heal: %+v, %v", ch, err)
	}
	direct := ask(t, fake{}, false)
	if i, err := direct.Info(t.Context()); err != nil || i.Name != "mine" {
		t.Errorf("Info: %+v, %v", i, err)
	}
}

// TestUsageOverOne shows that a mistake in a file is told as such.
func TestUsageOverOne(t *testing.T) {
	var asked *live.AskError
	if _, err := ask(t, fake{}, false).Apply(t.Context(), live.Apply{File: wire.File{Path: "my.yaml"}}); !errors.As(err, &asked) || !asked.Usage {
		t.Errorf("Apply: %v", err)
	}
}

func TestExec(t *testing.T) {
	lab := fake{exec: func(_ context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
		in, err := io.ReadAll(s.Stdin)
		if err != nil {
			return live.Exit{}, err
		}
		fmt.Fprintf(s.Stdout, "%s %v %d", e.Node, e.Args, len(in))
		fmt.Fprint(s.Stderr, "oops")
		size, name := <-s.Resize, <-s.Signals
		fmt.Fprintf(s.Stdout, " %dx%d %s", size.Cols, size.Rows, name)
		return live.Exit{Code: 130, Signal: "INT"}, nil
	}}
	for _, twice := range []bool{false, true} {
		var out, errw strings.Builder
		resize, signals := make(chan live.Size, 1), make(chan string, 1)
		resize <- live.Size{Rows: 24, Cols: 80}
		signals <- "INT"
		exit, err := ask(t, lab, twice).Exec(t.Context(), live.Exec{Node: "web1", Args: []string{"cat", "-"}}, live.Streams{
			Stdin: bytes.NewReader(make([]byte, 5<<20)), Stdout: &out, Stderr: &errw, Resize: resize, Signals: signals,
		})
		if err != nil || exit != (live.Exit{Code: 130, Signal: "INT"}) {
			t.Errorf("twice %v: %+v, %v", twice, exit, err)
		}
		if want := "web1 [cat -] 5242880 80x24 INT"; out.String() != want || errw.String() != "oops" {
			t.Errorf("twice %v: out %q, err %q", twice, out.String(), errw.String())
		}
	}
}

// TestFlood shows that a program which floods, and whose output nobody takes,
// keeps no other waiting.
func TestFlood(t *testing.T) {
	lab := fake{exec: func(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
		if e.Node == "quiet" {
			_, err := fmt.Fprint(s.Stdout, "here")
			return live.Exit{}, err
		}
		for ctx.Err() == nil {
			if _, err := s.Stdout.Write(make([]byte, 32<<10)); err != nil {
				return live.Exit{}, err
			}
		}
		return live.Exit{}, context.Cause(ctx)
	}}
	c := ask(t, lab, true)
	ctx, cancel := context.WithCancel(t.Context())
	flooding := make(chan struct{})
	stuck, taken := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Exec(ctx, live.Exec{Node: "loud"}, live.Streams{Stdout: taken})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the flood ended with %v", err)
		}
	})
	go func() {
		_, _ = io.ReadFull(stuck, make([]byte, 1<<10))
		close(flooding) // and nobody reads on
	}()
	<-flooding
	for range 20 {
		var out strings.Builder
		if _, err := c.Exec(t.Context(), live.Exec{Node: "quiet"}, live.Streams{Stdout: &out}); err != nil || out.String() != "here" {
			t.Fatalf("beside a flood: %q, %v", out.String(), err)
		}
	}
	cancel()
	stuck.Close()
	wg.Wait()
}

// TestLeave shows that what was asked for ends with the one who asked.
func TestLeave(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	lab := fake{exec: func(ctx context.Context, _ live.Exec, _ live.Streams) (live.Exit, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return live.Exit{}, context.Cause(ctx)
	}}
	c := ask(t, lab, false)
	why := errors.New("enough of it")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-began
		cancel(why)
	}()
	if _, err := c.Exec(ctx, live.Exec{}, live.Streams{}); !errors.Is(err, why) {
		t.Errorf("Exec: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the program still runs")
	}
	// A capture ends with its reader.
	r, w := io.Pipe()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, 1<<20))
		r.CloseWithError(errors.New("enough"))
	}()
	if err := c.Capture(t.Context(), live.Capture{}, w); err == nil || err.Error() != "enough" {
		t.Errorf("Capture: %v", err)
	}
}

// TestGone shows what is told when the other end goes.
func TestGone(t *testing.T) {
	ours, theirs := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	began := make(chan struct{})
	lab := fake{exec: func(ctx context.Context, _ live.Exec, _ live.Streams) (live.Exit, error) {
		close(began)
		<-ctx.Done()
		return live.Exit{}, context.Cause(ctx)
	}}
	wg.Go(func() { _ = live.Serve(ctx, theirs, lab, nil) })
	c, err := live.Dial(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Info(t.Context()); err == nil || !strings.Contains(err.Error(), `"info" cannot be asked for here`) {
		t.Errorf("Info without a keeper: %v", err)
	}
	go func() {
		<-began
		cancel()
	}()
	if _, err := c.Exec(t.Context(), live.Exec{}, live.Streams{}); !errors.Is(err, live.ErrGone) && !errors.As(err, new(*live.AskError)) {
		t.Errorf("Exec: %v", err)
	}
	wg.Wait()
	if _, err := c.Status(t.Context()); !errors.Is(err, live.ErrGone) {
		t.Errorf("Status afterwards: %v", err)
	}
}

// TestStrangers shows what becomes of connections that are not lvslab's.
func TestStrangers(t *testing.T) {
	ours, theirs := pair(t)
	done := make(chan error, 1)
	go func() { done <- live.Serve(t.Context(), theirs, fake{}, nil) }()
	go func() { _, _ = io.Copy(io.Discard, ours) }()
	_, _ = ours.Write([]byte("GET / HTTP/1.0\r\n\r\n" + strings.Repeat("x", 1<<16)))
	ours.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "greeting the lab") {
		t.Errorf("Serve: %v", err)
	}
}

// TestStandsStill shows that whoever asks a lab that stands still, before the
// channel is open or after, waits no longer than they want to.
func TestStandsStill(t *testing.T) {
	for _, greeted := range []bool{false, true} {
		ours, theirs := pair(t)
		began := make(chan struct{})
		lab := fake{exec: func(context.Context, live.Exec, live.Streams) (live.Exit, error) {
			close(began)
			select {}
		}}
		still := &stillness{Conn: theirs, over: make(chan struct{})}
		go func() { _ = live.Serve(t.Context(), still, lab, nil) }() // it never ends: its lab does not
		c, err := live.Dial(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("enough of it")
		ctx, cancel := context.WithCancelCause(t.Context())
		if greeted {
			go func() {
				<-began
				still.begin()
				cancel(why)
			}()
		} else {
			still.begin()
			time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		}
		if _, err := c.Exec(ctx, live.Exec{}, live.Streams{}); !errors.Is(err, why) {
			t.Errorf("greeted %t: %v", greeted, err)
		}
		c.Close()
		close(still.over)
	}
}

// stillness is a connection that nothing more is read from once it has begun.
type stillness struct {
	net.Conn
	still atomic.Bool
	over  chan struct{}
}

func (s *stillness) begin() { s.still.Store(true) }

func (s *stillness) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if s.still.Load() {
		<-s.over
	}
	return n, err
}
