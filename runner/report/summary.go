package report

import (
	"fmt"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/lvslab/lvslab/runner/wire"
)

// summary is the end of a report: the counts, a line for every lab that did not
// pass (its own block may be far above), and the command that runs those again.
func (t *textSink) summary(c wire.Counts, seconds float64) {
	var parts []string
	add := func(n int, word string, s style) {
		if n > 0 {
			parts = append(parts, t.opts.paint(s, fmt.Sprintf("%d %s", n, word)))
		}
	}
	add(c.Pass, "passed", green)
	add(c.Fail, "failed", red)
	add(c.Broken, "broken", purple)
	add(c.Skip, "skipped", yellow)
	text := fmt.Sprintf("%d %s: %s", c.Labs, plural(c.Labs, "lab"), strings.Join(parts, ", "))
	if len(parts) == 0 {
		text = "no lab was run"
	}
	if seconds > 0 {
		text += t.opts.paint(dim, " ("+duration(seconds)+")")
	}
	t.line("%s", text)
	if len(t.again) == 0 {
		return
	}
	if t.printed > 1 {
		t.recall()
	}
	t.space()
	t.line("Run again what did not pass:")
	t.line("  %s", t.rerun())
}

// mostAlike is how many labs in a row recall names that ended alike.
const mostAlike = 3

// recall says in one line each what was wrong with the labs that did not pass.
// Of many in a row that ended alike, as all do that an interrupt ends, the first
// are named.
func (t *textSink) recall() {
	width := 0
	for _, l := range t.again {
		width = max(width, displaywidth.String(inline(l.name)))
	}
	width = min(width, t.nameWidth)
	for i := 0; i < len(t.again); i++ {
		l := t.again[i]
		name := inline(l.name)
		if after := t.alike(i, 1); after > 1 && t.alike(i, -1) >= mostAlike {
			name = fmt.Sprintf("… and %d more", after)
			i += after - 1
		}
		text := pad(name, width) + "  " + l.cause()
		if c := t.opts.columns(); c > 0 {
			text = fit(text, max(minRoom, c-bodyIndent))
		}
		t.line("  %s%s", t.verdict(l.verdict), strings.TrimRight(text, " "))
	}
}

// alike is how many labs in a row ended as the one at i: from it on for a step of
// 1, before it for one of -1.
func (t *textSink) alike(i, step int) int {
	n, l := 0, t.again[i]
	for at := i + min(step, 0); at >= 0 && at < len(t.again); at += step {
		if o := t.again[at]; o.verdict != l.verdict || o.cause() != l.cause() {
			break
		}
		n++
	}
	return n
}

// cause is the first thing that went wrong in a lab.
func (l *lab) cause() string {
	for _, e := range l.entries {
		if e.step == nil || e.step.Step == nil || met(e.step.Verdict) {
			continue
		}
		s := e.step.Step
		text := ""
		for _, r := range s.Results {
			if !met(r.Verdict) {
				text = checkAt(l, e.step, r)
				break
			}
		}
		if why := lines(s.Error); len(why) > 0 {
			text = why[0]
		}
		return strings.TrimSuffix(fmt.Sprintf("step %d: %s", s.Index, text), ": ")
	}
	for _, m := range l.messages {
		if why := lines(m); len(why) > 0 {
			return why[0]
		}
	}
	return ""
}

// rerun is the command that runs again what did not pass.
func (t *textSink) rerun() string {
	names := make([]string, len(t.again))
	for i, l := range t.again {
		names[i] = l.name
	}
	if t.opts.Rerun != nil {
		return inline(t.opts.Rerun(names))
	}
	words := []string{"lvslab", "run"}
	for _, name := range names {
		words = append(words, shellWord(inline(name)))
	}
	return strings.Join(words, " ")
}
