package runner

import (
	"context"
	"errors"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
)

// keptLabs is how many labs a kept kernel runs before it is let go: what they
// leave behind in it, if anything, is bounded.
const keptLabs = 500

// keep are backends whose kernels outlive a run: Boot takes one that an earlier
// run has closed, as long as it lives and has had no error. The function ends
// all that are left.
func keep(backends []Backend) (kept []Backend, end func() error) {
	var pools []*pool
	for _, b := range backends {
		p := &pool{Backend: b}
		pools = append(pools, p)
		if s, ok := b.(Shards); ok {
			kept = append(kept, shardedPool{p, s})
		} else {
			kept = append(kept, p)
		}
	}
	return kept, func() error {
		var errs []error
		for _, p := range pools {
			errs = append(errs, p.end())
		}
		return errors.Join(errs...)
	}
}

// pool is a backend and its kernels that nobody uses.
type pool struct {
	Backend
	mu   sync.Mutex
	idle []*keptSession
}

type shardedPool struct {
	*pool
	Shards
}

// Boot implements Backend.
func (p *pool) Boot(ctx context.Context) (Session, error) {
	for s := p.take(); s != nil; s = p.take() {
		select {
		case <-s.Ended():
			_ = s.Session.Close() // it has ended in its sleep; another is booted
		default:
			return s, nil
		}
	}
	s, err := p.Backend.Boot(ctx)
	if err != nil {
		return nil, err
	}
	return &keptSession{Session: s, pool: p}, nil
}

func (p *pool) take() *keptSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	s := p.idle[0]
	p.idle = p.idle[1:]
	return s
}

func (p *pool) end() error {
	var errs []error
	for s := p.take(); s != nil; s = p.take() {
		errs = append(errs, s.Session.Close())
	}
	return errors.Join(errs...)
}

// keptSession is a kernel that is not ended by Close but put back.
type keptSession struct {
	Session
	pool   *pool
	labs   int
	failed bool
}

// Run implements Session.
func (s *keptSession) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	s.labs += len(job.Labs)
	err := s.Session.Run(ctx, job, emit)
	s.failed = s.failed || err != nil || ctx.Err() != nil
	return err
}

// Close implements Session.
func (s *keptSession) Close() error {
	if s.failed || s.labs >= keptLabs {
		return s.Session.Close()
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.pool.idle = append(s.pool.idle, s)
	return nil
}
