package machine

import (
	"fmt"
	"strings"
)

// GuestError is the end of a guest before its time: one that did not boot,
// panicked, was killed, or went silent.
type GuestError struct {
	// Kind of machine that it was on.
	Kind string
	// What happened, a sentence without its full stop.
	What string
	// Rung that the guest was on.
	Rung Rung
	// Console is the end of what the guest's console showed.
	Console string
	// Err is the cause where there is one, such as a context's.
	Err error
}

func (e *GuestError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "guest (%s, %s): %s", e.Kind, e.Rung, e.What)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Console == "" {
		b.WriteString("; its console showed nothing")
		return b.String()
	}
	b.WriteString("; its console showed:")
	for line := range strings.Lines(e.Console) {
		b.WriteString("\n  | " + strings.TrimRight(line, "\r\n"))
	}
	return b.String()
}

func (e *GuestError) Unwrap() error { return e.Err }
