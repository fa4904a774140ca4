package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DeniedError says that a rung cannot be had here, so that the next may be
// tried.
type DeniedError struct {
	Rung Rung
	Why  string
}

func (e *DeniedError) Error() string { return fmt.Sprintf("rung %s: %s", e.Rung, e.Why) }

// guest is a supervisor with all that it holds on this side.
type guest struct {
	kind    string
	rung    Rung
	cmd     *exec.Cmd
	line    *os.File
	control *net.UnixConn
	console *ring
	// dir is the work folder, in whatever namespace it lies; work is its path
	// there.
	dir  *os.File
	work string
	cpu  *slot

	// exited is closed when the supervisor is gone and all of the guest with
	// it; how is then what it said about the kernel's end.
	exited chan struct{}
	how    string
	// group is the kernel's process group on Bare.
	group int
	// heard is closed when the last of the supervisor's words was read; nil
	// before listen.
	heard chan struct{}
}

// launch starts a supervisor on one rung and returns when it has what it
// needs. Failing for a reason that another rung may not have is a
// *DeniedError.
func launch(ctx context.Context, c Spec, rung Rung) (_ *guest, err error) {
	g := &guest{kind: c.Kind, rung: rung, console: newRing(consoleKept), exited: make(chan struct{})}
	defer func() {
		if err != nil {
			g.release()
		}
	}()
	o := order{
		Rung: rung, Program: c.Program, Args: c.Args, Env: c.Env, Self: c.Self, Modules: c.Modules,
		Needed: c.Needed, Room: c.Room, CPU: -1, SameAddresses: c.SameAddresses, Files: len(c.Files), Devices: c.Devices,
	}
	if rung == Bare {
		o.Places = places(c.WorkDir)
	}
	if c.Pin {
		if g.cpu, err = takeCPU(); err != nil {
			logf(c.Log, "guest: not pinned to a CPU, about three times slower: %v", err)
		} else {
			o.CPU = g.cpu.cpu
		}
	}
	line, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	g.line = line[0]
	defer line[1].Close()
	widen(line[1])
	control, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer control[1].Close()
	conn, err := net.FileConn(control[0])
	_ = control[0].Close()
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	g.control = conn.(*net.UnixConn)
	consoleR, consoleW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer consoleW.Close()

	arg, err := json.Marshal(o)
	if err != nil {
		consoleR.Close()
		return nil, err
	}
	g.cmd = exec.Command(c.Self, launchArg, string(arg))
	g.cmd.Dir = "/"
	g.cmd.Env = []string{"PATH=/usr/bin:/bin"}
	g.cmd.Stdout, g.cmd.Stderr = consoleW, consoleW
	g.cmd.ExtraFiles = append([]*os.File{control[1], line[1]}, c.Files...)
	g.cmd.SysProcAttr = attributes(rung)
	if err := g.start(); err != nil {
		consoleR.Close()
		g.cmd = nil
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EUSERS) {
			return nil, &DeniedError{rung, whyDenied(rung, err)}
		}
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	_ = control[1].Close()
	go g.console.fill(consoleR)
	if err := g.ready(ctx, c.Log); err != nil {
		return nil, err
	}
	return g, nil
}

// whyDenied says what clone(2) means by an error where namespaces are asked for.
func whyDenied(rung Rung, err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return "no more namespaces: the limits in /proc/sys/user (max_user_namespaces and the like) are reached, or set to 0"
	case errors.Is(err, unix.EPERM) && rung == Root:
		return "needs root (CAP_SYS_ADMIN)"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "user namespaces are denied to this user (by AppArmor, a container's seccomp profile, or kernel.unprivileged_userns_clone=0)"
	}
	return err.Error()
}

// attributes are what makes the rung.
func attributes(rung Rung) *syscall.SysProcAttr {
	// A session of its own: a Ctrl-C at the terminal is lvslab's to handle.
	a := &syscall.SysProcAttr{Setsid: true}
	switch rung {
	case UserNS:
		a.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		a.Pdeathsig = unix.SIGKILL
	case Root:
		a.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
		a.Pdeathsig = unix.SIGKILL
	}
	return a
}

