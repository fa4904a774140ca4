package report

import (
	"slices"
	"sync"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// record is what is known of one lab, for reports that are written when the lab
// or the run is over.
type record struct {
	name, title string
	pos, from   *source.Pos
	// kernel and backend are those of the run, or the lab's own.
	kernel, backend string
	begun           time.Time
	seconds         float64
	verdict         wire.Verdict
	started         bool
	finished        bool
	messages        []string
	steps           []wire.Event
}

// ledger keeps a run. Its zero value is ready; it is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	records []*record
	latest  map[string]*record
	// kernels are the messages of RunStarted, kernel and backend those of the
	// last one.
	kernels         []string
	kernel, backend string
	// over says that a RunFinished has come; seconds, verdict and message are
	// its own.
	over    bool
	seconds float64
	verdict wire.Verdict
	message string
	shard   *wire.Shard
	// trouble are the reasons why the run as a whole came to nothing.
	trouble []string
}

// newLedger expects labs, which are kept in that order.
func newLedger(labs []string) *ledger {
	l := &ledger{latest: make(map[string]*record)}
	for _, name := range labs {
		if l.latest[name] == nil {
			l.add(name)
		}
	}
	return l
}

func (l *ledger) add(name string) *record {
	r := &record{name: name}
	l.records = append(l.records, r)
	l.latest[name] = r
	return r
}

// of is the record to write into: a lab that is finished and comes again is one
// more, as when it runs in a second kernel.
func (l *ledger) of(name string) *record {
	r := l.latest[name]
	if r == nil || r.finished {
		return l.add(name)
	}
	return r
}

// event writes an event down.
func (l *ledger) event(e wire.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case wire.RunStarted:
		l.kernel, l.backend = e.Kernel, e.Backend
		if e.Shard != nil {
			l.shard = e.Shard
		}
		if e.Message != "" && !slices.Contains(l.kernels, e.Message) {
			l.kernels = append(l.kernels, e.Message)
		}
	case wire.LabStarted:
		r := l.of(e.Lab)
		// A lab that starts again forgets its first try.
		*r = record{name: r.name, title: e.Title, pos: e.Pos, from: e.From, started: true, begun: e.Time}
	case wire.StepFinished:
		if e.Step == nil {
			return
		}
		r := l.of(e.Lab)
		r.started = true
		r.steps = append(r.steps, e)
	case wire.LabFinished:
		l.finish(l.of(e.Lab), e)
	case wire.RunFinished:
		l.over, l.seconds, l.message = true, e.Seconds, e.Message
		l.verdict = wire.Worst(wire.Pass, e.Verdict)
		if e.Verdict == "" {
			l.verdict = wire.Pass // it says nothing; the labs' verdicts count
		}
	}
}

func (l *ledger) finish(r *record, e wire.Event) {
	r.started, r.finished = true, true
	r.verdict, r.seconds = wire.Worst(wire.Pass, e.Verdict), e.Seconds
	r.kernel, r.backend = l.kernel, l.backend
	if e.Kernel != "" {
		r.kernel = e.Kernel
	}
	if e.Backend != "" {
		r.backend = e.Backend
	}
	if e.Title != "" {
		r.title = e.Title
	}
	if e.Pos != nil {
		r.pos, r.from = e.Pos, e.From
	}
	if e.Message != "" {
		r.messages = append(r.messages, e.Message)
	}
	if e.Step != nil {
		r.steps = append(r.steps, e)
	}
}

// notRun and noVerdict are said of labs that a run has left behind.
const (
	notRun    = "not run: the run ended before it began"
	noVerdict = "the run ended before this lab had a verdict"
)

// wholly is why a run may be worse than all of its labs.
func wholly(v wire.Verdict) string {
	if v == wire.Fail {
		return "the run as a whole failed, though none of its labs did: what it compares differs"
	}
	return "the run as a whole is broken, though none of its labs is: it did not come to its end"
}

// end gives every lab a verdict. One that had begun is broken. One that had not
// is skipped where the run is red for another reason, as after --fail-fast, and
// else broken: what was not run has shown nothing. Then it looks for trouble: a
// run that is worse than all of its labs, and one that has none.
func (l *ledger) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	worst := wire.Pass
	for _, r := range l.records {
		if r.started && !r.finished {
			r.finished, r.verdict = true, wire.Broken
			r.messages = append(r.messages, noVerdict)
		}
		if r.finished {
			worst = wire.Worst(worst, r.verdict)
		}
	}
	switch {
	case !l.over:
		l.trouble = append(l.trouble, "the run ended early, without its last event")
	case !met(l.verdict) && wire.Worst(l.verdict, worst) != worst:
		why := l.message
		if why == "" {
			why = wholly(l.verdict)
		}
		l.trouble = append(l.trouble, why)
	case len(l.records) == 0 && l.shard == nil:
		l.trouble = append(l.trouble, "no lab was run")
	}
	red := len(l.trouble) > 0 || !met(worst)
	for _, r := range l.records {
		if !r.finished {
			r.finished, r.verdict = true, wire.Broken
			if red {
				r.verdict = wire.Skip
			}
			r.messages = append(r.messages, notRun)
		}
	}
}

// counts are those of all records.
func (l *ledger) counts() wire.Counts {
	var c wire.Counts
	for _, r := range l.records {
		c.Add(r.verdict)
	}
	return c
}

// label is a record's name, with the kernel where the same lab comes twice.
func (l *ledger) label(r *record) string {
	for _, o := range l.records {
		if o != r && o.name == r.name && o.backend+o.kernel != r.backend+r.kernel {
			return r.name + " [" + r.backend + ", " + r.kernel + "]"
		}
	}
	return r.name
}
