package report

import (
	"fmt"
	"html"
	"strings"

	"github.com/lvslab/lvslab/runner/wire"
)

// mostSummary is a little less than the 1 MiB that GitHub takes of a step's
// summary; it refuses a longer one as a whole.
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits
const mostSummary = 1<<20 - 4096

// mostRows bounds the table of labs that passed.
const mostRows = 1000

// markdown is the run as GitHub's Markdown, at most so many bytes: what did not
// pass, with its steps folded away, and then the others. What does not fit is
// left out from the end, and counted.
func (s *ledger) markdown(room int) string {
	w := &fitted{room: room - 200} // kept for what is said of the rest
	w.add(s.heading())
	var bad, good []*record
	for _, r := range s.records {
		if met(r.verdict) {
			good = append(good, r)
		} else {
			bad = append(bad, r)
		}
	}
	if len(bad) > 0 {
		rows := markdownHead
		for _, r := range bad {
			rows += s.row(r)
		}
		w.add(rows + "\n")
	}
	left := 0
	for _, r := range bad {
		if !w.add(s.details(r)) {
			left++
		}
	}
	if len(good) > 0 {
		w.add(s.passed(good))
	}
	if left > 0 {
		fmt.Fprintf(&w.b, "\n%d more did not fit here: see the step's log.\n\n", left)
	}
	return w.b.String()
}

const markdownHead = "| verdict | lab | time | what |\n|---|---|---|---|\n"

// heading counts, and names the kernels.
func (s *ledger) heading() string {
	c := s.counts()
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{c.Pass, "passed"}, {c.Fail, "failed"}, {c.Broken, "broken"}, {c.Skip, "skipped"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	text := "no lab was run"
	if len(parts) > 0 {
		text = fmt.Sprintf("%d %s: %s", c.Labs, plural(c.Labs, "lab"), strings.Join(parts, ", "))
	}
	if s.shard != nil {
		text += fmt.Sprintf(" (part %d of %d)", s.shard.Index, s.shard.Of)
	}
	b := "### lvslab: " + text + "\n\n"
	for _, k := range s.kernels {
		b += escapeMarkdown(strings.Join(lines(k), " ")) + "\n\n"
	}
	for _, m := range s.trouble {
		b += "**" + escapeMarkdown(strings.Join(lines(m), " ")) + "**\n\n"
	}
	return b
}

// row is a lab in a table.
func (s *ledger) row(r *record) string {
	what := r.title
	if r.verdict == wire.Skip {
		what = first(reasons(r))
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", r.verdict, escapeMarkdown(inline(s.label(r))), duration(r.seconds), escapeMarkdown(first(lines(what))))
}

// details are the steps of a lab that did not pass.
func (s *ledger) details(r *record) string {
	var body []string
	if r.pos != nil {
		body = append(body, "lab     "+placeFrom(*r.pos, r.from))
	}
	for _, m := range r.messages {
		body = append(body, labelled("why     ", m)...)
	}
	for i := range r.steps {
		e := &r.steps[i]
		if met(e.Verdict) {
			continue
		}
		body = append(body, "", strings.ToUpper(string(wire.Worst(wire.Pass, e.Verdict)))+" "+stepName(e.Step))
		body = append(body, account(r, e)...)
	}
	return fmt.Sprintf("<details><summary>%s: %s</summary>\n\n<pre>%s</pre>\n\n</details>\n\n",
		escapeHTML(inline(s.label(r))), r.verdict, escapeHTML(strings.Join(body, "\n")))
}

// passed is the table of labs that need no explanation, folded away.
func (s *ledger) passed(good []*record) string {
	rows := markdownHead
	for i, r := range good {
		if i == mostRows {
			rows += fmt.Sprintf("| | %d more | | |\n", len(good)-i)
			break
		}
		rows += s.row(r)
	}
	return "<details><summary>labs that passed or were skipped</summary>\n\n" + rows + "\n</details>\n\n"
}

// escapeHTML makes a sanitised text safe between tags.
func escapeHTML(s string) string { return html.EscapeString(s) }

// escapeMarkdown makes a sanitised text safe anywhere in a paragraph or a table:
// every character that could be markup, a link, a mention or a formula is
// written as a character reference.
func escapeMarkdown(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 && strings.ContainsRune("!\"#$%&'*+:;<=>?@[\\]^_`{|}~", r) {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// fitted takes pieces of text as long as there is room for them.
type fitted struct {
	b    strings.Builder
	room int
}

func (f *fitted) add(s string) bool {
	if f.b.Len()+len(s) > f.room {
		return false
	}
	f.b.WriteString(s)
	return true
}
