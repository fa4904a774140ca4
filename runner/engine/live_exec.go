package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/node"
)

// Exit statuses of a shell for a program that could not be run (POSIX, 2.8.2).
const (
	exitNotFound      = 127
	exitNotExecutable = 126
)

// Exec implements live.Lab. Networks are nodes too: what runs in one sees the
// bridge and its ports.
func (l *Live) Exec(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	n, err := l.running(e.Node)
	if err != nil {
		return live.Exit{}, err
	}
	switch {
	case len(e.Args) > 0:
	case e.TTY:
		e.Args = node.Shell(n.files, n.name)
	default:
		e.Args = []string{"/bin/sh"} // which reads its commands, as ssh's does
	}
	p, err := node.Start(n.files, node.Program{Args: e.Args, TTY: e.TTY, Term: e.Term, Rows: e.Size.Rows, Cols: e.Size.Cols})
	var none *node.NotFoundError
	var not *node.NotExecutableError
	switch {
	case errors.As(err, &none):
		return l.refused(s, none, exitNotFound)
	case errors.As(err, &not):
		return l.refused(s, not, exitNotExecutable)
	case err != nil:
		return live.Exit{}, err
	}
	defer p.Close()
	return attend(ctx, p, e.TTY, s)
}

// refused tells what a shell would on the program's standard error.
func (l *Live) refused(s live.Streams, why error, code int) (live.Exit, error) {
	if s.Stderr != nil {
		fmt.Fprintf(s.Stderr, "lvslab: %v\n", why)
	}
	return live.Exit{Code: code}, nil
}

// running finds a node that runs.
func (l *Live) running(name string) (*liveNode, error) {
	n, err := l.world.live(name)
	if err == nil {
		return n, nil
	}
	lab, _, faults := l.state()
	if slices.ContainsFunc(faults, func(b live.Broken) bool { return b.Kind == live.Stop && b.Node == name }) {
		return nil, fmt.Errorf("node %s is switched off (lvslab fault stop); lvslab heal switches it on", name)
	}
	return nil, unknownNode(name, lab)
}

// What is passed on at once of a program's output, in bytes, at first and when it
// writes much: what is passed on in few words needs few turns.
const (
	copyLeast = 16 << 10
	copyMost  = 1 << 20
)

// passOn copies until r ends.
func passOn(w io.Writer, r io.Reader) error {
	buf := make([]byte, copyLeast)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case n == len(buf) && n < copyMost:
			buf = make([]byte, 2*n)
		}
	}
}

// attend passes on what goes into a program and comes out of it, until it ends.
func attend(ctx context.Context, p *node.Process, tty bool, s live.Streams) (live.Exit, error) {
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case size := <-s.Resize:
				_ = p.Resize(size.Rows, size.Cols)
			case name := <-s.Signals:
				if sig := unix.SignalNum("SIG" + name); sig != 0 {
					_ = p.Signal(sig) // it may have ended
				}
			case <-ctx.Done():
				// Who looked at a terminal has gone: the kernel sends SIGHUP, and
				// what expects that stays.
				if !tty {
					p.Kill()
				}
				p.Close()
				return
			case <-over:
				return
			}
		}
	}()
	go func() {
		if s.Stdin != nil {
			_, _ = io.Copy(p.Stdin, s.Stdin)
		}
		_ = p.Stdin.Close()
	}()
	var wg sync.WaitGroup
	var failed [2]error
	pass := func(i int, w io.Writer, r io.Reader) {
		if r == nil {
			return
		}
		if w == nil {
			w = io.Discard
		}
		wg.Go(func() {
			if err := passOn(w, r); err != nil && ctx.Err() == nil {
				failed[i] = err
				p.Close() // as SIGPIPE would
			}
		})
	}
	pass(0, s.Stdout, p.Stdout)
	pass(1, s.Stderr, p.Stderr)
	ended, err := p.Wait()
	wg.Wait()
	if ctx.Err() != nil {
		return live.Exit{}, context.Cause(ctx)
	}
	if err == nil {
		err = errors.Join(failed[0], failed[1])
	}
	return live.Exit{Code: ended.Code, Signal: ended.Signal}, err
}
