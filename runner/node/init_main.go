package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlFd is init's connection to the program that started it.
const controlFd = 3

// initState is what a node's init knows, inside that process.
type initState struct {
	jobs chan job
	idle atomic.Int32 // threads that wait for jobs

	// births is held while a program is started, and while the dead are waited
	// for: one must be known before it is waited for. It is taken before mu. The
	// guard never takes it: in a fork bomb a start may take long.
	births sync.Mutex

	mu      sync.Mutex // guards what follows
	running map[int]*started
	// born counts the programs; more is told of each.
	born uint64
	more *sync.Cond
}

// started is a program that runs.
type started struct {
	id    uint64
	pid   int // and its session's number
	limit int // of processes
	note  string
}

// job is an order with the descriptors that came along.
type job struct {
	order
	fds []int
}

// beInit is the life of a node's init; it never returns. It starts what it is
// told to, waits for all that dies in its PID namespace, and goes when nobody
// holds the other end of its connection, with all that it started.
func beInit() {
	i := &initState{jobs: make(chan job), running: make(map[int]*started)}
	i.more = sync.NewCond(&i.mu)
	// Whatever signal a program sends it: the kernel keeps those from it that it
	// does not catch, of which SIGKILL is one, and the others end here. Caught
	// and not ignored: what is ignored stays so in a child.
	signal.Notify(make(chan os.Signal, 1))
	unix.Umask(0o022)
	_ = os.WriteFile("/proc/self/comm", []byte("init"), 0) // for ps, which would say exe
	root := -1
	err := become(nodeProcesses)
	if err == nil {
		root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		err = guard(controlFd, leave, i.police())
	}
	if err != nil {
		tell(news{Err: err.Error()})
		leave()
	}
	go i.reap()
	tell(news{}, root)
	_ = unix.Close(root)
	i.obey()
	leave()
}

// leave ends the PID namespace, see reporter.end.
func leave() {
	_ = unix.Kill(-1, unix.SIGKILL)
	syscall.Exit(0)
}

// tell sends news. When nobody reads them the guard sees it, too.
func tell(n news, fds ...int) {
	data, err := json.Marshal(n)
	if err != nil {
		return
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for unix.Sendmsg(controlFd, data, oob, nil, unix.MSG_NOSIGNAL) == unix.EINTR {
	}
}

// obey takes orders until nobody can give any.
func (i *initState) obey() {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(controlFd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return
		}
		j := job{fds: descriptors(oob[:oobn])}
		if json.Unmarshal(buf[:n], &j.order) != nil {
			return
		}
		switch j.Do {
		case doStart:
			select {
			case i.jobs <- j:
			default: // all are busy, maybe with a server that does not answer
				go i.work(j)
			}
			continue
		case doSignal:
			i.signal(j)
		case doKill:
			go i.kill(j.ID)
		}
		j.close()
	}
}

// maxIdle is how many threads wait for further programs to start.
const maxIdle = 2

// work starts programs on a thread that has given up the rights that they must
// not have, since they inherit its.
func (i *initState) work(j job) {
	runtime.LockOSThread() // and never unlocked: the thread ends with this
	if err := dropRights(); err != nil {
		tell(news{ID: j.ID, Err: err.Error()})
		j.close()
		return
	}
	for {
		i.start(j)
		j.close()
		if i.idle.Add(1) > maxIdle {
			i.idle.Add(-1)
			return
		}
		j = <-i.jobs
		i.idle.Add(-1)
	}
}

func (j job) close() {
	for _, fd := range j.fds {
		_ = unix.Close(fd)
	}
}

