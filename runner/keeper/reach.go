package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/topology/source"
)

// NotUpError means that no lab of the name is up.
type NotUpError struct {
	Name string
	// Up are those that are.
	Up []string
}

func (e *NotUpError) Error() string {
	if len(e.Up) == 0 {
		return fmt.Sprintf("lab %s is not up; no lab is (lvslab up %s brings it up)", e.Name, e.Name)
	}
	if near := source.Nearest(e.Name, e.Up); near != "" {
		return fmt.Sprintf("lab %s is not up; did you mean %q?", e.Name, near)
	}
	return fmt.Sprintf("lab %s is not up; up are: %s", e.Name, strings.Join(e.Up, ", "))
}

// DeadError means that a lab is no more, and that only its folder is left.
type DeadError struct{ Info live.Info }

func (e *DeadError) Error() string {
	return fmt.Sprintf("lab %s is dead: its keeper was killed, or the machine was started anew; clear it away: lvslab down %s", e.Info.Name, e.Info.Name)
}

// Connect reaches the lab of a name. ctx bounds the greeting. The error is a
// *NotUpError, *DeadError or *UpError (one that is just coming up) where that is
// the reason.
func Connect(ctx context.Context, env Env, name string) (*live.Client, live.Info, error) {
	f, ok := find(env, name)
	if !ok {
		return nil, live.Info{}, notUp(env, name)
	}
	return f.connect(ctx)
}

func notUp(env Env, name string) error {
	e := &NotUpError{Name: name}
	for _, f := range folders(env) {
		e.Up = append(e.Up, f.name)
	}
	return e
}

func (f *folder) connect(ctx context.Context) (*live.Client, live.Info, error) {
	info := f.info()
	if !f.alive() {
		return nil, info, &DeadError{info}
	}
	if info.Ready.IsZero() {
		return nil, info, &UpError{Info: info, Coming: true}
	}
	var c *live.Client
	conn, err := f.dial(ctx)
	if err == nil {
		c, err = live.Dial(ctx, conn)
	}
	switch {
	case err == nil:
		return c, info, nil
	case f.dies(ctx, err):
		return nil, info, &DeadError{info}
	}
	return nil, info, fmt.Errorf("reaching lab %s: %w (lvslab down %s ends it)", f.name, err, f.name)
}

// dyingWait is how long a process that was killed may take from closing its sockets
// to letting go of its lock: the last of its threads does that.
const dyingWait = 200 * time.Millisecond

// dies reports whether an error is that of a keeper that was killed while it was
// being asked.
func (f *folder) dies(ctx context.Context, err error) bool {
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, io.EOF) {
		return !f.alive()
	}
	ctx, cancel := context.WithTimeout(ctx, dyingWait)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for f.alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Entry is a lab in a list.
type Entry struct {
	Info live.Info
	// Err is why it cannot be reached, as Connect tells it.
	Err error
	// Status is how it is; nil where Err, or the lab's end, says why.
	Status *live.Status
}

// statusWait bounds the question how one lab is: a list must not wait for a
// guest that hangs.
const statusWait = 3 * time.Second

// List asks all labs how they are, all at once.
func List(ctx context.Context, env Env) []Entry {
	all := folders(env)
	list := make([]Entry, len(all))
	asked := make(chan struct{})
	for i := range all {
		go func() {
			list[i] = all[i].ask(ctx)
			asked <- struct{}{}
		}()
	}
	for range all {
		<-asked
	}
	return list
}

func (f *folder) ask(ctx context.Context) Entry {
	ctx, cancel := context.WithTimeoutCause(ctx, statusWait, fmt.Errorf("no answer within %s", statusWait))
	defer cancel()
	c, info, err := f.connect(ctx)
	if err != nil {
		return Entry{Info: info, Err: err}
	}
	defer c.Close()
	if now, err := c.Info(ctx); err == nil {
		info = *now
	}
	e := Entry{Info: info}
	if info.Dead == "" {
		e.Status, e.Err = c.Status(ctx)
	}
	return e
}

// Names are those of all labs that are up, or were when their keepers died.
func Names(env Env) []string {
	var names []string
	for _, f := range folders(env) {
		names = append(names, f.name)
	}
	return names
}

// downPatience is how long a keeper may take to end its lab before it is killed,
// which ends the lab as well.
const downPatience = 15 * time.Second

// Down takes the lab of a name down and returns when nothing of it is left,
// whatever state it is in.
func Down(ctx context.Context, env Env, name string) error {
	f, ok := find(env, name)
	if !ok {
		return notUp(env, name)
	}
	var told error
	if f.alive() {
		asking, cancel := context.WithTimeout(ctx, downPatience)
		told = f.askDown(asking)
		cancel()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := f.clearAway(ctx); err != nil {
		return fmt.Errorf("taking lab %s down: %w", name, errors.Join(told, err))
	}
	return nil
}

// askDown asks the keeper. One that cannot be asked is killed.
func (f *folder) askDown(ctx context.Context) error {
	greeting, cancel := context.WithTimeoutCause(ctx, statusWait, fmt.Errorf("no answer within %s", statusWait))
	c, info, err := f.connect(greeting)
	cancel()
	if err == nil {
		err = c.Down(ctx)
		_ = c.Close()
	}
	var coming *UpError
	if errors.As(err, &coming) {
		// It listens to nothing yet; the signal has it end what it has begun.
		return signalKeeper(info.Pid, unix.SIGTERM)
	}
	if err != nil {
		return errors.Join(err, signalKeeper(info.Pid, unix.SIGKILL))
	}
	return nil
}

// clearAway waits for the lock and removes the folder. A keeper that still holds
// it after downPatience is killed.
func (f *folder) clearAway(ctx context.Context) error {
	killAt := time.Now().Add(downPatience)
	ctx, cancel := context.WithTimeoutCause(ctx, 2*downPatience, errors.New("its keeper does not end"))
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(f.path); errors.Is(err, os.ErrNotExist) {
			return nil // the keeper did it
		}
		err := f.take()
		if err == nil {
			return f.remove()
		}
		if !errors.Is(err, errHeld) {
			return err
		}
		if time.Now().After(killAt) {
			killAt = killAt.Add(time.Hour)
			if err := signalKeeper(f.info().Pid, unix.SIGKILL); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signalKeeper signals a process if it is a keeper: numbers are used again.
func signalKeeper(pid int, s unix.Signal) error {
	if pid <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// It is the process of the descriptor if it lives after this was read.
	line, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
	if err != nil || !isKeeper(line) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending the keeper, process %d: %w", pid, err)
	}
	return nil
}

// isKeeper reports whether a command line (proc_pid_cmdline(5)) is a keeper's.
func isKeeper(line []byte) bool {
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	return len(args) == 2 && args[1] == argument
}

// Log is what the keeper of a lab wrote, for when it cannot be asked any more.
func Log(env Env, name string) ([]byte, error) {
	f, ok := find(env, name)
	if !ok {
		return nil, notUp(env, name)
	}
	return os.ReadFile(filepath.Join(f.path, logFile))
}
