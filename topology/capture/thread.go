package capture

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// processors moves the calling goroutine's thread from one processor to the
// next and back.
type processors struct {
	list   []uint16
	before unix.CPUSet
	moved  bool
}

// useProcessors finds those that the thread may run on and holds the goroutine
// to its thread until release.
func useProcessors() *processors {
	runtime.LockOSThread()
	p := new(processors)
	if unix.SchedGetaffinity(0, &p.before) == nil {
		for cpu := range len(p.before) * 64 {
			if p.before.IsSet(cpu) {
				p.list = append(p.list, uint16(cpu))
			}
		}
	}
	if len(p.list) == 0 { // a machine of more than 1024: only where it is now
		p.list = []uint16{0}
	}
	return p
}

// moveTo continues on the given processor; where that is refused, on any.
func (p *processors) moveTo(cpu uint16) {
	if len(p.list) < 2 {
		return
	}
	var set unix.CPUSet
	set.Set(int(cpu))
	if unix.SchedSetaffinity(0, &set) == nil {
		p.moved = true
	}
}

func (p *processors) release() {
	if p.moved && unix.SchedSetaffinity(0, &p.before) != nil {
		return // stays locked: the thread is not for others to use
	}
	runtime.UnlockOSThread()
}

// waker is a descriptor that becomes readable when a context ends.
type waker struct {
	fd   int
	stop func() bool
	done chan struct{}
}

func (w *waker) open(ctx context.Context) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make an event descriptor: %w", err)
	}
	done := make(chan struct{})
	w.fd, w.done = fd, done
	w.stop = context.AfterFunc(ctx, func() {
		defer close(done)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // any number but zero
	})
	return nil
}

func (w *waker) close() {
	if w.fd < 0 {
		return
	}
	if !w.stop() {
		<-w.done // it writes to the descriptor now
	}
	_ = unix.Close(w.fd)
	w.fd = -1
}
