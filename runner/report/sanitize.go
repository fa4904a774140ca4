package report

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// maxLine bounds one line of somebody else's text, in bytes.
const maxLine = 2000

// tabStop is what terminals use, and what the tables of commands expect.
const tabStop = 8

// inline makes text safe to stand within a line: a line break becomes a
// visible \n, a tab a space.
func inline(s string) string {
	s = strings.TrimRight(s, "\r\n")
	return visible(strings.ReplaceAll(clip(s), "\t", " "))
}

// lines splits text into lines that are safe to print, without the blank ones
// at its end. Tabs are expanded, since the text will be indented.
func lines(s string) []string {
	s = strings.TrimRight(s, "\r\n\t ")
	if s == "" {
		return nil
	}
	out := strings.Split(s, "\n")
	for i, l := range out {
		out[i] = strings.TrimRight(expandTabs(clip(strings.TrimRight(l, "\r"))), " ")
	}
	return out
}

// clip bounds the length of a line.
func clip(s string) string {
	if len(s) <= maxLine {
		return s
	}
	cut := maxLine
	for cut > maxLine-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s … %d more bytes", s[:cut], len(s)-cut)
}

func expandTabs(s string) string {
	if !strings.Contains(s, "\t") {
		return visible(s)
	}
	var b strings.Builder
	col := 0
	for i, part := range strings.Split(s, "\t") {
		if i > 0 {
			pad := tabStop - col%tabStop
			b.WriteString(strings.Repeat(" ", pad))
			col += pad
		}
		part = visible(part)
		b.WriteString(part)
		col += displaywidth.String(part)
	}
	return b.String()
}

// visible replaces every character that a terminal might obey, or that shows
// nothing, by its escape as Go writes it (\x1b, \u202e), and every byte that is
// not UTF-8 by U+FFFD. What is left moves no cursor, sets no colour and hides
// nothing: letters, marks, digits, punctuation, symbols and the space.
func visible(s string) string {
	clean := func(r rune) bool { return strconv.IsPrint(r) && r != utf8.RuneError }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s {
		switch {
		case clean(r), r == utf8.RuneError:
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// fit cuts a sanitised line to a number of columns.
func fit(s string, columns int) string {
	if columns < 1 {
		return ""
	}
	return displaywidth.TruncateString(s, columns, "…")
}

// wrap breaks a sanitised line between words so that each piece has at most so
// many columns; a word that is longer stays whole. 0 columns means no limit.
func wrap(s string, columns int) []string {
	if columns <= 0 || displaywidth.String(s) <= columns {
		return []string{s}
	}
	var out []string
	var line strings.Builder
	used, begun, text := 0, false, false // text: there is more than an indent
	for word := range strings.SplitSeq(s, " ") {
		w := displaywidth.String(word)
		switch {
		case text && used+1+w > columns:
			out = append(out, line.String())
			line.Reset()
			used, text = 0, false
		case begun:
			line.WriteByte(' ')
			used++
		}
		line.WriteString(word)
		used += w
		begun, text = true, text || w > 0
	}
	return append(out, line.String())
}

// pad fills a sanitised word up to a number of columns.
func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(0, columns-displaywidth.String(s)))
}

// shellWord quotes a sanitised word for a shell where it needs that.
func shellWord(s string) string {
	safe := func(r rune) bool {
		return r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+=,", r))
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// commandLine is a line that begins as a command of GitHub's runner does, which
// skips the blanks before it; "##[" is one anywhere in a line
// (ActionCommand.cs of github.com/actions/runner).
var commandLine = regexp.MustCompile(`(?m)^([ \t]*):(:)|#(#\[)`)

// defused puts a blank into whatever the runner would take for a command.
func defused(text []byte) []byte {
	return commandLine.ReplaceAllFunc(text, func(m []byte) []byte {
		at := len(m) - 1
		if m[0] == '#' {
			at = 1
		}
		return slices.Concat(m[:at], []byte(" "), m[at:])
	})
}
