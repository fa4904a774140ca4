package uml

import (
	"context"
	"errors"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/machine"
)

// Answer is what a probe came to. There are three, because not knowing is not
// a no.
type Answer int

// The answers.
const (
	Unknown Answer = iota
	No
	Yes
)

func (a Answer) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not tell"
}

// Finding is what Probe found.
type Finding struct {
	// Rungs are all of them, highest first.
	Rungs []RungFinding
	// Auto is the rung that Boot takes when asked for Auto; Auto itself where
	// there is none.
	Auto Rung
}

// RungFinding is what a probe of one rung came to.
type RungFinding struct {
	Rung   Rung
	Answer Answer
	// Why says what the rung gives, or what keeps it from being had.
	Why string
	// Boot is how long the guest took to its first word; 0 unless Answer is
	// Yes.
	Boot time.Duration
}

// Probe boots a guest on every rung and tells which of them this machine
// allows. It takes some 150 ms a rung that works.
func Probe(ctx context.Context, k kernel.Kernel) Finding {
	var f Finding
	for _, r := range machine.Rungs() {
		rf := probeRung(ctx, k, r)
		if rf.Answer == Yes && f.Auto == Auto {
			f.Auto = r
		}
		f.Rungs = append(f.Rungs, rf)
	}
	return f
}

func probeRung(ctx context.Context, k kernel.Kernel, r Rung) RungFinding {
	begin := time.Now()
	s, err := Boot(ctx, Config{Kernel: k, Rung: r})
	if err == nil {
		took := time.Since(begin)
		s.Close()
		return RungFinding{Rung: r, Answer: Yes, Why: r.Gives(), Boot: took}
	}
	rf := RungFinding{Rung: r, Why: err.Error()}
	var denied *machine.DeniedError
	var dead *GuestError
	switch {
	case ctx.Err() != nil:
		rf.Why = "the probe was stopped: " + context.Cause(ctx).Error()
	case errors.As(err, &denied):
		rf.Answer, rf.Why = No, denied.Why
	case errors.As(err, &dead):
		rf.Answer = No
	}
	return rf
}
