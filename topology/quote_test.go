package topology_test

import (
	"os/exec"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/lvslab/lvslab/topology"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "''",
		"net.ipv4.x=1":       "net.ipv4.x=1",
		"a b":                "'a b'",
		"it's":               `'it'\''s'`,
		"$(x) `y` \"z\" \\":  "'$(x) `y` \"z\" \\'",
		"two\nlines":         "'two\nlines'",
		"red \x1b[31m 'it' ": `"$(printf %b 'red \0033\013331m \0047it\0047 ')"`,
	} {
		if got := topology.Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, wanted %s", in, got, want)
		}
		// What a shell makes of it is the word itself.
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+topology.Quote(in)).Output()
		if err != nil || string(out) != in {
			t.Errorf("sh reads Quote(%q) as %q (%v)", in, out, err)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", "a b", "'", "\\", "\n", "$(x)", "\x1b", "\xff", "é", "\u202e", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := topology.Quote(s)
		file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader("echo "+q), "")
		if err != nil {
			t.Fatalf("Quote(%q) = %s: %v", s, q, err)
		}
		if len(file.Stmts) != 1 {
			t.Fatalf("Quote(%q) = %s is %d commands", s, q, len(file.Stmts))
		}
		if c, ok := file.Stmts[0].Cmd.(*syntax.CallExpr); !ok || len(c.Args) != 2 {
			t.Fatalf("Quote(%q) = %s is not one word", s, q)
		}
	})
}
