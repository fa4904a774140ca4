package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/line"
	"github.com/lvslab/lvslab/runner/wire"
)

// Session is a booted guest. Its methods may be called from several
// goroutines; jobs run one after the other.
type Session struct {
	guest   *guest
	w       *wire.Writer
	kernel  string
	silence time.Duration
	explain func(console string) string

	running sync.Mutex // held by Run and Up
	jobs    int
	events  chan wire.Event
	// conn is the line once the guest keeps a lab up, set before the event that
	// tells of it is passed on; nil before.
	conn *line.Conn
	// over is closed when no event will come any more, and the guest has nothing
	// else to say either; err is then why.
	over chan struct{}
	err  error
	// ended is closed when nothing of the guest is left; fate then tells of it.
	ended chan struct{}
	fate  error

	closing   chan struct{}
	closeOnce sync.Once
	closed    chan struct{}
}

// Boot starts a guest and returns when it has said its first word. ctx bounds
// the boot, not the session's life. The error is a *GuestError where a guest
// was started and came to nothing.
func Boot(ctx context.Context, c Spec) (*Session, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	want := []Rung{c.Rung}
	if c.Rung == Auto {
		want = Rungs()
	}
	var denied []error
	for _, r := range want {
		s, err := boot(ctx, c, r)
		var d *DeniedError
		if errors.As(err, &d) {
			logf(c.Log, "guest: no %v", d)
			denied = append(denied, d)
			continue
		}
		return s, err
	}
	return nil, fmt.Errorf("%s cannot be started: %w", c.Kind, errors.Join(denied...))
}

func (c Spec) complete() (Spec, error) {
	if helper() {
		return c, fmt.Errorf("this program was started as %s and does not call guest.Main first thing in main or TestMain", os.Args[1])
	}
	if c.Self == "" {
		self, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("finding this program for the guest to run: %w", err)
		}
		c.Self = self
	}
	if _, err := os.Stat(c.Self); err != nil {
		return c, fmt.Errorf("the guest is to run this very program: %w", err)
	}
	return c, nil
}

func boot(ctx context.Context, c Spec, r Rung) (*Session, error) {
	begin := time.Now()
	g, err := launch(ctx, c, r)
	if err != nil {
		return nil, err
	}
	s := &Session{
		guest: g, w: wire.NewWriter(g.line), silence: c.Silence, explain: c.Explain,
		events: make(chan wire.Event), over: make(chan struct{}),
		closing: make(chan struct{}), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	g.heard = make(chan struct{})
	go g.listen()
	go s.follow()
	if err := before(ctx, c, g); err != nil {
		s.err = err
		close(s.over)
		s.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("booting a guest: %w", context.Cause(ctx))
		}
		return nil, s.failed("did not boot", err)
	}
	go s.read(c.BootTimeout - time.Since(begin))
	select {
	case e := <-s.events:
		if e.Kind != wire.Hello {
			s.Close()
			return nil, s.failed(fmt.Sprintf("its first word was %q, not %q", e.Kind, wire.Hello), nil)
		}
		s.kernel = e.Kernel
		go s.end()
		logf(c.Log, "guest: Linux %s, rung %s, pinned to CPU %s, up after %d ms", s.kernel, r, g.cpu, time.Since(begin).Milliseconds())
		return s, nil
	case <-s.over:
		s.Close()
		return nil, s.failed("did not boot", s.err)
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("booting a guest: %w", context.Cause(ctx))
	}
}

// before gives Spec.Before its turn.
func before(ctx context.Context, c Spec, g *guest) error {
	if c.Before == nil {
		return nil
	}
	if err := g.line.SetDeadline(time.Now().Add(c.BootTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = g.line.SetDeadline(time.Unix(1, 0)) })
	err := c.Before(ctx, g.line, g.work)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	return errors.Join(err, g.line.SetDeadline(time.Time{}))
}

// Kernel is the release of the guest's kernel.
func (s *Session) Kernel() string { return s.kernel }

// Rung is the isolation that the guest has.
func (s *Session) Rung() Rung { return s.guest.rung }

// read passes the guest's events on, until there are no more.
func (s *Session) read(first time.Duration) {
	defer close(s.over)
	s.err = s.pass(first)
	select {
	case <-s.closing:
		s.err = errClosed
	default:
	}
}

func (s *Session) pass(first time.Duration) error {
	timed := &timedLine{f: s.guest.line, first: time.Now().Add(first), silence: s.silence}
	r := wire.NewReader(timed)
	for {
		e, err := r.Event()
		if err != nil {
			return err
		}
		if e.Kind == wire.Up {
			s.hand(timed, r)
		}
		select {
		case s.events <- e:
		case <-s.closing:
			return errClosed
		}
		if s.conn != nil {
			<-s.conn.Done()
			return s.conn.Err()
		}
	}
}

// follow ends the line of a guest whose supervisor is gone: something of the
// kernel may hold the other end.
func (s *Session) follow() {
	<-s.guest.exited
	select {
	case <-s.over:
	case <-time.After(time.Second):
		_ = s.guest.line.Close()
	}
}

