// Package report turns the events of a run into what a person reads and into
// what a program reads: Text, and JSON, JUnit, TAP, GitHub and Artifacts.
// ReadEvents reads again what JSON has written, and Merge makes one run of several.
//
// A report is made for three moments. While the run goes on, one line on the
// terminal says what is running. When a lab has ended, a line tells its
// verdict, and below a lab that did not pass stand its steps, what was wanted,
// what the kernel did, and the evidence. At the end, one line counts, and below
// it stands the command that runs again what did not pass.
//
// Everything that comes from a lab file or from a kernel (titles, output of
// commands, the console of a guest) is taken as hostile: see sanitize.go.
package report

import (
	"fmt"
	"io"

	"github.com/lvslab/lvslab/runner/wire"
)

// Sink takes the events of one run in the order in which they happened. It may
// be called from several goroutines.
//
// Event reports no error, so that a closed pipe does not end a run half-way: a
// Sink keeps the first error of writing, EPIPE included, writes no more, and
// returns that error from Close. On standard output the Go runtime kills the
// process at EPIPE unless the program asked for SIGPIPE (os/signal).
type Sink interface {
	Event(wire.Event)
	// Close ends the report. It leaves the writer open.
	Close() error
}

// Exit statuses of a run. 2 (wrong usage, an invalid lab file) and 130
// (interrupted) belong to the caller.
const (
	ExitPass   = 0
	ExitFail   = 1
	ExitBroken = 3
)

// ExitCode is the exit status for what a run came to: broken outranks failed,
// and a skipped lab is a failure only when strict.
//
// Counts that do not add up, and counts of no lab at all, are broken: such a
// run has shown nothing. A caller that was given no lab to run says so before
// it runs anything, with the status of wrong usage.
func ExitCode(c wire.Counts, strict bool) int {
	switch {
	case c.Broken > 0, c.Labs == 0, c.Pass+c.Fail+c.Broken+c.Skip != c.Labs:
		return ExitBroken
	case c.Fail > 0, strict && c.Skip > 0:
		return ExitFail
	}
	return ExitPass
}

// output writes until the first error, and keeps that.
type output struct {
	w   io.Writer
	err error
}

func (o *output) write(p []byte) {
	if o.err != nil || len(p) == 0 {
		return
	}
	n, err := o.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if f, ok := o.w.(interface{ Flush() error }); ok && err == nil {
		err = f.Flush()
	}
	if err != nil {
		o.err = fmt.Errorf("writing the report: %w", err)
	}
}
