package live

import (
	"errors"
	"io"
	"sync"
)

// maxSpool is how much a spool keeps for a reader that does not take it, in bytes.
// The events of a run without packets are some kilobytes.
const maxSpool = 64 << 20

// errSlow means that a client takes nothing.
var errSlow = errors.New("nobody takes what it tells")

// spool passes on what is written to it, and keeps nobody who writes waiting: the
// steps of a lab must not wait for a client that was stopped, since whoever wants
// to change the lab, or to take it down, waits for the steps.
type spool struct {
	w     io.Writer
	limit int
	over  chan struct{} // closed when nothing more is passed on

	mu      sync.Mutex // guards what follows
	news    *sync.Cond
	waiting []byte
	ended   bool
	err     error
}

func newSpool(w io.Writer, limit int) *spool {
	s := &spool{w: w, limit: limit, over: make(chan struct{})}
	s.news = sync.NewCond(&s.mu)
	go s.pass()
	return s
}

// Write implements io.Writer. The error is an earlier one of the writer behind the
// spool, or errSlow.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && len(s.waiting)+len(p) > s.limit {
		s.err = errSlow
	}
	if s.err != nil {
		return 0, s.err
	}
	s.waiting = append(s.waiting, p...)
	s.news.Signal()
	return len(p), nil
}

// end waits until everything is passed on, or the writer fails.
func (s *spool) end() error {
	s.mu.Lock()
	s.ended = true
	s.news.Signal()
	s.mu.Unlock()
	<-s.over
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *spool) pass() {
	defer close(s.over)
	var batch []byte
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.waiting) == 0 && !s.ended {
			s.news.Wait()
		}
		if len(s.waiting) == 0 {
			return
		}
		batch, s.waiting = s.waiting, batch[:0]
		s.mu.Unlock()
		_, err := s.w.Write(batch)
		s.mu.Lock()
		if err != nil {
			s.err = errors.Join(s.err, err)
			return
		}
	}
}
