package report

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/clipperhouse/displaywidth"

	"github.com/lvslab/lvslab/runner/wire"
)

// maxLog bounds the lines of the log that are kept for one lab.
const maxLog = 5000

// Text writes for a person. The events of labs that run at once are mixed, so
// a lab is kept until it has ended and all labs before it are printed; the
// progress line tells meanwhile what is running.
func Text(w io.Writer, opts TextOptions) Sink {
	t := &textSink{out: output{w: w}, opts: opts, known: map[string]*lab{}, consoles: map[string]string{}, blank: true}
	for _, name := range opts.Labs {
		if t.known[name] == nil {
			t.add(name)
		}
	}
	for _, l := range t.order {
		// A very long name should not push the titles of all others away.
		if w := displaywidth.String(inline(l.name)); w <= 40 {
			t.nameWidth = max(t.nameWidth, w)
		}
	}
	return t
}

type textSink struct {
	mu   sync.Mutex
	opts TextOptions
	out  output

	order   []*lab
	known   map[string]*lab // the latest of each name
	printed int             // labs of order that are printed
	again   []*lab          // labs that failed or are broken

	kernel    string            // the last kernel line
	consoles  map[string]string // a console, and the lab under which it is shown
	nameWidth int
	begun     bool // an event has come
	ended     bool // a run_finished has come

	buf      bytes.Buffer // finished lines, not yet written
	blank    bool         // the last line was blank
	progress string       // what stands on the progress line
}

// lab is what is known of one lab.
type lab struct {
	name, title string
	pos         string // file:line, and the imported file's
	started     bool
	finished    bool
	printed     bool
	verdict     wire.Verdict
	seconds     float64
	messages    []string
	entries     []entry
	logged      int
	done, of    int // steps
}

// entry is a step, or a line of the log.
type entry struct {
	step *wire.Event
	log  string
}

func (t *textSink) add(name string) *lab {
	l := &lab{name: name}
	t.order = append(t.order, l)
	t.known[name] = l
	return l
}

// lab finds the record to write into. A lab that is printed already and comes
// again is a new record at the end.
func (t *textSink) lab(name string) *lab {
	l := t.known[name]
	if l == nil {
		return t.add(name)
	}
	if l.printed {
		title, pos := l.title, l.pos
		l = t.add(name)
		l.title, l.pos = title, pos
	}
	return l
}

// counts are the labs that are printed, each with its latest verdict.
func (t *textSink) counts() wire.Counts {
	var c wire.Counts
	for _, l := range t.known {
		if l.printed {
			c.Add(l.verdict)
		}
	}
	return c
}

func (t *textSink) Event(e wire.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = true
	switch e.Kind {
	case wire.RunStarted:
		t.runStarted(e)
	case wire.LabStarted:
		l := t.lab(e.Lab)
		// A lab that starts again forgets its first try.
		*l = lab{name: l.name, started: true, title: e.Title}
		if e.Pos != nil {
			l.pos = placeFrom(*e.Pos, e.From)
		}
	case wire.StepFinished:
		l := t.lab(e.Lab)
		l.started = true
		l.entries = append(l.entries, entry{step: &e})
		if e.Step != nil {
			l.done, l.of = e.Step.Index, max(l.of, e.Step.Of)
		}
	case wire.Log:
		t.log(e)
	case wire.LabFinished:
		t.labFinished(e)
	case wire.RunFinished:
		t.runFinished(e)
	}
	t.flush(t.running())
}

func (t *textSink) runStarted(e wire.Event) {
	text := e.Message
	if text == "" {
		text = strings.TrimSpace("kernel " + e.Kernel + " " + e.Backend)
	} else if e.Kernel != "" && !strings.Contains(text, e.Kernel) {
		text += " (kernel " + e.Kernel + ")"
	}
	if text == t.kernel {
		return
	}
	if t.kernel != "" {
		t.space() // after the labs of the kernel before
	}
	t.kernel = text
	for _, l := range lines(text) {
		for i, piece := range wrap(l, t.opts.columns()) {
			if i > 0 {
				piece = "  " + piece
			}
			t.line("%s", piece)
		}
	}
	t.space()
}

func (t *textSink) log(e wire.Event) {
	if !t.opts.Verbose {
		return
	}
	if e.Lab == "" {
		for _, l := range lines(e.Message) {
			t.line("%s", t.opts.paint(dim, "log     "+l))
		}
		return
	}
	l := t.lab(e.Lab)
	if l.logged++; l.logged <= maxLog {
		l.entries = append(l.entries, entry{log: e.Message})
	}
}

func (t *textSink) labFinished(e wire.Event) {
	l := t.lab(e.Lab)
	if l.finished {
		l.verdict = wire.Worst(l.verdict, e.Verdict)
	} else {
		l.verdict = wire.Worst(wire.Pass, e.Verdict)
	}
	l.finished, l.started, l.seconds = true, true, e.Seconds
	if e.Title != "" {
		l.title = e.Title
	}
	if e.Backend != "" { // another than most labs of the run had
		l.title += " [" + e.Backend + "]"
	}
	if e.Pos != nil {
		l.pos = placeFrom(*e.Pos, e.From)
	}
	if e.Message != "" {
		l.messages = append(l.messages, e.Message)
	}
	if e.Step != nil {
		l.entries = append(l.entries, entry{step: &e})
	}
	for t.printed < len(t.order) && t.order[t.printed].finished {
		t.print(t.order[t.printed])
	}
}

// print writes a lab that is next in order.
func (t *textSink) print(l *lab) {
	t.printed++
	l.printed = true
	t.again = slices.DeleteFunc(t.again, func(o *lab) bool { return o.name == l.name })
	if !met(l.verdict) {
		t.again = append(t.again, l)
	}
	t.printLab(l)
}

// rest prints what has not been printed when the run is over: labs that had to
// wait for one before them, labs without a verdict, and names of those that
// never started.
func (t *textSink) rest() {
	var idle []string
	for t.printed < len(t.order) {
		l := t.order[t.printed]
		if !l.started {
			idle = append(idle, inline(l.name))
			t.order = slices.Delete(t.order, t.printed, t.printed+1)
			continue
		}
		if !l.finished {
			l.finished, l.verdict = true, wire.Broken
			l.messages = append(l.messages, "the run ended before this lab had a verdict")
		}
		t.print(l)
	}
	if len(idle) > 0 {
		t.space()
		t.hang(0, "", plain, "not run: "+strings.Join(idle, ", "))
	}
}

func (t *textSink) runFinished(e wire.Event) {
	if t.ended {
		return
	}
	t.rest()
	t.ended = true
	counts := t.counts()
	if e.Counts != nil {
		counts = *e.Counts
	}
	if e.Message != "" {
		t.space()
		t.reason(nil, "", e.Message)
	}
	t.space()
	t.summary(counts, e.Seconds)
}

func (t *textSink) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun && !t.ended {
		t.rest()
		t.ended = true
		t.space()
		t.line("The run ended early; this is what is known of it.")
		t.summary(t.counts(), 0)
	}
	t.flush("")
	return t.out.err
}
