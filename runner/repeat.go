package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// Repeat is Run, n times over, and one report of it all: the events of one
// repetition of each lab, the first of those in which it did worst. Its
// LabFinished counts the repetitions by verdict (Event.Counts), and its time is
// that of the mean one; of their packets, those of that repetition are kept. A lab whose
// verdict changed has failed, whatever the verdicts were, and the message says
// how often which came and when; any other has the verdict that it always had.
//
// Kernels are kept from one repetition to the next where one kernel runs all the
// labs, or none of them needs IPv6, which a kernel must know of before its first
// job. With Options.FailFast the first repetition that fails is the last. One
// that ends early, as by an interrupt, does not count.
func Repeat(ctx context.Context, o Options, n int, emit func(wire.Event)) (wire.Counts, error) {
	start := time.Now()
	six, err := anyIPv6(&o)
	if err != nil {
		return wire.Counts{}, err
	}
	if !six || o.Kernels == 1 || o.FailFast {
		backends, end := keep(o.Backends)
		o.Backends = backends
		defer func() { _ = end() }() // what they ran has its verdicts
	}
	t := &tallies{of: n, labs: make(map[string]*tally), emit: emit}
	for t.done < n && err == nil {
		r := &repetition{tallies: t, labs: make(map[string]*attempt)}
		var counts wire.Counts
		if counts, err = Run(ctx, o, r.event); err == nil {
			t.add(r)
			emit(r.line(counts))
			if o.FailFast && (counts.Fail+counts.Broken > 0 || t.changed() > 0) {
				break
			}
		}
	}
	if t.done == 0 {
		return wire.Counts{}, err
	}
	return t.report(time.Since(start), err), err
}

// anyIPv6 reports whether a lab of the selection needs IPv6.
func anyIPv6(o *Options) (bool, error) {
	r := newRun(nil)
	if _, err := r.pick(o); err != nil {
		return false, err
	}
	for _, t := range r.tasks {
		if t.ipv6 {
			return true, nil
		}
	}
	return false, nil
}

// tallies are the repetitions so far.
type tallies struct {
	of, done int
	order    []string
	labs     map[string]*tally
	kernels  []string // the messages of RunStarted that have been passed on
	emit     func(wire.Event)
}

// tally is what one lab came to.
type tally struct {
	counts wire.Counts
	// at are the repetitions, from 1, in which it had each verdict.
	at      map[wire.Verdict][]int
	seconds float64
	// shown is the first repetition in which it did worst.
	shown int
	worst attempt
}

// attempt is a lab in one repetition.
type attempt struct {
	events  []wire.Event
	verdict wire.Verdict
	seconds float64
}

// repetition is the one that is on its way.
type repetition struct {
	*tallies
	order []string
	labs  map[string]*attempt
}

// event takes an event of a repetition. Those of the run as a whole are passed on
// once, those of labs kept.
func (r *repetition) event(e wire.Event) {
	switch {
	case e.Kind == wire.RunStarted:
		if !slices.Contains(r.kernels, e.Message) {
			r.kernels = append(r.kernels, e.Message)
			r.emit(e)
		}
		return
	case e.Kind == wire.RunFinished:
		return
	case e.Lab == "":
		r.emit(e)
		return
	}
	a := r.labs[e.Lab]
	if a == nil {
		a = &attempt{}
		r.labs[e.Lab] = a
		r.order = append(r.order, e.Lab)
	}
	if e.Kind == wire.LabStarted {
		a.events = nil // a lab that starts again forgets its first try
	}
	a.events = append(a.events, e)
	if e.Kind == wire.LabFinished {
		a.verdict, a.seconds = e.Verdict, e.Seconds
	}
}

// line tells a person who asked for more how far it is.
func (r *repetition) line(c wire.Counts) wire.Event {
	return wire.Event{
		Version: wire.Version, Kind: wire.Log, Time: time.Now().UTC(),
		Message: fmt.Sprintf("repetition %d of %d: %d passed, %d failed, %d broken, %d skipped", r.done, r.of, c.Pass, c.Fail, c.Broken, c.Skip),
	}
}