// start starts a program and tells what came of it.
func (i *initState) start(j job) {
	s, files, err := j.spec()
	program := ""
	if err == nil {
		program, err = find(s)
	}
	if err != nil {
		n := news{ID: j.ID, Err: clip(err.Error())}
		if errors.As(err, &n.Missing) {
			n.Missing = &NotFoundError{clip(n.Missing.Name), clip(n.Missing.Path)}
		} else if errors.As(err, &n.Denied) {
			n.Denied = &NotExecutableError{clip(n.Denied.Name), n.Denied.Reason}
		}
		tell(n)
		return
	}
	i.births.Lock()
	defer i.births.Unlock()
	pid, err := syscall.ForkExec(program, s.Args, &syscall.ProcAttr{
		Dir: s.Dir, Env: s.Env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: s.TTY},
	})
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		tell(news{ID: j.ID, Err: "fork: " + err.Error()})
	case err != nil:
		tell(news{ID: j.ID, Denied: &NotExecutableError{clip(s.Args[0]), err.Error()}})
	default:
		i.mu.Lock()
		i.running[pid] = &started{id: j.ID, pid: pid, limit: s.Limit}
		i.born++
		i.more.Broadcast()
		i.mu.Unlock()
		tell(news{ID: j.ID, Started: true})
	}
}

func clip(text string) string {
	if len(text) > maxText {
		return text[:maxText] + "…"
	}
	return text
}

// spec is what is to be started, with its input and outputs.
func (j job) spec() (s spec, files []uintptr, err error) {
	if len(j.fds) < 2 {
		return s, nil, fmt.Errorf("%d descriptors came along", len(j.fds))
	}
	file := os.NewFile(uintptr(j.fds[0]), "spec")
	j.fds[0] = -1
	defer file.Close()
	if err := json.NewDecoder(file).Decode(&s); err != nil {
		return s, nil, fmt.Errorf("read what to run: %w", err)
	}
	for fd := range 3 {
		files = append(files, uintptr(j.fds[min(1+fd, len(j.fds)-1)]))
	}
	if s.Dir != "" {
		if info, err := os.Stat(s.Dir); err != nil {
			return s, nil, fmt.Errorf("working directory: %w", err)
		} else if !info.IsDir() {
			return s, nil, fmt.Errorf("working directory %s: %w", s.Dir, unix.ENOTDIR)
		}
		return s, files, nil
	}
	s.Dir = variable(s.Env, "HOME")
	if unix.Access(s.Dir, unix.X_OK) != nil {
		s.Dir = "/"
	}
	return s, files, nil
}

// signal sends one to a program, or to who is in the foreground of its terminal.
func (i *initState) signal(j job) {
	i.births.Lock() // its number is its own until it is waited for
	defer i.births.Unlock()
	i.mu.Lock()
	p := i.find(j.ID)
	i.mu.Unlock()
	if p == nil {
		return
	}
	group := p.pid
	if len(j.fds) == 1 {
		// Seen from here it is a number of this PID namespace.
		if front, err := unix.IoctlGetInt(j.fds[0], unix.TIOCGPGRP); err == nil && front > 0 {
			group = front
		}
	}
	_ = unix.Kill(-group, unix.Signal(j.Signal))
}

// find is the program with that id; mu is held.
func (i *initState) find(id uint64) *started {
	for _, p := range i.running {
		if p.id == id {
			return p
		}
	}
	return nil
}

// reap waits for all that dies, for ever. While a fork bomb is being killed the
// dead must go, too: they count.
func (i *initState) reap() {
	beUrgent()
	for {
		i.mu.Lock()
		born := i.born
		i.mu.Unlock()
		// Seen first and taken under the lock.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			// There is nobody, so there will be nobody until a program is
			// started.
			i.mu.Lock()
			for i.born == born {
				i.more.Wait()
			}
			i.mu.Unlock()
		}
		i.births.Lock()
		i.bury()
		i.births.Unlock()
	}
}

// bury takes all that are dead; births is held.
func (i *initState) bury() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		i.mu.Lock()
		p := i.running[pid]
		note := ""
		if p != nil {
			note = p.note
		}
		delete(i.running, pid)
		i.mu.Unlock()
		if p == nil {
			continue // an orphan
		}
		r := report{Exit: status.ExitStatus()}
		if status.Signaled() {
			r = report{Signal: int(status.Signal())}
		}
		tell(news{ID: p.id, Ended: &r, Note: note})
	}
}

// signalName is a signal's name without SIG, or its number.
func signalName(s unix.Signal) string {
	if name := strings.TrimPrefix(unix.SignalName(s), "SIG"); name != "" {
		return name
	}
	return fmt.Sprint(int(s))
}
