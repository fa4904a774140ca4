// Package netns makes, enters and ends the network namespaces of a lab.
//
// A Namespace has no name on disk: it lives as long as its resident thread, an
// operating system thread that is locked to one goroutine, entered the
// namespace once and never leaves it. Work is handed to that thread by Do. A
// thread that has been inside is never given back to the Go scheduler; it ends
// with its goroutine. So nothing that runs elsewhere in the program can find
// itself in a lab by accident, and nothing is left when the program is killed.
//
// A socket belongs for ever to the namespace that its creating thread was in,
// and may then be used from any thread: that is why Netlink, Dial and Listen
// need the resident thread only for a moment.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrClosed is what every method answers after Close.
var ErrClosed = errors.New("the network namespace is closed")

// threadPath is the namespace of the thread that opens it. (/proc/self/ns/net
// is that of the process's first thread.)
const threadPath = "/proc/thread-self/ns/net"

// Namespace is one network namespace with its resident thread. All methods may
// be called from any goroutine at any time.
type Namespace struct {
	name  string
	calls chan call
	// closing is closed when Close begins, ended when the resident is gone.
	closing, ended chan struct{}
	// tid is the resident thread, 0 when there is none.
	tid atomic.Int32

	handle *netlink.Handle

	closeOnce sync.Once
	closeErr  error

	// mu keeps fd open while a thread enters by it: a closed number may be
	// another namespace's a moment later.
	mu sync.RWMutex
	fd int
	// ask is a socket of the namespace, for Index.
	ask int
}

type call struct {
	f    func() error
	done chan error // holds one
}

// New makes an empty network namespace, with its loopback device down. The name
// is for error messages only. It needs CAP_SYS_ADMIN: be root, or in a user
// namespace of one's own.
func New(name string) (*Namespace, error) {
	n := &Namespace{
		name:    name,
		calls:   make(chan call),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
		fd:      -1,
	}
	made := make(chan error, 1)
	onThread(func() {
		if err := n.make(); err != nil {
			made <- n.errorf("%w", err)
			return
		}
		made <- nil
		n.serve()
	})
	if err := <-made; err != nil {
		return nil, err
	}
	return n, nil
}

// make turns the calling thread into the resident of a new namespace.
func (n *Namespace) make() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w%s", err, unshareHint(err))
	}
	fd, err := unix.Open(threadPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w (is /proc mounted for this PID namespace?)", threadPath, err)
	}
	// One family: without any, a socket of each is tried, and a kernel without
	// xfrm or netfilter refuses theirs.
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("open a route socket: %w", err)
	}
	// Without a timeout: the kernel answers before the send returns, and tells
	// when it had no room for the answer (netlink(7), ENOBUFS). A deadline for
	// each message asks for the time some ten times, each a system call in
	// User-Mode Linux.
	ask, err := openAsk()
	if err != nil {
		h.Close()
		_ = unix.Close(fd)
		return err
	}
	// No strict checking of dumps (SetStrictCheck): the netlink package leaves
	// the padding of struct ndmsg as it finds it, and a strict kernel answers
	// NeighList with EINVAL now and then.
	n.fd, n.handle, n.ask = fd, h, ask
	n.tid.Store(int32(unix.Gettid()))
	return nil
}

func unshareHint(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return " (needs CAP_SYS_ADMIN: run as root or in a user namespace)"
	case errors.Is(err, unix.ENOSPC):
		return " (the limit is /proc/sys/user/max_net_namespaces)"
	case errors.Is(err, unix.EINVAL):
		return " (the kernel was built without CONFIG_NET_NS)"
	}
	return ""
}

// serve is the life of the resident thread.
func (n *Namespace) serve() {
	stop := false
	defer func() {
		n.tid.Store(0)
		if stop {
			close(n.ended)
			return
		}
		// A function ended the goroutine by runtime.Goexit, as a test's FailNow
		// does. The thread goes with it; another one takes its place.
		onThread(func() {
			if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
				close(n.ended)
				return
			}
			n.tid.Store(int32(unix.Gettid()))
			n.serve()
		})
	}()
	for {
		select {
		case c := <-n.calls:
			n.run(c)
		case <-n.closing:
			stop = true
			return
		}
	}
}

// run answers c in every case: return, panic, Goexit.
func (n *Namespace) run(c call) {
	err := n.errorf("the function ended its goroutine (runtime.Goexit, or FailNow of a test)")
	defer func() {
		if p := recover(); p != nil {
			err = n.errorf("panic: %v\n%s", p, debug.Stack())
		}
		c.done <- err
	}()
	err = c.f()
}

