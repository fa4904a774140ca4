package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// Beat is how often a guest shows that it is alive.
const Beat = 2 * time.Second

// boot is the life of PID 1. It never returns.
func boot(jobs Jobs) {
	// Started by hand on a real machine, it would power that off: both the
	// process number and the kernel's own command line must say otherwise.
	if os.Getpid() != 1 || len(os.Args) < 3 {
		fmt.Fprintf(os.Stderr, "%s is for lvslab's own use inside a guest\n", wire.InitArg)
		os.Exit(2)
	}
	err := enterRoot()
	var dir *work
	if err == nil {
		dir, err = openWork(os.Args[2])
	}
	if err == nil {
		err = mountProc()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lvslab guest: %v\n", err)
		os.Exit(2)
	}
	// From here on this is a guest without doubt.
	if err := serve(jobs, dir); err != nil {
		fmt.Fprintf(os.Stderr, "lvslab guest: %v\n", err)
	}
	powerOff()
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1) // the kernel panics, which ends the guest as well
}

// serve returns when the guest has nothing more to do.
func serve(jobs Jobs, dir *work) error {
	if err := mountAll(); err != nil {
		return err
	}
	tune()
	line, err := openHost()
	if err != nil {
		return err
	}
	modules := newLoader(dir.modules)
	s, err := newServant(line, jobs, dir, modules.load)
	if err != nil {
		return err
	}
	s.autoload = modules.autoload
	go func() {
		err := s.obey()
		if !errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "lvslab guest: %v\n", err)
		}
		powerOff()
	}()
	reap()
	return nil
}

// newServant says hello, and goes on showing that this process is alive.
func newServant(line *os.File, jobs Jobs, dir *work, load func(modules ...string) error) (*servant, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	w := wire.NewWriter(line)
	if err := w.Event(wire.Event{Kind: wire.Hello, Kernel: string(bytes.TrimRight(uts.Release[:], "\x00"))}); err != nil {
		return nil, fmt.Errorf("saying hello: %w", err)
	}
	go func() {
		for range time.Tick(Beat) {
			if errors.Is(w.Beat(), wire.ErrOver) {
				return
			}
		}
	}()
	return &servant{
		jobs: jobs, dir: dir, load: load,
		line: line, r: wire.NewReader(line), w: w, ended: make(chan error, 1),
	}, nil
}

// servant carries out the host's commands.
type servant struct {
	jobs Jobs
	dir  *work
	load func(modules ...string) error
	// autoload lets the kernel load modules by itself; nil where it is not to.
	autoload func() error
	line     *os.File
	r        *wire.Reader
	w        *wire.Writer
	// ended takes why there are no more commands.
	ended chan error
}

// order is a command on its way.
type order struct {
	wire.Command
	// behind is closed when something has come behind the command, or its end.
	behind chan struct{}
	// handed says whether the line is the lab's from now on.
	handed chan bool
}

// obey carries out commands, one after the other, until the host closes the
// line; it then returns at once, whatever is running.
func (s *servant) obey() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	orders := make(chan order)
	go s.read(orders)
	go func() {
		for o := range orders {
			var err error
			if o.Up != "" {
				var lab live.Lab
				lab, err = s.up(ctx, o.Command)
				o.handed <- err == nil
				if err == nil {
					s.keep(ctx, lab, o.behind)
					return
				}
			} else {
				err = s.run(ctx, o.Command)
			}
			done := wire.Event{Kind: wire.Done}
			if err != nil {
				done.Verdict, done.Message = wire.Broken, err.Error()
			}
			if err := s.w.Event(done); err != nil {
				fmt.Fprintf(os.Stderr, "lvslab guest: final record: %v\n", err)
			}
		}
	}()
	return <-s.ended
}

// read reads commands while there are any. That the host closes the line is
// noticed at any time.
func (s *servant) read(orders chan<- order) {
	for {
		c, err := s.r.Command()
		if err != nil {
			s.ended <- err
			return
		}
		o := order{Command: c, behind: make(chan struct{}), handed: make(chan bool, 1)}
		orders <- o
		if c.Up == "" {
			continue
		}
		// What comes next may be frames, which are not for this reader.
		if err := s.r.Wait(); err != nil {
			s.ended <- err
			return
		}
		close(o.behind)
		if <-o.handed {
			return
		}
	}
}

// job reads the file of a job.
func (s *servant) job(name string) (wire.Job, error) {
	var job wire.Job
	data, err := s.dir.read(name)
	if err == nil {
		err = json.Unmarshal(data, &job)
	}
	if err != nil {
		return job, fmt.Errorf("reading the job: %w", err)
	}
	return job, wire.CheckVersion("job", job.Version)
}

func (s *servant) run(ctx context.Context, c wire.Command) error {
	if s.jobs.Run == nil {
		return errors.New("this guest runs no jobs")
	}
	job, err := s.job(c.Run)
	if err != nil {
		return err
	}
	emit := func(e wire.Event) {
		err := s.w.Event(e)
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "lvslab guest: event %s: %v\n", e.Kind, err)
		if errors.Is(err, wire.ErrTooLong) {
			// The host must not take a lost event for one that never was.
			_ = s.w.Event(wire.Event{Kind: wire.Log, Lab: e.Lab, Verdict: wire.Broken, Message: fmt.Sprintf("an event %q was lost: %v", e.Kind, err)})
		}
	}
	return s.jobs.Run(ctx, job, s.load, emit)
}
