package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/pflag"

	"github.com/lvslab/lvslab/topology/source"
)

// outlet is standard output. It keeps the first error of writing, so that no
// verb has to look, and ends what the verb is doing then: nobody would see it.
type outlet struct {
	w    io.Writer
	full func()
	err  error
}

func (o *outlet) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = err
		o.full()
	}
	return n, err
}

// file is standard output where it is a file, which a terminal is too.
func (o *outlet) file() (*os.File, bool) {
	f, ok := o.w.(*os.File)
	return f, ok
}

// The words of --format.
const (
	formatText = "text"
	formatJSON = "json"
)

// formatFlag is --format, which refuses any other word while flags are parsed.
type formatFlag string

func addFormat(f *pflag.FlagSet, usage string) *formatFlag {
	format := formatFlag(formatText)
	f.Var(&format, "format", usage)
	return &format
}

func (f *formatFlag) String() string { return string(*f) }
func (f *formatFlag) Type() string   { return "format" }

func (f *formatFlag) Set(s string) error {
	if s != formatText && s != formatJSON {
		return errors.New(source.Unknown("format", s, []string{formatText, formatJSON}))
	}
	*f = formatFlag(s)
	return nil
}

// jsonVersion is that of the documents that verbs print with --format json,
// but for run, whose events have wire.Version.
const jsonVersion = 1

// printJSON prints one indented document.
func (a *app) printJSON(doc any) error {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, string(data))
	return nil
}

// visible replaces what a terminal might obey, or would not show, by its
// escape: titles, names and errors come from files that anybody wrote.
func visible(s string) string {
	clean := func(r rune) bool { return strconv.IsPrint(r) && r != utf8.RuneError }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case clean(r):
			b.WriteRune(r)
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// widest is how many columns the widest of some words takes.
func widest(words ...string) int {
	w := 0
	for _, s := range words {
		w = max(w, displaywidth.String(s))
	}
	return w
}

// pad fills a word up to so many columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-displaywidth.String(s)))
}

// plural is "1 step", "2 steps".
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
