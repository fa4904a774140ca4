package report

import (
	"fmt"
	"strings"
)

// eraseLine goes to the first column and erases the line (ECMA-48, EL 2).
const eraseLine = "\r\x1b[2K"

// running is the progress line: how far the run is and what it does now. It is
// empty where nobody would see it.
func (t *textSink) running() string {
	if !t.opts.Terminal || t.ended {
		return ""
	}
	finished, bad := 0, 0
	var now []string
	for _, l := range t.order {
		switch {
		case l.finished:
			finished++
			if !met(l.verdict) {
				bad++
			}
		case l.started && l.done > 0 && l.done < l.of:
			now = append(now, fmt.Sprintf("%s step %d of %d", inline(l.name), l.done+1, l.of))
		case l.started:
			now = append(now, inline(l.name))
		}
	}
	if len(t.order) == 0 {
		return ""
	}
	text := fmt.Sprintf("%d/%d done", finished, len(t.order))
	if bad > 0 {
		text += fmt.Sprintf(", %d did not pass", bad)
	}
	if len(now) > 0 {
		text += ", running: " + strings.Join(now, ", ")
	}
	return text
}

// flush writes the finished lines, and the progress line below them, in one
// Write, so that a terminal never shows half of it. The last column stays
// free: a terminal that wraps as soon as it is filled would leave a line
// behind that cannot be erased.
func (t *textSink) flush(progress string) {
	if progress != "" {
		progress = fit(progress, t.opts.columns()-1)
	}
	if t.buf.Len() == 0 && progress == t.progress {
		return
	}
	var b []byte
	if t.progress != "" {
		b = append(b, eraseLine...)
	}
	if t.opts.Commands {
		b = append(b, defused(t.buf.Bytes())...)
	} else {
		b = append(b, t.buf.Bytes()...)
	}
	b = append(b, t.opts.paint(dim, progress)...)
	t.buf.Reset()
	t.progress = progress
	t.out.write(b)
}
