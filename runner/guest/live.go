package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
	conn := line.New(frames{File: s.line, rest: s.r.Rest(), behind: behind}, line.Options{
		Send: line.ToHost, Receive: line.ToGuest, Beat: Beat,
	})
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
}

func (f frames) Read(p []byte) (int, error) {
	<-f.behind
	return f.rest.Read(p)
}