var errClosed = errors.New("the session is closed")

// timedLine is the guest's line with a deadline on every read.
type timedLine struct {
	f *os.File
	// first is the deadline of everything before the first byte.
	first   time.Time
	silence time.Duration // 0 means no deadline
}

func (l *timedLine) Read(p []byte) (int, error) {
	deadline := l.first
	if deadline.IsZero() && l.silence > 0 {
		deadline = time.Now().Add(l.silence)
	}
	if err := l.f.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := l.f.Read(p)
	if n > 0 {
		l.first = time.Time{}
	}
	return n, err
}

// Run hands the guest a job and passes its events to emit, one at a time. It
// returns nil when the guest has sent its final record. An error of the job
// itself leaves the session usable; every other ends it and is a *GuestError,
// with the cause of ctx inside when ctx ended.
func (s *Session) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	s.running.Lock()
	defer s.running.Unlock()
	return s.command(ctx, job, func(file string) wire.Command { return wire.Command{Run: file} }, emit)
}

// command has the guest do something with a job, and returns nil when the guest
// has done it: with Done, or with Up where that was asked for. running is held.
func (s *Session) command(ctx context.Context, job wire.Job, of func(file string) wire.Command, emit func(wire.Event)) error {
	select {
	case <-s.closed:
		return s.failed("is gone", s.err)
	default:
	}
	if s.conn != nil {
		return errors.New("the guest keeps a lab up, and takes no other job: another guest is needed for it")
	}
	job.Version = wire.Version
	s.jobs++
	name := fmt.Sprintf("job-%d.json", s.jobs)
	if err := s.put(name, job); err != nil {
		return fmt.Errorf("handing the job to the guest: %w", err)
	}
	c := of(name)
	if err := s.w.Command(c); err != nil {
		s.Close()
		return s.failed("took no job", err)
	}
	for {
		select {
		case e := <-s.events:
			switch {
			case e.Kind == wire.Hello:
				s.Close()
				return s.failed("said hello twice", nil)
			case e.Kind == wire.Up && c.Up == "":
				s.Close()
				return s.failed("keeps a lab up, which nobody asked for", nil)
			case e.Kind == wire.Done && e.Message == "" && c.Up != "":
				s.Close()
				return s.failed("said that it is done, and brought no lab up", nil)
			case e.Kind == wire.Done, e.Kind == wire.Up:
				_ = unix.Unlinkat(int(s.guest.dir.Fd()), name, 0)
				if e.Message != "" {
					return fmt.Errorf("in the guest: %s", e.Message)
				}
				return nil
			}
			emit(e)
		case <-s.over:
			s.Close()
			return s.failed("ended without its final record", s.err)
		case <-ctx.Done():
			s.Close()
			return s.failed("stopped", context.Cause(ctx))
		}
	}
}

// put writes the job into the work folder.
func (s *Session) put(name string, job wire.Job) error {
	data, err := json.Marshal(job)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(s.guest.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// failed tells a guest's end. The session must be closed.
func (s *Session) failed(what string, cause error) error {
	e := &GuestError{Kind: s.guest.kind, What: what, Rung: s.guest.rung, Console: s.guest.console.tail()}
	switch {
	case errors.Is(cause, os.ErrDeadlineExceeded) && s.kernel == "":
		e.What = "did not boot in time"
	case errors.Is(cause, os.ErrDeadlineExceeded), errors.Is(cause, line.ErrSilent):
		e.What = fmt.Sprintf("went silent: not a sign of life for %v", s.silence)
	case errors.Is(cause, errClosed), errors.Is(cause, os.ErrClosed), errors.Is(cause, net.ErrClosed):
		e.Err = errClosed
	case errors.Is(cause, io.EOF), errors.Is(cause, io.ErrUnexpectedEOF), errors.Is(cause, unix.ECONNRESET), errors.Is(cause, unix.EPIPE):
		// The line closed because the kernel ended; how says more.
	default:
		e.Err = cause
	}
	switch how := s.guest.how; {
	case how != "":
		e.What += " (" + how + ")"
	case errors.Is(cause, os.ErrClosed):
		e.What, e.Err = "its supervisor was killed", nil
	}
	if why := s.explain(s.guest.console.text()); why != "" {
		e.What += ": " + why
	}
	e.What = strings.TrimSuffix(e.What, ".")
	return e
}

// Close ends the guest at once and returns when nothing of it is left. It may
// be called at any time, more than once.
func (s *Session) Close() {
	s.closeOnce.Do(func() {
		close(s.closing)
		select {
		case <-s.over:
			// The kernel ended by itself: leave its supervisor the moment it
			// takes to say how.
			select {
			case <-s.guest.exited:
			case <-time.After(time.Second):
			}
		default:
		}
		s.guest.release()
		<-s.over
		s.guest.console.wait()
		close(s.closed)
	})
	<-s.closed
}
