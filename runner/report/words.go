package report

import (
	"fmt"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology/source"
)

// from is the place in an imported file, or nothing.
func from(p *source.Pos) string {
	if p == nil {
		return ""
	}
	return place(*p)
}

// placeFrom is a place in a lab and, where that was imported, the one that it was
// made from: "web.yaml:30 (from keepalived.conf:12)".
func placeFrom(pos source.Pos, origin *source.Pos) string {
	at, o := place(pos), from(origin)
	switch {
	case o == "" || o == at:
		return at
	case at == "":
		return o
	}
	return at + " (from " + o + ")"
}

// stepName is a step's number and name.
func stepName(s *wire.Step) string { return fmt.Sprintf("%d. %s", s.Index, inline(s.Name)) }

// placeIn is the place of a result, or else that of its step, of its lab.
func placeIn(r *record, e *wire.Event, res wire.Result) (source.Pos, *source.Pos) {
	switch {
	case place(res.Pos) != "":
		return res.Pos, res.From
	case e.Pos != nil && place(*e.Pos) != "":
		return *e.Pos, e.From
	case r.pos != nil:
		return *r.pos, r.from
	}
	return source.Pos{}, res.From
}

// checkIn names a check and its place.
func checkIn(r *record, e *wire.Event, res wire.Result) string {
	pos, origin := placeIn(r, e, res)
	if at := placeFrom(pos, origin); at != "" {
		return inline(res.Check) + " at " + at
	}
	return inline(res.Check)
}

// missedIn is a line for each thing that went wrong in a step.
func missedIn(r *record, e *wire.Event) []string {
	var out []string
	if why := lines(e.Step.Error); len(why) > 0 {
		out = append(out, why[0])
	}
	for _, res := range e.Step.Results {
		if !met(res.Verdict) {
			out = append(out, fmt.Sprintf("%s: wanted %s, seen %s", checkIn(r, e, res), inline(res.Wanted), inline(res.Seen)))
		}
	}
	if why := lines(e.Message); len(why) > 0 && e.Message != e.Step.Error {
		out = append(out, why[0])
	}
	return out
}

// account is all that a step that did not pass has to say, as lines: what was
// done, why it could not be, what was wanted and seen, and the evidence.
func account(r *record, e *wire.Event) []string {
	var out []string
	if e.Pos != nil {
		out = append(out, "step    "+placeFrom(*e.Pos, e.From))
	}
	for _, did := range e.Step.Did {
		out = append(out, "did     "+inline(did))
	}
	out = append(out, labelled("why     ", e.Step.Error)...)
	if e.Message != e.Step.Error {
		out = append(out, labelled("why     ", e.Message)...)
	}
	shown := make(map[wire.Evidence]bool)
	for _, res := range e.Step.Results {
		if met(res.Verdict) {
			continue
		}
		out = append(out, "", checkIn(r, e, res))
		out = append(out, labelled("wanted  ", res.Wanted)...)
		out = append(out, labelled("seen    ", res.Seen)...)
		for _, ev := range res.Evidence {
			out = append(out, "", inline(ev.Title)+":")
			if shown[ev] {
				out = append(out, gutter+"(as above)")
				continue
			}
			shown[ev] = true
			out = append(out, quoted(ev.Text, evidenceLinesVerbose)...)
		}
	}
	return out
}

// labelled is text of several lines beside a label.
func labelled(label, text string) []string {
	out := lines(text)
	for i := range out {
		out[i] = label + out[i]
		label = strings.Repeat(" ", len(label))
	}
	return out
}

// quoted is somebody else's text behind the gutter, at most so many lines.
func quoted(text string, most int) []string {
	body := lines(text)
	more := len(body) - most
	if more > 1 {
		body = body[:most]
	}
	out := make([]string, 0, len(body)+1)
	for _, l := range body {
		out = append(out, strings.TrimRight(gutter+l, " "))
	}
	if more > 1 {
		out = append(out, fmt.Sprintf("%s… %d more lines", gutter, more))
	}
	if len(out) == 0 {
		out = append(out, gutter+"(nothing)")
	}
	return out
}

// reasons are why a lab has its verdict; there is one always but for a pass.
func reasons(r *record) []string {
	if len(r.messages) > 0 || r.verdict == wire.Pass {
		return r.messages
	}
	return []string{"no reason was given; lvslab run -v shows more"}
}

// leftOut names the steps behind the last that ran, of so many; "" if there is
// none.
func leftOut(ran, of int) string {
	switch {
	case of <= ran:
		return ""
	case of == ran+1:
		return fmt.Sprintf("step %d", of)
	case of == ran+2:
		return fmt.Sprintf("steps %d and %d", of-1, of)
	}
	return fmt.Sprintf("steps %d to %d", ran+1, of)
}

// oneLine is a text of several lines as one.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Join(lines(s), " ")), " ")
}

// Explain is all that a StepFinished which did not pass has to say, as lines that
// are safe to print: what was done, why it could not be, what was wanted and seen,
// where, and the evidence. Commands says that GitHub's runner reads along, as in
// TextOptions.
func Explain(e wire.Event, commands bool) string {
	if e.Step == nil {
		return ""
	}
	return Safe(strings.Join(account(&record{}, &e), "\n"), commands)
}

// Safe is somebody else's text as lines that are safe to print, with commands as
// in Explain.
func Safe(text string, commands bool) string {
	text = strings.Join(lines(text), "\n")
	if commands {
		text = string(defused([]byte(text)))
	}
	return text
}
