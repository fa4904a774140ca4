package scenarios

import (
	"fmt"
	"strings"
)

// validName says what nodes, networks and services may be called: it becomes
// part of device names and of commands, and never a path. Written by hand, as
// the other checks of names are, since a regular expression is compiled at every
// start of the program, and in a guest that is felt.
func validName(s string) bool {
	return len(s) <= 31 && s != "" && lower(s[0]) && only(s, func(c byte) bool { return lower(c) || digit(c) || c == '-' })
}

const nameRule = "a name is small letters, digits and dashes, begins with a letter and has at most 31 characters"

// validDevice says what a device may be called; the kernel's rule is
// dev_valid_name (net/core/dev.c), ours is narrower. A dot is for names as VLANs
// have them (bond0.7).
func validDevice(s string) bool {
	letter := func(c byte) bool { return lower(c) || 'A' <= c && c <= 'Z' }
	return len(s) <= 15 && s != "" && letter(s[0]) &&
		only(s, func(c byte) bool { return letter(c) || digit(c) || c == '-' || c == '_' || c == '.' })
}

const deviceRule = "letters, digits, -, _ and dots, at most 15, beginning with a letter"

// CheckName reports whether a lab may be called so: words with slashes between.
func CheckName(s string) error {
	words := strings.Split(s, "/")
	for _, w := range words {
		if w == "" || len(w) > 63 || !lower(w[0]) && !digit(w[0]) ||
			!only(w, func(c byte) bool { return lower(c) || digit(c) || c == '-' || c == '_' }) || len(words) > 4 {
			return fmt.Errorf("%q cannot be the name of a lab: small letters, digits, dashes and underscores, with / between chapters", s)
		}
	}
	return nil
}

func lower(c byte) bool { return 'a' <= c && c <= 'z' }
func digit(c byte) bool { return '0' <= c && c <= '9' }

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
