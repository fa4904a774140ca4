package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/wire"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		counts wire.Counts
		strict bool
		want   int
	}{
		{wire.Counts{Labs: 10, Pass: 10}, true, 0},
		{wire.Counts{Labs: 2, Pass: 1, Skip: 1}, false, 0},
		{wire.Counts{Labs: 2, Pass: 1, Skip: 1}, true, 1},
		{wire.Counts{Labs: 2, Pass: 1, Fail: 1}, false, 1},
		{wire.Counts{Labs: 2, Broken: 1, Fail: 1}, false, 3},
		{wire.Counts{}, false, 3},
		{wire.Counts{Labs: 10, Pass: 9}, false, 3},
		{wire.Counts{Labs: 10, Pass: 8, Fail: 1}, false, 3},
	} {
		if got := ExitCode(c.counts, c.strict); got != c.want {
			t.Errorf("ExitCode(%+v, %v) = %d, want %d", c.counts, c.strict, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	s := JSON(&b)
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	events := []wire.Event{
		begin(), start("dr/arptables", "<b>\x1b[31m \u009b \u202e \U000e0041 & \x7f\u2028"), sticks("dr/arptables"),
		finish("dr/arptables", wire.Fail, 0.6, ""), end(1, wire.Counts{Labs: 1, Fail: 1}),
	}
	for i := range events {
		events[i].Time = when
		before := bytes.Count(b.Bytes(), []byte("\n"))
		s.Event(events[i])
		if bytes.Count(b.Bytes(), []byte("\n")) != before+1 {
			t.Fatalf("event %d is not one line", i)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "json", b.Bytes())
	if i := bytes.IndexFunc(b.Bytes(), func(r rune) bool { return r != '\n' && visible(string(r)) != string(r) }); i >= 0 {
		t.Errorf("unprintable character at byte %d", i)
	}
	dec := json.NewDecoder(&b)
	for i, want := range events {
		var got wire.Event
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		want.Version = wire.Version
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("event %d does not come back (-want +got):\n%s", i, d)
		}
	}
}

// pipe fails from the second write on.
type pipe struct{ writes int }

func (p *pipe) Write(b []byte) (int, error) {
	if p.writes++; p.writes > 1 {
		return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
	}
	return len(b), nil
}

type short struct{}

func (short) Write(b []byte) (int, error) { return len(b) - 1, nil }

func TestWriteError(t *testing.T) {
	for name, open := range map[string]func(io.Writer) Sink{
		"json": JSON,
		"text": func(w io.Writer) Sink { return Text(w, TextOptions{}) },
	} {
		p := &pipe{}
		s := open(p)
		for _, lab := range []string{"a", "b", "c"} {
			s.Event(finish(lab, wire.Pass, 1, ""))
		}
		if err := s.Close(); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: Close = %v, want EPIPE", name, err)
		}
		if p.writes != 2 {
			t.Errorf("%s: %d writes, want none after the one that failed", name, p.writes)
		}
		s = open(short{})
		s.Event(finish("a", wire.Pass, 1, ""))
		if err := s.Close(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%s: Close = %v, want a short write", name, err)
		}
	}
}

func TestSinksFromManyGoroutines(t *testing.T) {
	for _, s := range []Sink{JSON(io.Discard), Text(io.Discard, TextOptions{Terminal: true})} {
		var wg sync.WaitGroup
		for _, lab := range []string{"a", "b", "c", "d"} {
			wg.Go(func() {
				s.Event(start(lab, ""))
				s.Event(sticks(lab))
				s.Event(finish(lab, wire.Fail, 1, ""))
			})
		}
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDetect(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(key string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == key {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	size := func() int { return 132 }
	for _, c := range []struct {
		name            string
		terminal        bool
		env             func(string) string
		wantTerm, color bool
	}{
		{"terminal", true, env("TERM", "xterm"), true, true},
		{"no color", true, env("TERM", "xterm", "NO_COLOR", "1"), true, false},
		{"empty NO_COLOR", true, env("TERM", "xterm", "NO_COLOR", ""), true, true},
		{"dumb", true, env("TERM", "dumb"), false, false},
		{"no TERM", true, env(), false, false},
		{"file", false, env("TERM", "xterm"), false, false},
	} {
		got := detect(c.terminal, size, c.env)
		if got.Terminal != c.wantTerm || got.Color != c.color || got.Terminal && (got.Width != 132 || got.Resize() != 132) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if got := Detect(f, env("TERM", "xterm")); got.Terminal || got.Color {
		t.Errorf("a file is taken for a terminal: %+v", got)
	}
}

// screen is what a terminal of so many columns shows; it fails the test where
// a line of progress wraps.
func screen(t *testing.T, out string, columns int) []string {
	t.Helper()
	rows, open := []string{}, ""
	for len(out) > 0 {
		switch {
		case strings.HasPrefix(out, eraseLine):
			if w := displaywidth.String(open); w >= columns {
				t.Errorf("the progress line %q has %d columns of %d", open, w, columns)
			}
			open, out = "", out[len(eraseLine):]
		case out[0] == '\n':
			rows, open, out = append(rows, open), "", out[1:]
		default:
			_, n := utf8.DecodeRuneInString(out)
			open, out = open+out[:n], out[n:]
		}
	}
	if open != "" {
		t.Errorf("%q is left on the terminal", open)
	}
	return rows
}

func TestProgress(t *testing.T) {
	events := []wire.Event{
		begin(), start(three[0], titleRace), start(three[1], titleTables), balances(three[1]), sticks(three[1]),
		finish(three[1], wire.Fail, 0.63, ""), start(three[2], titleFilter), start("漢字/漢字漢字漢字漢字漢字", ""),
		finish(three[0], wire.Pass, 0.41, ""), finish(three[2], wire.Pass, 1.2, ""), finish("漢字/漢字漢字漢字漢字漢字", wire.Pass, 1, ""),
		end(2.1, wire.Counts{Labs: 4, Pass: 3, Fail: 1}),
	}
	for _, columns := range []int{1, 2, 3, 10, 20, 40, 80, 200} {
		opts := TextOptions{Labs: three, Terminal: true, Width: 500, Resize: func() int { return columns }}
		var b bytes.Buffer
		s := Text(&b, opts)
		var shown []string
		for _, e := range events {
			s.Event(e)
			line := b.String()
			line = line[max(strings.LastIndex(line, "\n"), strings.LastIndex(line, eraseLine)+len(eraseLine)-1)+1:]
			if len(shown) == 0 || shown[len(shown)-1] != line {
				shown = append(shown, line)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		screen(t, b.String(), columns)
		if columns == 40 || columns == 200 {
			golden(t, map[int]string{40: "progress-narrow", 200: "progress-wide"}[columns], []byte(strings.Join(shown, "\n")+"\n"))
		}
	}
}

// TestTerminalShowsTheSame: but for the progress line and fitted lines, a
// terminal shows what a file holds.
func TestTerminalShowsTheSame(t *testing.T) {
	events := []wire.Event{begin(), start("a", "A"), balances("a"), sticks("a"), finish("a", wire.Fail, 1, "")}
	file := string(render(t, TextOptions{}, events...))
	term := screen(t, string(render(t, TextOptions{Terminal: true, Width: 500}, events...)), 500)
	if d := cmp.Diff(file, strings.Join(term, "\n")+"\n"); d != "" {
		t.Error(d)
	}
}

func FuzzSanitize(f *testing.F) {
	for _, s := range []string{
		"", "plain", "a\tb\r\nc\n\n", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u009b31m", "\u202eabc\u2066", "\xff\xfe\xc3",
		"漢字\tx", "e\u0301\tx", "\u200d\ufe0f\U0001f469\u200d\U0001f467", "\u2028\u0085\x7f\x00", strings.Repeat("é", 3000), "\r\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check := func(kind, out string) {
			if !utf8.ValidString(out) {
				t.Fatalf("%s(%q) is not UTF-8: %q", kind, s, out)
			}
			if again := visible(out); again != out {
				t.Fatalf("%s(%q) = %q still has characters to hide: %q", kind, s, out, again)
			}
			for _, r := range out {
				if r < ' ' || r >= 0x7f && r < 0xa0 {
					t.Fatalf("%s(%q) keeps the control character %q", kind, s, r)
				}
			}
			if len(out) > 12*maxLine+100 {
				t.Fatalf("%s: %d bytes of %d", kind, len(out), len(s))
			}
		}
		check("inline", inline(s))
		check("shellWord", shellWord(inline(s)))
		for _, l := range lines(s) {
			check("lines", l)
			if w := fit(l, 20); displaywidth.String(w) > 20 {
				t.Fatalf("fit(%q, 20) = %q has %d columns", l, w, displaywidth.String(w))
			}
			if got := strings.Join(wrap(l, 20), " "); got != l {
				t.Fatalf("wrap(%q) gives back %q", l, got)
			}
		}
	})
}

// FuzzText puts the same hostile text everywhere: nothing of it may reach the
// terminal as a control character.
func FuzzText(f *testing.F) {
	f.Add("\x1b[2J\r\n\u009b", 30)
	f.Add("a\tb\n\n", 0)
	f.Add("漢\xff", 1)
	f.Fuzz(func(t *testing.T, s string, width int) {
		e := step(s, 1, wire.Verdict(s), 1, wire.Step{Index: 1, Of: 9, Name: s, Did: []string{s}, Error: s, Results: []wire.Result{
			{Check: s, Verdict: wire.Fail, Wanted: s, Seen: s, Evidence: []wire.Evidence{{Title: s, Text: s}}},
			{Check: s, Verdict: wire.Pass, Wanted: s, Seen: s},
		}})
		e.Pos.File = s
		opts := TextOptions{Labs: []string{s, "b"}, Terminal: true, Verbose: true, Width: width}
		out := string(render(t, opts, begin(), start(s, s), start("b", s), wire.Event{Kind: wire.Log, Message: s}, wire.Event{Kind: wire.Log, Lab: "b", Message: s},
			e, finish(s, wire.Verdict(s), 1, s), finish("b", wire.Skip, 1, s), wire.Event{Kind: wire.RunFinished, Message: s}))
		if width > 0 && width < 1000 {
			screen(t, out, width)
		}
		out = strings.ReplaceAll(strings.ReplaceAll(out, eraseLine, ""), "\n", "")
		if visible(out) != out {
			t.Fatalf("%q keeps control characters: %q", s, out)
		}
	})
}
