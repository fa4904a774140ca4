// Package guest is PID 1 in a guest: it mounts what a lab needs, loads the
// modules that are asked for, speaks runner/wire with the host over a serial
// line, and powers off when the host goes away.
//
// Any program becomes a guest's init by calling Main or Become first thing in
// main, or in TestMain. The host boots the very program that is running, so both sides
// are always of one version.
package guest

import (
	"context"
	"os"
	"runtime"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
)

// Run carries out one job in the guest. ctx ends when the host closes the
// line. load loads kernel modules by name, with all that they depend on; one
// that is loaded or built in already is no error. emit sends an event to the
// host and may be called from several goroutines. A returned error reaches the
// host as the failure of the whole job.
type Run func(ctx context.Context, job wire.Job, load func(modules ...string) error, emit func(wire.Event)) error

// Up brings up the one lab of a job, to be kept until the host closes the line.
// ctx bounds the building of it, and ends when the host closes the line. load is
// Run's. A returned error reaches the host, and the guest can be given other
// jobs.
type Up func(ctx context.Context, job wire.Job, load func(modules ...string) error) (live.Lab, error)

// Jobs are what a guest can be asked to do. A nil one is refused.
type Jobs struct {
	Run Run
	Up  Up
}

// The init's main goroutine stays on the thread that started the process: the
// kernel gives orphans to that thread, and reap counts on it.
func init() {
	if isInit() {
		runtime.LockOSThread()
	}
}

func isInit() bool { return len(os.Args) > 1 && os.Args[1] == wire.InitArg }

// Main is Become for a guest that runs jobs and keeps no lab up.
func Main(run Run) { Become(Jobs{Run: run}) }

// Become returns at once, unless the program was started to play one of lvslab's
// own roles: the init of a guest, what runs labs in the machine's own kernel
// without root, or one of the helpers that start these (see machine.Intercept).
// It then takes over and never returns.
func Become(jobs Jobs) {
	machine.Intercept()
	if isInit() {
		boot(jobs)
	}
	if isHere() {
		bootHere()
	}
}
