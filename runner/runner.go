// Package runner runs labs: it chooses the backend, the kernel that labs run
// in, hands it a job, sees to it that every lab comes to a verdict, and passes
// on what happens as events.
package runner

import (
	"context"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// Verdict is an answer to "can this be done here?".
type Verdict int

// The three answers.
const (
	// Unknown: it could not be told.
	Unknown Verdict = iota
	Yes
	No
)

func (v Verdict) String() string {
	switch v {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not tell"
}

// Answer says whether a backend can do something, and if not, why not.
type Answer struct {
	Verdict Verdict
	// Why is a clause without its full stop.
	Why string
	// Lacks are the features that are not there, where that is the reason.
	Lacks []string
	// Partly, with No: labs that need none of what it lacks can run.
	Partly bool
	// Fix are the commands that would change a No, if any would.
	Fix []string
}

// Backend is a kernel that labs can run in.
type Backend interface {
	// Name is the word of --kernel: "host", "uml".
	Name() string
	// Can says whether labs that need these features can run, as far as that
	// can be told without booting anything.
	Can(ctx context.Context, needs []topology.Feature) Answer
	// Boot makes the kernel ready for jobs.
	Boot(ctx context.Context) (Session, error)
}

// Session is a kernel that is ready.
type Session interface {
	// Run carries out a job. It returns nil when every lab's fate has been
	// told by events, and an error when the kernel ended before that.
	Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error
	// Up brings up the one lab of a job and returns when it is ready. The lab
	// lives until the session ends; ctx bounds the building of it alone. A guest
	// that keeps a lab up takes no other job.
	Up(ctx context.Context, job wire.Job) (live.Lab, error)
	// Ended is closed when the kernel has ended, by itself or by Close, or has
	// gone silent: no lab lives in it then.
	Ended() <-chan struct{}
	// Err is how it ended, once Ended is closed; nil before.
	Err() error
	// Kernel is the kernel's release, and what it is: "Linux 6.1.176 (User-Mode
	// Linux)".
	Kernel() string
	// Close ends it and returns when nothing is left.
	Close() error
}
