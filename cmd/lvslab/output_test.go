package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, 日本": "plain text, 日本",
		"\x1b[31mred":    `\x1b[31mred`,
		"a\nb\tc":        `a\nb\tc`,
		"\u202eabc":      `\u202eabc`,
		"bad \xff byte":  `bad \xff byte`,
		"kept \ufffd":    `kept \ufffd`,
		"\u009b31m":      `\u009b31m`,
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff\ufffd")
	f.Fuzz(func(t *testing.T, s string) {
		got := visible(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
			t.Errorf("visible(%q) = %q", s, got)
		}
		if again := visible(got); again != got {
			t.Errorf("visible(visible(%q)) = %q", s, again)
		}
	})
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"dr/arptables": "dr/arptables",
		"my lab.yaml":  "'my lab.yaml'",
		"it's":         `'it'\''s'`,
		"":             "''",
		"$HOME":        "'$HOME'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	text := strings.Repeat("four ", 40) + strings.Repeat("x", 200)
	pieces := fold(text, 60)
	for _, p := range pieces[:len(pieces)-1] {
		if len(p) > 60 {
			t.Errorf("%d columns: %q", len(p), p)
		}
	}
	if got := strings.Join(pieces, " "); got != text {
		t.Errorf("fold lost words: %q", got)
	}
	if got := fold("", 60); len(got) != 1 || got[0] != "" {
		t.Errorf("fold of nothing = %q", got)
	}
}

// A writer that fails ends the verb and is told once.
func TestOutlet(t *testing.T) {
	ended := 0
	o := &outlet{w: failing{}, full: func() { ended++ }}
	for range 3 {
		if _, err := o.Write([]byte("x")); !errors.Is(err, errFull) {
			t.Errorf("Write: %v", err)
		}
	}
	if ended != 1 {
		t.Errorf("the verb was ended %d times", ended)
	}
	var errs strings.Builder
	if got := Main(context.Background(), []string{"version"}, os.Stdin, failing{}, &errs); got != exitBroken {
		t.Errorf("exit status %d, want %d", got, exitBroken)
	}
	if want := "lvslab: writing to standard output: full\n"; errs.String() != want {
		t.Errorf("stderr %q, want %q", errs.String(), want)
	}
	// The status of a program in a node is never mistaken for lvslab's.
	a := &app{out: o, err: &errs, exit: exitNoProgram}
	if got := a.status(nil); got != exitNoProgram {
		t.Errorf("exit status of exec %d, want %d", got, exitNoProgram)
	}
}

// A folder that a crash of the machine has left empty tells nothing of its lab.
func TestPsOfNothing(t *testing.T) {
	var out strings.Builder
	a := &app{out: &outlet{w: &out, full: func() {}}}
	a.printPs([]keeper.Entry{{Info: live.Info{Name: "old"}, Err: &keeper.DeadError{}}})
	want := "LAB  AGE  NODES  KERNEL  HEALTH\nold  -    -      -       dead: its keeper was killed, or the machine was started anew\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
