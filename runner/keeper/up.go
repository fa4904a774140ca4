package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// Request says which lab to bring up, and where.
type Request struct {
	// Name is what the lab is called while it is up.
	Name string
	// File is where its file is, for people.
	File string
	// Backend is the kernel's name.
	Backend string
	// Job holds the one lab.
	Job wire.Job
}

// UpError means that a lab of the name is up already.
type UpError struct {
	Info live.Info
	// Coming means that it is not ready yet.
	Coming bool
}

func (e *UpError) Error() string {
	if e.Coming {
		return fmt.Sprintf("lab %s is just coming up", e.Info.Name)
	}
	return fmt.Sprintf("lab %s is up already, since %s", e.Info.Name, e.Info.Ready.Local().Format(time.DateTime))
}

// Up starts a keeper and returns when its lab is ready. What is left of a lab of
// the same name whose keeper was killed is cleared away. When ctx ends before,
// nothing stays.
func Up(ctx context.Context, env Env, q Request) (live.Info, error) {
	if f, ok := find(env, q.Name); ok && f.alive() {
		return live.Info{}, upError(f)
	}
	root, err := makeRoot(env)
	if err != nil {
		return live.Info{}, err
	}
	f := folder{name: q.Name, path: filepath.Join(root, folderName(q.Name))}
	if err := f.take(); err != nil {
		if errors.Is(err, errHeld) {
			return live.Info{}, upError(f)
		}
		return live.Info{}, fmt.Errorf("making the lab's folder %s: %w", f.path, err)
	}
	defer f.lock.Close()
	if err := f.clear(); err != nil {
		return live.Info{}, err
	}
	o := order{Folder: f.path, Job: q.Job, Info: live.Info{
		Version: wire.Version, Name: q.Name, File: q.File, Lab: q.Job.Labs[0], Backend: q.Backend, Started: time.Now().UTC(),
	}}
	info, err := f.spawn(ctx, o)
	if err != nil && ctx.Err() != nil {
		return live.Info{}, context.Cause(ctx)
	}
	return info, err
}

func upError(f folder) error {
	i := f.info()
	return &UpError{Info: i, Coming: i.Ready.IsZero()}
}

// spawn starts the keeper and waits for its word. The lock goes to it.
func (f *folder) spawn(ctx context.Context, o order) (live.Info, error) {
	self, err := os.Executable()
	if err != nil {
		return live.Info{}, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return live.Info{}, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	ours := os.NewFile(uintptr(fds[0]), "ours")
	tell, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return live.Info{}, err
	}
	defer tell.Close()
	log, err := os.OpenFile(filepath.Join(f.path, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return live.Info{}, err
	}
	defer log.Close()
	cmd := exec.Command(self, argument)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, f.lock}
	// Neither the terminal's Ctrl-C nor its end is the lab's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return live.Info{}, fmt.Errorf("starting the lab's keeper: %w", err)
	}
	_ = theirs.Close()
	stop := context.AfterFunc(ctx, func() {
		// The keeper sees it and takes down what it has built; its end closes the
		// other side.
		_ = tell.(*net.UnixConn).CloseWrite()
	})
	defer stop()
	if err := json.NewEncoder(tell).Encode(o); err != nil {
		return live.Info{}, f.stillborn(cmd, err)
	}
	var w word
	if err := json.NewDecoder(tell).Decode(&w); err != nil {
		return live.Info{}, f.stillborn(cmd, err)
	}
	if w.Info == nil {
		_ = cmd.Wait() // it has said why it ends
		return live.Info{}, errors.New(w.Error)
	}
	return *w.Info, cmd.Process.Release()
}

// stillborn tells of a keeper that ended without a word.
func (f *folder) stillborn(cmd *exec.Cmd, err error) error {
	how := cmd.Wait()
	said, _ := os.ReadFile(filepath.Join(f.path, logFile))
	_ = os.RemoveAll(f.path)
	if errors.Is(err, io.EOF) {
		err = how
	}
	return fmt.Errorf("the lab's keeper ended before the lab was up: %w\n%s", err, strings.TrimSpace(string(said)))
}
