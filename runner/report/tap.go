package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
)

// TAP writes the Test Anything Protocol, version 14
// (https://testanything.org/tap-version-14-specification.html): a test point for
// each lab and, in a subtest above it, one for each step. A lab is written when
// it has ended and all before it are written. What did not pass has diagnostics
// in YAML, whose texts are quoted, so that none of their lines can be taken for
// another test point, or for a command of a CI service. A run that came to
// nothing, without a kernel for instance, bails out.
//
// labs are the names of the labs to run, in the order in which they are
// reported; one of them without a verdict is not ok.
func TAP(w io.Writer, labs []string) Sink {
	return &tapSink{out: output{w: w}, ledger: newLedger(labs)}
}

type tapSink struct {
	*ledger
	mu      sync.Mutex
	out     output
	buf     bytes.Buffer
	begun   bool
	kernels int // kernel lines that are written
	written int // records that are written
}

func (s *tapSink) Event(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event(e)
	s.progress()
}

// progress writes what is ready.
func (s *tapSink) progress() {
	if !s.begun {
		s.begun = true
		s.line(0, "TAP version 14")
	}
	for ; s.kernels < len(s.ledger.kernels); s.kernels++ {
		for _, l := range lines(s.ledger.kernels[s.kernels]) {
			s.line(0, "# %s", tapComment(l))
		}
	}
	for s.written < len(s.records) && s.records[s.written].finished {
		s.lab(s.records[s.written])
		s.written++
	}
	s.out.write(s.buf.Bytes())
	s.buf.Reset()
}

func (s *tapSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	s.progress()
	if len(s.trouble) > 0 {
		s.line(0, "Bail out! %s", tapComment(oneLine(strings.Join(s.trouble, "; "))))
	} else {
		s.line(0, "1..%d%s", s.written, tapNoLab(s.written))
	}
	s.out.write(s.buf.Bytes())
	s.buf.Reset()
	return s.out.err
}

// tapNoLab is the reason for a plan without tests.
func tapNoLab(n int) string {
	if n > 0 {
		return ""
	}
	return " # no lab is in this part of the run"
}

// lab writes a subtest and its test point.
func (s *tapSink) lab(r *record) {
	name := inline(s.label(r))
	ran, of := 0, 0
	if len(r.steps) > 0 {
		s.line(0, "# Subtest: %s", tapComment(name))
		for i := range r.steps {
			e := &r.steps[i]
			ran, of = max(ran, e.Step.Index), max(of, e.Step.Of)
			s.step(r, i+1, e)
		}
		n := len(r.steps)
		if left := leftOut(ran, of); left != "" {
			n++
			s.line(1, "ok %d - %s # SKIP not run: the lab ended before", n, left)
		}
		s.line(1, "1..%d", n)
	}
	text := name
	if r.title != "" {
		text += ": " + inline(r.title)
	}
	s.point(0, s.written+1, text, r.verdict, first(reasons(r)))
	if r.verdict == wire.Pass || r.verdict == wire.Skip && len(reasons(r)) == 1 && len(lines(reasons(r)[0])) == 1 {
		return
	}
	s.line(0, "  ---")
	s.field("  ", "verdict", string(r.verdict))
	if r.pos != nil {
		s.field("  ", "at", placeFrom(*r.pos, r.from))
	}
	s.field("  ", "kernel", r.kernel)
	s.field("  ", "seconds", junitTime(r.seconds))
	var why []string
	for _, m := range r.messages {
		why = append(why, lines(m)...)
	}
	s.list("  ", "why", why)
	s.line(0, "  ...")
}

// step is a test point in a lab's subtest.
func (s *tapSink) step(r *record, n int, e *wire.Event) {
	v := wire.Worst(wire.Pass, e.Verdict)
	why := e.Step.Error
	if why == "" {
		why = e.Message
	}
	s.point(1, n, inline(e.Step.Name), v, why)
	if v == wire.Pass {
		return
	}
	const in = "      "
	s.line(0, in+"---")
	s.field(in, "verdict", string(v))
	if e.Pos != nil {
		s.field(in, "at", placeFrom(*e.Pos, e.From))
	}
	s.field(in, "seconds", junitTime(e.Seconds))
	s.list(in, "did", clean(e.Step.Did))
	s.list(in, "why", append(lines(e.Step.Error), lines(otherThan(e.Message, e.Step.Error))...))
	open := false
	for _, res := range e.Step.Results {
		if met(res.Verdict) {
			continue
		}
		if !open {
			s.line(0, in+"missed:")
			open = true
		}
		s.missed(in, r, e, res)
	}
	s.line(0, in+"...")
}

func (s *tapSink) missed(in string, r *record, e *wire.Event, res wire.Result) {
	pos, origin := placeIn(r, e, res)
	s.line(0, "%s  - check: %s", in, yamlQuote(inline(res.Check)))
	in += "    "
	if at := placeFrom(pos, nil); at != "" {
		s.field(in, "at", at)
	}
	s.field(in, "from", from(origin))
	s.field(in, "wanted", res.Wanted)
	s.field(in, "seen", res.Seen)
	if len(res.Evidence) == 0 {
		return
	}
	s.line(0, "%sevidence:", in)
	for _, ev := range res.Evidence {
		s.line(0, "%s  - title: %s", in, yamlQuote(inline(ev.Title)))
		s.list(in+"    ", "text", bounded(lines(ev.Text), evidenceLinesVerbose))
	}
}

// point is one "ok" or "not ok".
func (s *tapSink) point(depth, n int, text string, v wire.Verdict, why string) {
	word, directive := "ok", ""
	switch v {
	case wire.Pass:
	case wire.Skip:
		directive = " # SKIP " + tapComment(inline(first(lines(why))))
	default:
		word = "not ok"
	}
	s.line(depth, "%s %d - %s%s", word, n, tapText(text), strings.TrimRight(directive, " "))
}

func (s *tapSink) field(in, key, value string) {
	if value != "" {
		s.line(0, "%s%s: %s", in, key, yamlQuote(strings.Join(lines(value), "\n")))
	}
}

// list is a list of lines; nothing where there is none.
func (s *tapSink) list(in, key string, values []string) {
	if len(values) == 0 {
		return
	}
	s.line(0, "%s%s:", in, key)
	for _, v := range values {
		s.line(0, "%s  - %s", in, yamlQuote(v))
	}
}

func (s *tapSink) line(depth int, format string, args ...any) {
	s.buf.WriteString(strings.Repeat("    ", depth))
	fmt.Fprintf(&s.buf, format, args...)
	s.buf.WriteByte('\n')
}

// tapText is a description, in which # begins a directive and \ escapes.
func tapText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "#", `\#`).Replace(strings.TrimSpace(s))
}

// tapComment is text behind which no directive follows. A blank keeps "##[",
// which GitHub's runner takes for a command anywhere in a line, apart.
func tapComment(s string) string { return strings.ReplaceAll(s, "##[", "# #[") }

// yamlQuote is a sanitised text as a scalar in double quotes, with line breaks
// as escapes. YAML has Go's escapes \n, \", \\, and \x23 for the "#" of "##[".
func yamlQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "##[", `\x23#[`).Replace(s) + `"`
}

func clean(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = inline(t)
	}
	return out
}

func first(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// otherThan is a text unless it is the same as another.
func otherThan(s, other string) string {
	if s == other {
		return ""
	}
	return s
}

// bounded is at most so many lines, and one that counts the rest.
func bounded(body []string, most int) []string {
	more := len(body) - most
	if more <= 1 {
		return body
	}
	return append(body[:most:most], fmt.Sprintf("… %d more lines", more))
}
