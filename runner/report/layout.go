package report

import (
	"fmt"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
)

// gutter stands before every quoted line. It shows where somebody else's text
// begins, and keeps that text off the start of a line, where a CI service might
// take it for a command ("::error::" in GitHub's logs).
const gutter = "│ "

// minRoom is the least number of columns that text is wrapped to.
const minRoom = 20

// line adds one line to what is to be written.
func (t *textSink) line(format string, args ...any) {
	fmt.Fprintf(&t.buf, format, args...)
	t.buf.WriteByte('\n')
	t.blank = false
}

// space adds a blank line where there is none yet.
func (t *textSink) space() {
	if !t.blank {
		t.buf.WriteByte('\n')
		t.blank = true
	}
}

// room is what an indent leaves of the width; 0 means no limit.
func (t *textSink) room(indent int) int {
	c := t.opts.columns()
	if c == 0 {
		return 0
	}
	return max(minRoom, c-indent)
}

// hang prints a label and, beside it, a sanitised line, wrapped so that it
// keeps its indent. Without a label there is no column for one, unless the
// line is inside a step, where labels line up.
func (t *textSink) hang(indent int, label string, s style, text string) {
	column := verdictWidth
	if label == "" && indent < bodyIndent {
		column = 0
	}
	for _, piece := range wrap(text, t.room(indent+column)) {
		t.line("%*s%s%s%s", indent, "", t.opts.paint(s, label), strings.Repeat(" ", max(0, column-len(label))), piece)
		label = ""
	}
}

// hangVerdict is hang with a verdict as the label, inside a step.
func (t *textSink) hangVerdict(v wire.Verdict, text string) {
	label := t.verdict(v)
	for _, piece := range wrap(text, t.room(bodyIndent+verdictWidth)) {
		t.line("%*s%s%s", bodyIndent, "", label, piece)
		label = strings.Repeat(" ", verdictWidth)
	}
}

// quote prints somebody else's lines as they are, behind the gutter. They are
// not wrapped: a table that is broken up cannot be read.
func (t *textSink) quote(indent int, body []string) {
	for _, l := range body {
		t.line("%s", strings.TrimRight(fmt.Sprintf("%*s%s%s", indent, "", t.opts.paint(dim, gutter), l), " "))
	}
}
