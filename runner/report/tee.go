package report

import (
	"errors"

	"github.com/lvslab/lvslab/runner/wire"
)

// Tee gives every event to each of the sinks, in their order. Close closes all
// of them, and its error has those of all.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Event(e wire.Event) {
	for _, s := range t {
		s.Event(e)
	}
}

func (t tee) Close() error {
	var errs []error
	for _, s := range t {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Map gives next what f makes of each event, such as one whose places are those
// of the file that a lab was imported from. Like a Sink's Event, f may be called
// from several goroutines; what an event points to is shared with other readers,
// so f copies what it changes.
func Map(next Sink, f func(wire.Event) wire.Event) Sink { return mapped{next, f} }

type mapped struct {
	next Sink
	f    func(wire.Event) wire.Event
}

func (m mapped) Event(e wire.Event) { m.next.Event(m.f(e)) }
func (m mapped) Close() error       { return m.next.Close() }
