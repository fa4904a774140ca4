package report

import (
	"slices"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
)

// InOrder gives next the events of labs one lab after the other, in the order of
// names, whichever ends first: those of a lab are kept until all before it have
// ended. Labs that are not named follow at the end of the run. What a lab has
// sent before it started anew goes by as it came.
//
// A lab that has ended and comes again, as in a second kernel, begins another
// round.
func InOrder(names []string, next Sink) Sink {
	return &inOrder{next: next, names: names, held: make(map[string][]wire.Event), ended: make(map[string]bool)}
}

type inOrder struct {
	next  Sink
	names []string

	mu    sync.Mutex
	at    int // the lab of names whose events go by
	order []string
	held  map[string][]wire.Event
	ended map[string]bool
}

func (s *inOrder) Event(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Lab == "" {
		if e.Kind == wire.RunFinished {
			s.release()
		}
		s.next.Event(e)
		return
	}
	if s.ended[e.Lab] && e.Kind == wire.LabStarted {
		s.release()
	}
	if s.ended[e.Lab] || s.at < len(s.names) && s.names[s.at] == e.Lab {
		s.next.Event(e)
	} else {
		if _, known := s.held[e.Lab]; !known {
			s.order = append(s.order, e.Lab)
		}
		s.held[e.Lab] = append(s.held[e.Lab], e)
	}
	if e.Kind == wire.LabFinished {
		s.ended[e.Lab] = true
		s.advance()
	}
}

// advance lets those labs by whose turn has come.
func (s *inOrder) advance() {
	for ; s.at < len(s.names); s.at++ {
		name := s.names[s.at]
		s.pass(name)
		if !s.ended[name] {
			return
		}
	}
}

// pass sends what is held of a lab.
func (s *inOrder) pass(name string) {
	for _, e := range s.held[name] {
		s.next.Event(e)
	}
	delete(s.held, name)
}

// release sends all that is held, and begins anew.
func (s *inOrder) release() {
	for _, name := range s.names {
		s.pass(name)
	}
	for _, name := range slices.Clone(s.order) {
		s.pass(name)
	}
	s.at, s.order = 0, nil
	clear(s.ended)
}

func (s *inOrder) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return s.next.Close()
}
