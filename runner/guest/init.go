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

	"github.com/lvslab/lvslab/runner/wire"
)

// Beat is how often a guest shows that it is alive.
const Beat = 2 * time.Second

// boot is the life of PID 1. It never returns.
func boot(run Run) {
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
	if err := serve(run, dir); err != nil {
		fmt.Fprintf(os.Stderr, "lvslab guest: %v\n", err)
	}
	powerOff()
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1) // the kernel panics, which ends the guest as well
}

// serve returns when the guest has nothing more to do.
func serve(run Run, dir *work) error {
	if err := mountAll(); err != nil {
		return err
	}
	tune()
	line, err := openHost()
	if err != nil {
		return err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	w := wire.NewWriter(line)
	if err := w.Event(wire.Event{Kind: wire.Hello, Kernel: string(bytes.TrimRight(uts.Release[:], "\x00"))}); err != nil {
		return fmt.Errorf("saying hello: %w", err)
	}
	go func() {
		for range time.Tick(Beat) {
			_ = w.Beat()
		}
	}()

	go func() {
		err := obey(run, dir, wire.NewReader(line), w)
		if !errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "lvslab guest: %v\n", err)
		}
		powerOff()
	}()
	reap()
	return nil
}

// obey carries out commands, one after the other, until the host closes the
// line; it then returns at once, whatever is running.
func obey(run Run, dir *work, r *wire.Reader, w *wire.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	commands := make(chan wire.Command)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := r.Command()
			if err != nil {
				ended <- err
				return
			}
			commands <- c
		}
	}()
	load := newLoader(dir.modules).load
	go func() {
		for c := range commands {
			done := wire.Event{Kind: wire.Done}
			if err := carryOut(ctx, run, dir, c, load, w); err != nil {
				done.Verdict, done.Message = wire.Broken, err.Error()
			}
			if err := w.Event(done); err != nil {
				fmt.Fprintf(os.Stderr, "lvslab guest: final record: %v\n", err)
			}
		}
	}()
	return <-ended
}

func carryOut(ctx context.Context, run Run, dir *work, c wire.Command, load func(...string) error, w *wire.Writer) error {
	data, err := dir.read(c.Run)
	if err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	var job wire.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	if err := wire.CheckVersion("job", job.Version); err != nil {
		return err
	}
	emit := func(e wire.Event) {
		err := w.Event(e)
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "lvslab guest: event %s: %v\n", e.Kind, err)
		if errors.Is(err, wire.ErrTooLong) {
			// The host must not take a lost event for one that never was.
			_ = w.Event(wire.Event{Kind: wire.Log, Lab: e.Lab, Verdict: wire.Broken, Message: fmt.Sprintf("an event %q was lost: %v", e.Kind, err)})
		}
	}
	return run(ctx, job, load, emit)
}
