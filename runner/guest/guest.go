// Package guest is PID 1 in a guest: it mounts what a lab needs, loads the
// modules that are asked for, speaks runner/wire with the host over a serial
// line, and powers off when the host goes away.
//
// Any program becomes a guest's init by calling Main first thing in main, or
// in TestMain. The host boots the very program that is running, so both sides
// are always of one version.
package guest

import (
	"context"
	"os"
	"runtime"

	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
)

// Run carries out one job in the guest. ctx ends when the host closes the
// line. load loads kernel modules by name, with all that they depend on; one
// that is loaded or built in already is no error. emit sends an event to the
// host and may be called from several goroutines. A returned error reaches the
// host as the failure of the whole job.
type Run func(ctx context.Context, job wire.Job, load func(modules ...string) error, emit func(wire.Event)) error

// The init's main goroutine stays on the thread that started the process: the
// kernel gives orphans to that thread, and reap counts on it.
func init() {
	if isInit() {
		runtime.LockOSThread()
	}
}

func isInit() bool { return len(os.Args) > 1 && os.Args[1] == wire.InitArg }

// Main returns at once, unless the program was started to play one of lvslab's
// own roles: the init of a guest, or one of the helpers that start a guest
// (see machine.Intercept). It then takes over and never returns.
func Main(run Run) {
	machine.Intercept()
	if isInit() {
		boot(run)
	}
}
