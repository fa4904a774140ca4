package engine

import (
	"context"
	"sync"
)

// room shares the kernel's room among labs that run at once: each may fit and
// all together not.
type room struct {
	ask func(nodes int) error

	mu sync.Mutex
	// used are the nodes of the labs that are under way. What these have taken
	// already is no longer to be had, and so is counted twice: room never errs
	// towards too much.
	used, labs int
	// left is closed, and made anew, when a lab leaves.
	left chan struct{}
}

func newRoom(ask func(int) error) *room {
	return &room{ask: ask, left: make(chan struct{})}
}

// enter waits until the lab fits beside the others. Only a lab that does not
// fit alone is refused. The caller must call leave when its nodes are gone.
func (r *room) enter(ctx context.Context, nodes int) (leave func(), err error) {
	for {
		r.mu.Lock()
		left := r.left
		err := error(nil)
		if r.ask != nil {
			err = r.ask(r.used + nodes)
		}
		if err == nil {
			r.used += nodes
			r.labs++
			r.mu.Unlock()
			return func() { r.leave(nodes) }, nil
		}
		alone := r.labs == 0
		r.mu.Unlock()
		if alone {
			return nil, err
		}
		select {
		case <-left:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *room) leave(nodes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= nodes
	r.labs--
	close(r.left)
	r.left = make(chan struct{})
}
