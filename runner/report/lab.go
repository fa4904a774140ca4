package report

import (
	"fmt"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// Bounds of one piece of evidence, in lines.
const (
	evidenceLines        = 40
	evidenceLinesVerbose = 1000
)

// Columns where the parts of a lab begin. A verdict has at most six letters.
const (
	verdictWidth = 8
	stepIndent   = 2
	bodyIndent   = stepIndent + verdictWidth
)

// words are the verdicts as they are read. Those that want attention are
// upper case, so that they stand out without colour too.
var words = map[wire.Verdict]string{wire.Pass: "pass", wire.Skip: "skip", wire.Fail: "FAIL", wire.Broken: "BROKEN"}

var styles = map[wire.Verdict]style{wire.Pass: green, wire.Skip: yellow, wire.Fail: red, wire.Broken: purple}

// verdict is a painted word of verdictWidth columns.
func (t *textSink) verdict(v wire.Verdict) string {
	v = wire.Worst(wire.Pass, v) // an unknown one is broken
	w := words[v]
	return t.opts.paint(styles[v], w) + strings.Repeat(" ", verdictWidth-len(w))
}

func (t *textSink) printLab(l *lab) {
	bad := !met(l.verdict)
	open := bad || t.opts.Verbose
	if open {
		t.space()
	}
	t.labLine(l)
	if l.verdict == wire.Skip || open {
		label := "why"
		if l.verdict == wire.Pass {
			label = "note"
		}
		for _, m := range l.messages {
			t.reason(l, label, m)
		}
	}
	if !open {
		return
	}
	ran, explained := 0, len(l.messages) > 0
	for _, e := range l.entries {
		switch {
		case e.step != nil && e.step.Step != nil:
			t.step(l, e.step)
			ran = max(ran, e.step.Step.Index)
			explained = true
		case e.step == nil:
			for _, s := range lines(e.log) {
				t.hang(stepIndent, "log", dim, s)
			}
		}
	}
	if n := l.logged - maxLog; n > 0 {
		t.hang(stepIndent, "log", dim, fmt.Sprintf("… %d more lines", n))
	}
	if bad && !explained {
		t.reason(l, "why", "no reason was given; lvslab run -v shows more")
	}
	if left := l.of - ran; left == 1 {
		t.line("  %s", t.opts.paint(dim, fmt.Sprintf("step %d was not run", l.of)))
	} else if left > 1 {
		to := "to"
		if left == 2 {
			to = "and"
		}
		t.line("  %s", t.opts.paint(dim, fmt.Sprintf("steps %d %s %d were not run", ran+1, to, l.of)))
	}
	t.space()
}

// labLine is verdict, time, name and title. The time stands before the name so
// that it lines up whatever the titles are.
func (t *textSink) labLine(l *lab) {
	time := "       -"
	if l.seconds > 0 {
		time = fmt.Sprintf("%8s", duration(l.seconds))
	}
	name := pad(inline(l.name), t.nameWidth)
	left := verdictWidth + len(time) + 2 + displaywidth.String(name)
	title := inline(l.title)
	if title == "" {
		name = strings.TrimRight(name, " ")
	} else {
		title = "  " + title
		if c := t.opts.columns(); c > 0 {
			title = fit(title, max(12, c-left))
		}
	}
	if l.verdict != wire.Pass {
		name = t.opts.paint(bold, name)
	}
	t.line("%s%s  %s%s", t.verdict(l.verdict), t.opts.paint(dim, time), name, title)
}

// step prints one line for a step, and what happened in it when it did not
// pass or the reader wants all.
func (t *textSink) step(l *lab, e *wire.Event) {
	s := e.Step
	name := fmt.Sprintf("%d. %s", s.Index, inline(s.Name))
	good := met(e.Verdict)
	if e.Seconds > 0 && (!good || t.opts.Verbose) {
		name += " (" + duration(e.Seconds) + ")"
	}
	for i, piece := range wrap(name, t.room(bodyIndent)) {
		if i == 0 {
			t.line("  %s%s", t.verdict(e.Verdict), piece)
		} else {
			t.line("%*s%s", bodyIndent+3, "", piece)
		}
	}
	if good && !t.opts.Verbose {
		if e.Verdict == wire.Skip {
			t.reasonOf(l, s, e.Message)
		}
		return
	}
	t.blank = true // no gap between a step's line and what stands under it
	for i, did := range s.Did {
		label := ""
		if i == 0 {
			label = "did"
		}
		t.hang(bodyIndent, label, dim, inline(did))
	}
	t.reasonOf(l, s, e.Message)
	// Results that passed come first: what failed stands at the end, beside
	// its evidence.
	for _, r := range s.Results {
		if met(r.Verdict) {
			t.passed(r)
		}
	}
	shown := map[wire.Evidence]bool{}
	for _, r := range s.Results {
		if !met(r.Verdict) {
			t.missed(l, e, r, shown)
		}
	}
	if !good {
		t.space()
	}
}

func (t *textSink) reasonOf(l *lab, s *wire.Step, message string) {
	if s.Error != "" {
		t.reason(l, "why", s.Error)
	}
	if message != "" && message != s.Error {
		t.reason(l, "why", message)
	}
}

// passed is one line: what was seen, or else what was wanted.
func (t *textSink) passed(r wire.Result) {
	text := inline(r.Check)
	if seen := inline(r.Seen); seen != "" {
		text += ": " + seen
	} else if wanted := inline(r.Wanted); wanted != "" {
		text += ": " + wanted
	}
	t.hangVerdict(r.Verdict, text)
}

func (t *textSink) missed(l *lab, e *wire.Event, r wire.Result, shown map[wire.Evidence]bool) {
	t.space()
	t.hangVerdict(r.Verdict, checkAt(l, e, r))
	t.field("wanted", bold, r.Wanted)
	t.field("seen", styles[wire.Worst(wire.Pass, r.Verdict)], r.Seen)
	for _, ev := range r.Evidence {
		t.evidence(ev, shown)
	}
}

// checkAt names a check and its place, or else that of its step, of its lab.
func checkAt(l *lab, e *wire.Event, r wire.Result) string {
	where := placeFrom(r.Pos, r.From)
	if where == "" && e.Pos != nil {
		where = placeFrom(*e.Pos, e.From)
	}
	if where == "" {
		where = l.pos
	}
	if where == "" {
		return inline(r.Check)
	}
	return inline(r.Check) + " at " + where
}

func (t *textSink) evidence(ev wire.Evidence, shown map[wire.Evidence]bool) {
	t.space()
	title := inline(ev.Title)
	body := lines(ev.Text)
	switch {
	case shown[ev]:
		t.line("%*s%s", bodyIndent, "", title+": as above")
		return
	case len(body) == 0:
		t.line("%*s%s", bodyIndent, "", title+": empty")
		return
	}
	shown[ev] = true
	t.line("%*s%s", bodyIndent, "", t.opts.paint(bold, title))
	bound := evidenceLines
	if t.opts.Verbose {
		bound = evidenceLinesVerbose
	}
	more := len(body) - bound
	if more <= 1 { // one line more takes no more room than saying so
		bound, more = len(body), 0
	}
	t.quote(bodyIndent, body[:bound])
	if more > 0 {
		hint := ""
		if !t.opts.Verbose {
			hint = " (shown with -v)"
		}
		t.quote(bodyIndent, []string{fmt.Sprintf("… %d more lines%s", more, hint)})
	}
}

// reason prints an error: its first line as a sentence, what follows (the
// console of a guest) as a quotation. Of a long one the end is kept, since
// there stands what a kernel said last. A guest that dies takes several labs
// with it, so a console is shown once. l is nil for a reason of the whole run.
func (t *textSink) reason(l *lab, label, text string) {
	body := lines(text)
	if len(body) == 0 {
		return
	}
	indent := bodyIndent
	if l == nil {
		indent = 0
	}
	t.hang(indent, label, bold, body[0])
	body = body[1:]
	if len(body) == 0 {
		return
	}
	key := strings.Join(body, "\n")
	if first, ok := t.consoles[key]; ok {
		t.quote(indent, []string{"… as above, under " + first})
		return
	}
	if l != nil {
		t.consoles[key] = inline(l.name)
	}
	if more := len(body) - evidenceLines; more > 1 && !t.opts.Verbose {
		t.quote(indent, []string{fmt.Sprintf("… %d lines before (shown with -v)", more)})
		body = body[more:]
	}
	t.quote(indent, body)
}

// field is a labelled text that may have several lines.
func (t *textSink) field(label string, s style, text string) {
	for i, l := range lines(text) {
		if i > 0 {
			label = ""
		}
		t.hang(bodyIndent, label, s, l)
	}
}

// place is file:line. The column is left out: an expectation fills its line.
func place(p source.Pos) string {
	p.Col = 0
	return inline(p.String())
}

// met reports whether a verdict needs no explanation.
func met(v wire.Verdict) bool { return v == wire.Pass || v == wire.Skip }

// duration is made for reading: about two digits, and minutes from one on.
func duration(seconds float64) string {
	switch {
	case seconds >= 59.95:
		s := int(seconds + 0.5)
		return fmt.Sprintf("%d:%02d min", s/60, s%60)
	case seconds >= 0.995:
		return fmt.Sprintf("%.1f s", seconds)
	}
	return fmt.Sprintf("%.2f s", seconds)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
