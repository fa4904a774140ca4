package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/lvslab/lvslab/runner/line"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// up brings a lab up and tells the host, with the last line of all.
func (s *servant) up(ctx context.Context, c wire.Command) (live.Lab, error) {
	if s.jobs.Up == nil {
		return nil, errors.New("this guest keeps no lab up")
	}
	job, err := s.job(c.Up)
	if err != nil {
		return nil, err
	}
	lab, err := s.jobs.Up(ctx, job, s.load)
	if err != nil {
		return nil, err
	}
	if s.autoload != nil {
		if err := s.autoload(); err != nil {
			return nil, err
		}
	}
	return lab, s.w.Last(wire.Event{Kind: wire.Up})
}

// keep serves a lab over the line until that ends. The lab ends with the guest,
// which is off in a moment. behind is closed when somebody else reads the line
// no more.
func (s *servant) keep(ctx context.Context, lab live.Lab, behind <-chan struct{}) {
	f := frames{File: s.line, rest: s.r.Rest(), behind: behind, writing: new(atomic.Bool)}
	conn := line.New(f, line.Options{Send: line.ToHost, Receive: line.ToGuest, Beat: Beat})
	go f.nudge(conn.Done())
	go func() {
		if err := live.Serve(ctx, conn, lab, nil); err != nil {
			fmt.Fprintf(os.Stderr, "lvslab guest: serving the lab: %v\n", err)
		}
	}()
	<-conn.Done()
	s.ended <- conn.Err()
}

// frames is the line behind its last command.
type frames struct {
	*os.File
	rest   io.Reader
	behind <-chan struct{}
	// writing says that somebody writes.
	writing *atomic.Bool
}

// stalled is after which time a write is tried again: the serial line of
// User-Mode Linux was seen to stand still with room in it, when it is flooded.
const stalled = 250 * time.Millisecond

// Write implements io.Writer, for one caller at a time.
func (f frames) Write(p []byte) (int, error) {
	f.writing.Store(true)
	defer f.writing.Store(false)
	done := 0
	for {
		n, err := f.File.Write(p[done:])
		if done += n; !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
		if err := f.SetWriteDeadline(time.Time{}); err != nil {
			return done, err
		}
	}
}

// nudge interrupts writes that take long, until the line ends. A deadline of each
// write's own would cost it as much as the write.
func (f frames) nudge(ended <-chan struct{}) {
	tick := time.NewTicker(stalled)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if f.writing.Load() {
				_ = f.SetWriteDeadline(time.Unix(1, 0)) // the line may have ended
			}
		case <-ended:
			return
		}
	}
}

func (f frames) Read(p []byte) (int, error) {
	<-f.behind
	return f.rest.Read(p)
}
