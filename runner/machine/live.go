package machine

import (
	"context"
	"io"
	"os"

	"github.com/lvslab/lvslab/runner/line"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// Up has the guest bring up the one lab of a job and returns it when it is
// ready. ctx bounds that, and not the lab's life: the lab ends with the session,
// and to close the client ends the guest. From then on Run and Up are refused.
// An error of the lab itself leaves the session usable; every other ends it and
// is a *GuestError, with the cause of ctx inside when ctx ended.
func (s *Session) Up(ctx context.Context, job wire.Job) (*live.Client, error) {
	s.running.Lock()
	defer s.running.Unlock()
	up := func(file string) wire.Command { return wire.Command{Up: file} }
	if err := s.command(ctx, job, up, func(wire.Event) {}); err != nil {
		return nil, err
	}
	client, err := live.Dial(ctx, s.conn)
	if err == nil {
		return client, nil
	}
	if why := s.conn.Err(); ctx.Err() == nil && why != nil {
		err = why // the line ended, and with it the greeting
	}
	s.Close()
	return nil, s.failed("brought the lab up and could not be talked with", err)
}

// hand turns the guest's line, behind what r has read of it, into one of frames.
// Nothing else reads or writes it from now on.
func (s *Session) hand(timed *timedLine, r *wire.Reader) {
	timed.silence = 0 // the frames have their own
	s.conn = line.New(frames{File: s.guest.line, rest: r.Rest()}, line.Options{
		Send: line.ToGuest, Receive: line.ToHost, Silence: s.silence,
	})
}

// frames is the guest's line behind its last event.
type frames struct {
	*os.File
	rest io.Reader
}

func (f frames) Read(p []byte) (int, error) { return f.rest.Read(p) }

// end waits for the guest's end, leaves nothing of it, and keeps what there is
// to tell.
func (s *Session) end() {
	<-s.over
	s.Close()
	s.fate = s.failed("ended", s.err)
	close(s.ended)
}

// Ended is closed when the guest has ended, for whatever reason, or has gone
// silent, and nothing of it is left.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Err is how the guest ended, a *GuestError, once Ended is closed; nil before.
func (s *Session) Err() error {
	select {
	case <-s.ended:
		return s.fate
	default:
		return nil
	}
}

// Console is the end of what the guest's console has shown so far.
func (s *Session) Console() string { return s.guest.console.tail() }
