package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

// supervise is the life of a supervisor: PID 1 of the guest's PID namespace
// where there is one. It returns its exit status.
func supervise(o order) int {
	// Everything that is set for one thread is inherited by what this thread
	// forks.
	runtime.LockOSThread()
	// Caught, not ignored: the kernel below would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	unix.CloseOnExec(controlFd)
	unix.CloseOnExec(lineFd)
	for i := range o.Files {
		unix.CloseOnExec(firstFileFd + i)
	}
	// What it makes is its own to use, whatever the caller's mask.
	unix.Umask(0o077)
	s := &supervisor{order: o}
	// The caller's end closes when it dies, by whatever means.
	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned)
		var b [1]byte
		for {
			n, err := unix.Read(controlFd, b[:])
			if n == 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
				return
			}
		}
	}()
	return s.run(orphaned)
}

type supervisor struct {
	order
	work string
}

func (s *supervisor) say(r report, fds ...int) {
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = unix.Sendmsg(controlFd, b, rights, nil, unix.MSG_NOSIGNAL)
}

func (s *supervisor) run(orphaned <-chan struct{}) int {
	if s.Rung == Bare {
		folder, err := makeFolder(s.Places, s.Room)
		if err != nil {
			s.say(report{Denied: err.Error()})
			return 1
		}
		s.work = folder.Path
		defer remover(folder)()
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	} else {
		work, notes, err := isolate(s.Room, append([]string{s.Self, s.Program, s.Modules}, s.Needed...)...)
		for _, n := range notes {
			s.say(report{Note: n})
		}
		if err != nil {
			s.say(report{Denied: err.Error()})
			return 1
		}
		s.work = work
	}
	cmd, err := s.prepare()
	if err != nil {
		s.say(report{Denied: err.Error()})
		return 1
	}
	dir, err := unix.Open(s.work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.say(report{Denied: fmt.Sprintf("opening %s: %v", s.work, err)})
		return 1
	}
	if s.Rung == Bare {
		// Only this thread is confined, and the kernel that it forks; the
		// others clean up.
		if err := confine(s.work, s.Devices...); err != nil {
			s.say(report{Note: fmt.Sprintf("nothing but its own care keeps the guest's kernel from writing this machine's files: %v", err)})
		}
	}
	s.say(report{Ready: true, Work: s.work}, dir)
	_ = unix.Close(dir)
	if err := cmd.Start(); err != nil {
		s.say(report{Failed: fmt.Sprintf("starting %s: %v", s.Program, err)})
		return 1
	}
	_ = unix.Close(lineFd)
	s.say(report{Started: cmd.Process.Pid})
	ended := make(chan string, 1)
	go func() { ended <- wait(cmd.Process.Pid) }()
	select {
	case how := <-ended:
		s.say(report{Exited: how})
	case <-orphaned:
	}
	if s.Rung == Bare {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		killChildren()
	}
	return 0
}

// prepare fills the work folder and makes the command that starts the kernel.
func (s *supervisor) prepare() (*exec.Cmd, error) {
	for name, target := range map[string]string{"init": s.Self, "modules": s.Modules} {
		if target == "" {
			continue // a machine that loads none
		}
		if err := os.Symlink(target, filepath.Join(s.work, name)); err != nil {
			return nil, fmt.Errorf("filling the work folder: %w", err)
		}
	}
	if s.CPU >= 0 {
		var set unix.CPUSet
		set.Set(s.CPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			s.say(report{Note: fmt.Sprintf("pinning to CPU %d: %v (the guest will be about three times slower)", s.CPU, err)})
		}
	}
	if s.SameAddresses {
		// personality(2): ADDR_NO_RANDOMIZE is what setarch -R sets. A seccomp
		// profile may deny it; the kernel boots all the same.
		const addrNoRandomize = 0x0040000
		_, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, addrNoRandomize, 0, 0)
	}
	// No core files; 1 keeps a crash from the machine's core_pattern program too,
	// which is run for any other limit (kernel: fs/coredump.c).
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})

	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = strings.ReplaceAll(a, Work, s.work)
	}
	cmd := exec.Command(s.Program, args...)
	cmd.Env = append([]string{"TMPDIR=" + s.work, "PATH=/usr/bin:/bin"}, s.Env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(lineFd, "line")}
	for i := range s.Files {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(firstFileFd+i), "file"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	return cmd, nil
}

// wait waits for one child and, being perhaps PID 1, for all orphans
// meanwhile. It says how the child ended.
func wait(child int) string {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err.Error()
		case pid == child && status.Signaled():
			return fmt.Sprintf("killed by signal %d (%s)", int(status.Signal()), unix.SignalName(status.Signal()))
		case pid == child:
			return fmt.Sprintf("exit status %d", status.ExitStatus())
		}
	}
}

// remover returns what removes the folder. A thread of its own does it: the
// caller's will be confined to the folder and could not. It is there from the
// start, since a machine out of processes would give none at the end.
func remover(folder *scratch.Dir) func() {
	ready, remove, removed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(ready)
		<-remove
		_ = folder.Remove()
		close(removed)
	}()
	<-ready
	return func() {
		close(remove)
		<-removed
	}
}
