// Package keeper keeps labs up. For each there is a process of its own, the
// keeper: this program, started anew with an explicit argument and without a
// terminal, which boots the lab's kernel, builds the lab and answers at a socket
// until it is told to take it down. The lab ends with its keeper, whatever ends
// that.
//
// What is known of a lab lies in a folder that its user alone can enter. The
// folder's lock is held by the keeper, so that a lab whose keeper was killed, or
// whose machine was started anew since, is told from one that lives.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// argument is the first one by which the program knows that it is to be a keeper.
const argument = "lvslab-keeper"

// Descriptors of a keeper's process.
const (
	tellFd = 3 // a socket: the order comes in, a word of the start goes out
	lockFd = 4 // the lock of the lab's folder
)

// order is what a keeper is started with.
type order struct {
	Folder string    `json:"folder"`
	Info   live.Info `json:"info"`
	Job    wire.Job  `json:"job"`
}

// word is how the start went.
type word struct {
	Info  *live.Info `json:"info,omitempty"`
	Error string     `json:"error,omitempty"`
}

// Asked reports whether this process was started to be a keeper.
func Asked() bool { return len(os.Args) == 2 && os.Args[1] == argument }

// Main is a keeper's life. backends are kernels among which is the one of this
// name, which its order gives. It returns the exit status.
func Main(backends func(name string, log io.Writer) ([]runner.Backend, error)) int {
	unix.CloseOnExec(tellFd)
	unix.CloseOnExec(lockFd)
	unix.Umask(0o077)
	tell, err := net.FileConn(os.NewFile(tellFd, "tell"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s is lvslab's own word: labs are brought up by lvslab up\n", argument)
		return 2
	}
	defer tell.Close()
	var o order
	if err := json.NewDecoder(tell).Decode(&o); err != nil {
		return 2 // nobody waits for a word
	}
	k := &keeper{folder: folder{name: o.Info.Name, path: o.Folder, lock: os.NewFile(lockFd, "lock")}, info: o.Info, downed: make(chan struct{}), dead: make(chan struct{})}
	k.info.Pid = os.Getpid()
	all, err := backends(o.Info.Backend, os.Stderr)
	if err == nil {
		err = k.run(tell, o.Job, all)
	}
	if err != nil {
		_ = json.NewEncoder(tell).Encode(word{Error: err.Error()})
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// keeper keeps one lab.
type keeper struct {
	folder folder
	// down is called once, by whoever wants the lab down.
	down   context.CancelFunc
	downed chan struct{}
	// dead is closed when the lab's kernel has ended by itself.
	dead chan struct{}

	mu   sync.Mutex
	info live.Info
	// broken is why the lab could not be taken down as it should.
	broken error
}

// run brings the lab up, keeps it, and takes it down.
func (k *keeper) run(tell net.Conn, job wire.Job, backends []runner.Backend) error {
	ctx, down := context.WithCancel(context.Background())
	k.down = down
	defer down()
	signals := make(chan os.Signal, 4)
	// A terminal that closes, or a Ctrl-C at it, is not the lab's business.
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGQUIT)
	go func() {
		for s := range signals {
			if s == unix.SIGTERM {
				down()
			}
		}
	}()
	// Without a time at which it was ready: that it comes up is worth knowing.
	if err := k.folder.write(k.Info()); err != nil {
		return errors.Join(err, k.folder.remove())
	}
	session, lab, err := k.start(ctx, tell, job, backends)
	if err != nil {
		return errors.Join(err, k.folder.remove())
	}
	l, err := k.folder.listen()
	if err == nil {
		err = k.folder.write(k.Info())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making the lab's folder %s: %w", k.folder.path, err), session.Close(), k.folder.remove())
	}
	var serving sync.WaitGroup
	serving.Go(func() { k.accept(ctx, l, lab, &serving) })
	serving.Go(func() { k.watch(ctx, session) })
	i := k.Info()
	_ = json.NewEncoder(tell).Encode(word{Info: &i}) // who asked may be gone; the lab is up
	_ = tell.Close()

	<-ctx.Done()
	_ = l.Close()
	// First the lab, while those who asked for its end still wait for the answer.
	err = errors.Join(session.Close(), k.folder.remove())
	k.mu.Lock()
	k.broken = err
	k.mu.Unlock()
	close(k.downed)
	serving.Wait()
	return err
}

// start boots the kernel and builds the lab. It ends with the one who asked for
// it: who pressed Ctrl-C wants no lab.
func (k *keeper) start(ctx context.Context, tell net.Conn, job wire.Job, backends []runner.Backend) (runner.Session, live.Lab, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	defer func() {
		_ = tell.SetReadDeadline(time.Unix(1, 0))
		<-over
	}()
	go func() {
		defer close(over)
		if _, err := tell.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	for _, b := range backends {
		if b.Name() != k.info.Backend {
			continue
		}
		session, err := b.Boot(ctx)
		if err != nil {
			return nil, nil, err
		}
		lab, err := session.Up(ctx, job)
		if err != nil {
			_ = session.Close() // err says what there is to say
			return nil, nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.info.Kernel, k.info.Ready = session.Kernel(), time.Now().UTC()
		return session, lab, nil
	}
	return nil, nil, fmt.Errorf("no kernel is called %q", k.info.Backend)
}

// watch notes the end of the lab's kernel. The keeper stays, to say so.
func (k *keeper) watch(ctx context.Context, session runner.Session) {
	select {
	case <-ctx.Done():
		return
	case <-session.Ended():
	}
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	k.info.Dead = "its kernel has ended"
	if err := session.Err(); err != nil {
		k.info.Dead = err.Error()
	}
	i := k.info
	k.mu.Unlock()
	close(k.dead)
	fmt.Fprintln(os.Stderr, i.Dead)
	if err := k.folder.write(i); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// accept answers whoever connects. ctx ends the waiting for more; those who are
// connected are answered until the lab is down.
func (k *keeper) accept(ctx context.Context, l *net.UnixListener, lab live.Lab, serving *sync.WaitGroup) {
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return
		case err != nil:
			// Out of descriptors, most likely: some will be free again.
			fmt.Fprintln(os.Stderr, err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		case !mine(conn):
			_ = conn.Close()
			continue
		}
		serving.Go(func() { k.serve(conn, lab) })
	}
}

// lastWords is how long those who asked for a lab's end may take to hear of it.
const lastWords = 2 * time.Second

func (k *keeper) serve(conn net.Conn, lab live.Lab) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-k.downed:
		case <-over:
			return
		}
		select {
		case <-time.After(lastWords):
			cancel()
		case <-over:
		}
	}()
	// Who is killed while it asks says no goodbye.
	err := live.Serve(ctx, conn, guarded{lab, k}, k)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		fmt.Fprintln(os.Stderr, err)
	}
}

// Info implements live.Keeper.
func (k *keeper) Info() live.Info {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.info
	i.Process = live.Measure()
	return i
}

// Down implements live.Keeper.
func (k *keeper) Down(ctx context.Context) error {
	k.down()
	select {
	case <-k.downed:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.broken
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