// start starts the supervisor from a thread that lives as long as it does:
// Pdeathsig counts from the thread that forked.
func (g *guest) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := g.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = g.cmd.Wait()
		close(g.exited)
	}()
	return <-started
}

// ready waits for the supervisor's first words.
func (g *guest) ready(ctx context.Context, log io.Writer) error {
	stop := context.AfterFunc(ctx, func() { _ = g.control.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := g.control.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for {
		r, dir, err := g.receive()
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			g.kill()
			<-g.exited
			return &GuestError{Kind: g.kind, What: "its supervisor gave up (does the program call guest.Main first thing?)", Rung: g.rung, Console: g.console.tail(), Err: err}
		case r.Note != "":
			logf(log, "guest on rung %s: %s", g.rung, r.Note)
		case r.Denied != "":
			return &DeniedError{g.rung, r.Denied}
		case r.Ready && dir != nil:
			g.dir, g.work = dir, r.Work
			return g.control.SetReadDeadline(time.Time{})
		}
	}
}

// receive reads one report. It comes with a file when it says Ready.
func (g *guest) receive() (report, *os.File, error) {
	buf := make([]byte, 16<<10)
	rights := make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := g.control.ReadMsgUnix(buf, rights)
	if err != nil {
		return report{}, nil, err
	}
	if n == 0 {
		return report{}, nil, io.EOF
	}
	var dir *os.File
	if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil {
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				dir = os.NewFile(uintptr(fd), "work")
			}
		}
	}
	var r report
	if err := json.Unmarshal(buf[:n], &r); err != nil {
		return report{}, nil, fmt.Errorf("supervisor: %w", err)
	}
	return r, dir, nil
}

// listen reads what the supervisor says until it is gone.
func (g *guest) listen() {
	defer close(g.heard)
	for {
		r, _, err := g.receive()
		if err != nil {
			break
		}
		switch {
		case r.Exited != "":
			g.how = r.Exited
		case r.Failed != "":
			g.how = r.Failed
		case r.Started > 0 && g.rung == Bare:
			g.group = r.Started
		}
	}
}

// kill ends all of the guest at once.
func (g *guest) kill() {
	if g.cmd == nil {
		return
	}
	if g.rung != Bare {
		_ = g.cmd.Process.Kill()
		return
	}
	// The supervisor kills what has no namespace to end with, and ends itself.
	_ = g.control.Close()
	_ = g.line.Close()
	go func() {
		select {
		case <-g.exited:
		case <-time.After(patience):
			_ = g.cmd.Process.Kill()
		}
	}()
}

// release ends the guest, waits until it is gone, and lets go of everything.
func (g *guest) release() {
	if g.cmd != nil {
		g.kill()
		<-g.exited
	}
	if g.heard != nil {
		<-g.heard
	}
	if g.rung == Bare && g.how == "" && g.group > 0 {
		// Somebody killed the supervisor, which would have done this.
		_ = unix.Kill(-g.group, unix.SIGKILL)
	}
	// Closing what was never opened, or is closed, is an error to be ignored.
	_ = g.line.Close()
	_ = g.dir.Close()
	if g.control != nil {
		_ = g.control.Close()
	}
	if g.cpu != nil {
		g.cpu.release()
	}
}

// lineBytes is what may wait between a guest and who reads it, in bytes: each time
// that a guest waits for room costs it a turn.
const lineBytes = 4 << 20

// widen gives a socket room for what is written to it. Only root gets more than
// net.core.wmem_max, socket(7).
func widen(f *os.File) {
	if err := unix.SetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, lineBytes); err != nil {
		_ = unix.SetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF, lineBytes)
	}
}

// pair is a pair of connected sockets, of which the first does not block.
func pair(kind int) ([2]*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return [2]*os.File{}, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return [2]*os.File{}, fmt.Errorf("socketpair: %w", err)
	}
	return [2]*os.File{os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")}, nil
}

func logf(w io.Writer, format string, args ...any) {
	if w != nil {
		fmt.Fprintf(w, format+"\n", args...)
	}
}
