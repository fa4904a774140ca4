package node

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pidSpace is the PID namespace of a command, by which its processes are known.
type pidSpace struct {
	init     int // the command's first process, which is lvslab's own
	dev, ino uint64
	// held keeps the namespace's number from being given to another one.
	held *os.File
}

// pidSpaceOf is the namespace whose first process has just been started, and was
// not waited for yet.
func pidSpaceOf(init int) (*pidSpace, error) {
	held, err := os.Open(pidSpacePath(strconv.Itoa(init)))
	if err != nil {
		return nil, err
	}
	info, err := held.Stat()
	if err == nil {
		var own os.FileInfo
		if own, err = os.Stat(pidSpacePath("self")); err == nil && os.SameFile(info, own) {
			err = errors.New("it is lvslab's own")
		}
	}
	if err != nil {
		held.Close()
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		held.Close()
		return nil, errors.New("no number of a namespace")
	}
	return &pidSpace{init: init, dev: st.Dev, ino: st.Ino, held: held}, nil
}

func pidSpacePath(pid string) string { return "/proc/" + pid + "/ns/pid" }

// has reports whether a process is one of the namespace.
func (s *pidSpace) has(pid string) bool {
	var st unix.Stat_t
	return unix.Stat(pidSpacePath(pid), &st) == nil && st.Dev == s.dev && st.Ino == s.ino
}

// members are the processes in the namespace, but for the first one, and their
// states (proc_pid_stat(5)).
func (s *pidSpace) members() (map[int]byte, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	found := make(map[int]byte)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == s.init || !s.has(name) {
			continue
		}
		if state, ok := stateOf(name); ok {
			found[pid] = state
		}
	}
	return found, nil
}

// stateOf is the letter of a process's state: the first word behind its name,
// which stands in brackets and may hold any characters.
func stateOf(pid string) (byte, bool) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, false
	}
	i := strings.LastIndexByte(string(text), ')')
	if i < 0 || i+2 >= len(text) {
		return 0, false
	}
	return text[i+2], true
}

// signal sends a signal to a process, if it still is one of the namespace.
func (s *pidSpace) signal(pid int, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if !s.has(strconv.Itoa(pid)) {
		return nil // another one has its number
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return nil
}

const (
	// stopWait bounds how long a daemon's processes may take to stop. One that
	// waits for a disk stops when it has it.
	stopWait = 5 * time.Second
	stopPoll = time.Millisecond
)

// each sends a signal to the processes whose states are not done yet, and to
// those that they have begun meanwhile, until there are none.
func (s *pidSpace) each(sig unix.Signal, done func(state byte) bool) error {
	for until := time.Now().Add(stopWait); ; time.Sleep(stopPoll) {
		members, err := s.members()
		if err != nil {
			return err
		}
		left := 0
		for pid, state := range members {
			if done(state) || state == 'Z' || state == 'X' {
				continue
			}
			left++
			if err := s.signal(pid, sig); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d processes do not take %s within %s", left, unix.SignalName(sig), stopWait)
		}
	}
}

// stopped is the state of a process that SIGSTOP has stopped.
func stopped(state byte) bool { return state == 'T' }

// daemonProcesses are those of a daemon. Who uses the namespace holds the lock, so that
// it is not forgotten meanwhile.
type daemonProcesses struct {
	mu    sync.Mutex
	space *pidSpace // nil before the daemon is started, and when it has ended
	err   error     // why there is none
}

// started is told the daemon's first process.
func (p *Daemon) started(init int) {
	p.processes.mu.Lock()
	defer p.processes.mu.Unlock()
	p.processes.space, p.processes.err = pidSpaceOf(init)
}

// Pause stops all processes of the daemon by SIGSTOP and returns when they have:
// the kernel goes on taking connections for it, and nobody answers. Pausing again
// does nothing.
func (p *Daemon) Pause() error { return p.signalAll(unix.SIGSTOP, stopped) }

// Resume lets them go on, by SIGCONT.
func (p *Daemon) Resume() error {
	return p.signalAll(unix.SIGCONT, func(state byte) bool { return !stopped(state) })
}

func (p *Daemon) signalAll(sig unix.Signal, done func(byte) bool) error {
	if how := p.Ended(); how != "" {
		return errors.New(how)
	}
	p.processes.mu.Lock()
	defer p.processes.mu.Unlock()
	if err := p.processes.err; err != nil {
		return fmt.Errorf("its processes cannot be told: %w", err)
	}
	return p.processes.space.each(sig, done)
}

// forget lets the daemon's namespace go; it has ended.
func (p *Daemon) forget() {
	p.processes.mu.Lock()
	defer p.processes.mu.Unlock()
	if p.processes.space != nil {
		p.processes.space.held.Close()
	}
	p.processes.space, p.processes.err = nil, errors.New("the daemon has ended")
}