// Name is the name given to New.
func (n *Namespace) Name() string { return n.name }

// Do runs f on the resident thread and hands back its error as it is. A panic
// in f becomes an error with the stack, and the resident goes on. Calls are
// served one after the other: f must be short, or use Thread. f must not start
// goroutines that expect to be in the namespace too. Inside f, Do runs its
// function at once.
func (n *Namespace) Do(f func() error) error {
	return n.do(context.Background(), f)
}

// do is Do with an end to the waiting in line; f itself is waited for.
func (n *Namespace) do(ctx context.Context, f func() error) error {
	c := call{f: f, done: make(chan error, 1)}
	// The resident's thread is locked, so whoever runs on it is in one of its
	// functions already.
	if int32(unix.Gettid()) == n.tid.Load() {
		n.run(c)
		return <-c.done
	}
	select {
	case n.calls <- c:
		return <-c.done
	case <-n.closing:
		return n.errorf("%w", ErrClosed)
	case <-n.ended:
		return n.errorf("its thread was lost and could not enter again: %w", ErrClosed)
	case <-ctx.Done():
		return n.errorf("waiting for its thread: %w", ctx.Err())
	}
}

// Thread runs f on a thread of its own that enters the namespace and is thrown
// away afterwards; use it for work that blocks or runs beside other work. It
// returns when f does. Errors and panics are as with Do. A function that is
// still running when the Namespace is closed keeps the kernel's namespace.
func (n *Namespace) Thread(f func() error) error {
	c := call{done: make(chan error, 1)}
	c.f = func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	}
	onThread(func() { n.run(c) })
	return <-c.done
}

// enter moves the calling thread, which must be locked, into the namespace.
func (n *Namespace) enter() error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.fd < 0 {
		return n.errorf("%w", ErrClosed)
	}
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		return n.errorf("enter: %w", err)
	}
	return nil
}

// Fd is the namespace as a file descriptor (close-on-exec) that stays open until
// Close; it is -1 afterwards.
func (n *Namespace) Fd() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.fd
}

// Netlink is a route socket (NETLINK_ROUTE and no other family) inside the
// namespace, for use on any thread. After Close all its requests fail.
func (n *Namespace) Netlink() *netlink.Handle { return n.handle }

// Close ends the resident thread, after the functions that it is at, and closes
// the descriptor and the route socket. The kernel's namespace goes when nothing
// else holds it: processes, sockets, threads of Thread. Calling it again does
// nothing and answers the same; calling it inside Do is an error.
func (n *Namespace) Close() error {
	tid := n.tid.Load()
	if int32(unix.Gettid()) == tid {
		return n.errorf("Close called inside Do: it would wait for itself")
	}
	n.closeOnce.Do(func() {
		close(n.closing)
		<-n.ended
		if tid != 0 {
			awaitThreadEnd(int(tid))
		}
		// A handle that is closed forgets its sockets, and opens new ones in the
		// caller's own namespace when it is used again: the host's. The copy
		// forgets them; the original keeps them, closed.
		forgetful := *n.handle
		forgetful.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		_ = unix.Close(n.ask)
		if err := unix.Close(n.fd); err != nil {
			n.closeErr = n.errorf("close its descriptor: %w", err)
		}
		n.fd = -1
	})
	return n.closeErr
}

func (n *Namespace) errorf(format string, args ...any) error {
	return fmt.Errorf("network namespace %s: "+format, append([]any{n.name}, args...)...)
}

// onThread runs f on a thread that ends with f.
//
// The process's first thread must not be the one: the runtime cannot end it
// and parks it for ever instead, which would keep the namespace, and would make
// it the one that /proc/self/net shows.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f() // returns locked, so the thread ends
			return
		}
		// While this goroutine holds the first thread, another cannot get it.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// awaitThreadEnd waits until the kernel has let go of a thread whose goroutine
// has returned. The runtime takes some microseconds for that; the bound is for
// a number that was given to a new thread meanwhile.
func awaitThreadEnd(tid int) {
	const longest = 100 * time.Millisecond
	// It is there after some turns of the processor as a rule, without any
	// sleep: the runtime's poller counts in whole milliseconds when it is idle,
	// and a User-Mode Linux sleeps in ticks of ten.
	pause := unix.Timespec{Nsec: int64(50 * time.Microsecond)}
	end := time.Now().Add(longest)
	for turn := 0; time.Now().Before(end); turn++ {
		if errors.Is(unix.Tgkill(os.Getpid(), tid, 0), unix.ESRCH) {
			return
		}
		if turn < 200 {
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		_ = unix.Nanosleep(&pause, nil) // woken early by a signal: just looks again
	}
}
