package topology

import (
	"fmt"
	"strings"
	"unicode"
)

// Quote is s as one word of a POSIX shell. Everything that comes from a lab
// file and is not known to be harmless goes through it on its way into a Shell
// line. What a terminal would not show (control characters, marks that turn the
// direction of text) is written in octal, so that a script reads as it runs; a
// word with such characters loses newlines at its end.
func Quote(s string) string {
	if s != "" && strings.Trim(s, plainChars) == "" {
		return s
	}
	if !strings.ContainsFunc(s, hidden) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	// The operand of %b (printf in POSIX) knows \\ and \0ooo.
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(plainChars+" ", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\0%03o`, c)
		}
	}
	return `"$(printf %b '` + b.String() + `')"`
}

// plainChars mean nothing to a shell, wherever in a word they are.
const plainChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"

// hidden characters are those that cannot be seen, newline and tab aside.
func hidden(r rune) bool {
	return r == unicode.ReplacementChar || r != '\n' && r != '\t' && !unicode.IsPrint(r)
}
