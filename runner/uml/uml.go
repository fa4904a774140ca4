// Package uml boots guests on User-Mode Linux, a Linux kernel that is an
// ordinary program, and runs jobs in them. How the program is started and kept
// in check is package machine's.
package uml

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/machine"
)

// Defaults of Config.
const (
	// DefaultMem is enough for a lab of some hundred nodes; a guest touches 70
	// to 90 MB of it.
	DefaultMem = 256 << 20
	// DefaultBootTimeout is 200 times what a boot takes on a quiet machine.
	DefaultBootTimeout = 20 * time.Second
	// DefaultSilence is fifteen heartbeats of a guest.
	DefaultSilence = 30 * time.Second
)

// Config says what to boot and how.
type Config struct {
	Kernel kernel.Kernel
	// Self is the program to run as the supervisor and as the guest's init. It
	// must call guest.Main. Default: os.Executable.
	Self string
	// Mem is the guest's memory in bytes; 0 means DefaultMem.
	Mem int64
	// WorkDir is where Bare makes its folder. It must be writable, not mounted
	// noexec, and have room for Mem. Default: the first that is so of
	// /dev/shm, $TMPDIR, $XDG_RUNTIME_DIR, /tmp, /var/tmp. The other rungs use
	// no folder.
	WorkDir string
	// Rung is the isolation wanted; Auto takes the highest that works.
	Rung Rung
	// BootTimeout bounds the time to the guest's first word; 0 means
	// DefaultBootTimeout.
	BootTimeout time.Duration
	// Silence is how long a guest may say nothing, heartbeats included; 0
	// means DefaultSilence.
	Silence time.Duration
	// Log receives lines for a person who asked for more; nil means none.
	Log io.Writer
}

// Names of package machine's for those who boot User-Mode Linux.
type (
	// Rung is a degree of isolation.
	Rung = machine.Rung
	// Session is a booted guest.
	Session = machine.Session
	// GuestError is the end of a guest before its time.
	GuestError = machine.GuestError
)

// The rungs, as package machine has them.
const (
	Auto   = machine.Auto
	Root   = machine.Root
	UserNS = machine.UserNS
	Bare   = machine.Bare
)

// Boot starts a guest and returns when it has said its first word. ctx bounds
// the boot, not the session's life. The error is a *GuestError where a guest
// was started and came to nothing.
func Boot(ctx context.Context, c Config) (*Session, error) {
	if c.Kernel.Image == "" {
		return nil, errors.New("no kernel given to boot")
	}
	if c.Mem == 0 {
		c.Mem = DefaultMem
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = DefaultBootTimeout
	}
	if c.Silence == 0 {
		c.Silence = DefaultSilence
	}
	return machine.Boot(ctx, machine.Spec{
		Kind: kind, Program: c.Kernel.Image, Args: commandLine(c.Mem), Self: c.Self, Modules: c.Kernel.Modules,
		// The guest's memory is a file in the work folder, unlinked as soon as
		// it is made.
		Room: c.Mem, Pin: true, SameAddresses: true, WorkDir: c.WorkDir, Rung: c.Rung,
		BootTimeout: c.BootTimeout, Silence: c.Silence, Explain: explain, Log: c.Log,
	})
}

// kind is the machine's name for people.
const kind = "User-Mode Linux"