// add counts a repetition that is over.
func (t *tallies) add(r *repetition) {
	t.done++
	for _, name := range r.order {
		a := r.labs[name]
		if a.verdict == "" {
			continue // the first failure ended the run before it
		}
		l := t.labs[name]
		if l == nil {
			l = &tally{at: make(map[wire.Verdict][]int)}
			t.labs[name] = l
			t.order = append(t.order, name)
		}
		l.counts.Add(a.verdict)
		l.at[a.verdict] = append(l.at[a.verdict], t.done)
		l.seconds += a.seconds
		if l.shown == 0 || a.verdict != l.worst.verdict && wire.Worst(a.verdict, l.worst.verdict) == a.verdict {
			l.shown, l.worst = t.done, *a
		}
	}
}

// changed is how many labs have had more than one verdict.
func (t *tallies) changed() int {
	n := 0
	for _, l := range t.labs {
		if len(l.at) > 1 {
			n++
		}
	}
	return n
}

// report emits what all came to, and counts the labs by it. An error that ended
// it early makes the run broken: too few repetitions have shown too little.
func (t *tallies) report(took time.Duration, err error) wire.Counts {
	var counts wire.Counts
	verdict := wire.Pass
	for _, name := range t.order {
		l := t.labs[name]
		for _, e := range l.worst.events {
			if e.Kind == wire.LabFinished {
				e = l.finished(e, t.done)
				counts.Add(e.Verdict)
				verdict = wire.Worst(verdict, e.Verdict)
			}
			t.emit(e)
		}
	}
	message := fmt.Sprintf("each lab was run %d times, and always came to the same verdict", t.done)
	if n := t.changed(); n > 0 {
		message = fmt.Sprintf("each lab was run %d times; flaky: %d of %d", t.done, n, len(t.order))
	}
	if t.done < t.of {
		message += fmt.Sprintf(" (%d times were asked for)", t.of)
	}
	if err != nil {
		verdict = wire.Broken
		message = "ended early: " + err.Error() + "; " + message
	}
	t.emit(wire.Event{
		Version: wire.Version, Kind: wire.RunFinished, Time: time.Now().UTC(),
		Verdict: verdict, Counts: &counts, Seconds: took.Seconds(), Message: message,
	})
	return counts
}

// finished is a lab's last event after so many repetitions. The time is that of
// the mean one.
func (l *tally) finished(e wire.Event, of int) wire.Event {
	counts := l.counts
	e.Counts = &counts
	e.Seconds = l.seconds / float64(counts.Labs)
	if len(l.at) < 2 {
		return e
	}
	text := fmt.Sprintf("flaky: its verdict changed in %d repetitions: %s; number %d is shown", of, l.frequencies(), l.shown)
	if e.Message != "" {
		text += "\n" + e.Message
	}
	e.Message = text
	e.Verdict = wire.Fail
	return e
}

// frequencies says how often each verdict came, the most frequent first, and when
// those did that came seldom.
func (l *tally) frequencies() string {
	var verdicts []wire.Verdict
	for _, v := range []wire.Verdict{wire.Pass, wire.Skip, wire.Fail, wire.Broken} {
		if len(l.at[v]) > 0 {
			verdicts = append(verdicts, v)
		}
	}
	slices.SortStableFunc(verdicts, func(a, b wire.Verdict) int { return len(l.at[b]) - len(l.at[a]) })
	var parts []string
	for i, v := range verdicts {
		part := fmt.Sprintf("%d× %s", len(l.at[v]), v)
		if i > 0 {
			part += " (" + numbers(l.at[v]) + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// numbers are "number 7" and "numbers 7, 9", the first of many.
func numbers(all []int) string {
	const most = 5
	if len(all) == 1 {
		return fmt.Sprintf("number %d", all[0])
	}
	var words []string
	for i, n := range all {
		if i == most {
			words[i-1] += " and more"
			break
		}
		words = append(words, fmt.Sprint(n))
	}
	return "numbers " + strings.Join(words, ", ")
}
