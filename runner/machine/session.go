package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

	running sync.Mutex // held by Run
	jobs    int
	events  chan wire.Event
	// over is closed when no event will come any more; err is then why.
	over chan struct{}
	err  error

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
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	g.heard = make(chan struct{})
	go g.listen()
	go s.follow()
	go s.read(c.BootTimeout)
	select {
	case e := <-s.events:
		if e.Kind != wire.Hello {
			s.Close()
			return nil, s.failed(fmt.Sprintf("its first word was %q, not %q", e.Kind, wire.Hello), nil)
		}
		s.kernel = e.Kernel
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

// Kernel is the release of the guest's kernel.
func (s *Session) Kernel() string { return s.kernel }

// Rung is the isolation that the guest has.
func (s *Session) Rung() Rung { return s.guest.rung }

// read passes the guest's events on, until there are no more.
func (s *Session) read(first time.Duration) {
	defer close(s.over)
	r := wire.NewReader(&line{f: s.guest.line, first: time.Now().Add(first), silence: s.silence})
	for {
		e, err := r.Event()
		if err != nil {
			s.err = err
			return
		}
		select {
		case s.events <- e:
		case <-s.closing:
			s.err = errClosed
			return
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

// line is the guest's line with a deadline on every read.
type line struct {
	f *os.File
	// first is the deadline of everything before the first byte.
	first   time.Time
	silence time.Duration
}

func (l *line) Read(p []byte) (int, error) {
	deadline := l.first
	if deadline.IsZero() {
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
	select {
	case <-s.closed:
		return s.failed("is gone", s.err)
	default:
	}
	job.Version = wire.Version
	s.jobs++
	name := fmt.Sprintf("job-%d.json", s.jobs)
	if err := s.put(name, job); err != nil {
		return fmt.Errorf("handing the job to the guest: %w", err)
	}
	if err := s.w.Command(wire.Command{Run: name}); err != nil {
		s.Close()
		return s.failed("took no job", err)
	}
	for {
		select {
		case e := <-s.events:
			switch e.Kind {
			case wire.Hello:
				s.Close()
				return s.failed("said hello twice", nil)
			case wire.Done:
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
	case errors.Is(cause, os.ErrDeadlineExceeded):
		e.What = fmt.Sprintf("went silent: not a sign of life for %v", s.silence)
	case errors.Is(cause, errClosed), errors.Is(cause, os.ErrClosed):
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
