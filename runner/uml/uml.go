// Package uml boots guests on User-Mode Linux, a Linux kernel that is an
// ordinary program, and runs jobs in them.
//
// Boot starts three things: a supervisor (this very program, started again with
// an explicit argument), the kernel under it, and in the kernel this program
// once more as PID 1 (runner/guest). The supervisor gives the kernel as much
// isolation as the machine allows, see Rung, and ends with lvslab whatever
// happens to that: its control socket then reads as closed. Where namespaces
// are allowed nothing of a guest is ever on the host's disk; the work folder
// is a tmpfs that only the guest's own mount namespace holds.
//
// The package never imports the engine: what runs in the guest is the business
// of the program that called guest.Main.
package uml

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
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

// Rung is a degree of isolation. Each promises that a guest cannot write the
// host's files and that SIGKILL of lvslab leaves nothing.
type Rung int

const (
	// Auto is the highest rung that works.
	Auto Rung = iota
	// Root: PID and mount namespaces, made by a privileged user.
	Root
	// UserNS: the same inside a user namespace, for anybody.
	UserNS
	// Bare: no namespaces. Landlock keeps the kernel's hands off the host's
	// files where this machine's kernel has it; the supervisor kills what is
	// left.
	Bare
)

// rungs are all but Auto, highest first.
var rungs = [...]Rung{Root, UserNS, Bare}

func (r Rung) String() string {
	switch r {
	case Auto:
		return "auto"
	case Root:
		return "root"
	case UserNS:
		return "userns"
	case Bare:
		return "bare"
	}
	return fmt.Sprintf("Rung(%d)", int(r))
}

// GuestError is the end of a guest before its time: one that did not boot,
// panicked, was killed, or went silent.
type GuestError struct {
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
	fmt.Fprintf(&b, "guest (User-Mode Linux, %s): %s", e.Rung, e.What)
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
