// Package machine starts the program that is, or that runs, a guest's kernel,
// and talks with what runs in the guest. Which program and with which arguments
// is the business of a backend: User-Mode Linux and QEMU are such.
//
// Boot starts three things: a supervisor (this very program, started again with
// an explicit argument), the machine under it, and in the machine this program
// once more as PID 1 (runner/guest). The supervisor gives the machine as much
// isolation as the host allows, see Rung, and ends with lvslab whatever happens
// to that: its control socket then reads as closed. Where namespaces are allowed
// nothing of a guest is ever on the host's disk; the work folder is a tmpfs that
// only the guest's own mount namespace holds.
//
// The package never imports the engine: what runs in the guest is the business
// of the program that called guest.Main.
package machine

import (
	"context"
	"io"
	"os"
	"time"
)

// Work stands, in Spec.Args, for the absolute path of the work folder, which has
// no blank in it. The guest sees the folder under the same path.
const Work = "\x01work\x01"

// Spec says which machine to start and how. All of it must be filled in but
// where a default is named.
type Spec struct {
	// Kind is the machine's name for people: "User-Mode Linux".
	Kind string
	// Program is the absolute path of what to start, Args are its arguments.
	// It inherits the line to the guest, one end of a pair of stream sockets,
	// as file descriptor 3, and Files from 4 on; what it writes to its
	// standard streams is the guest's console.
	Program string
	Args    []string
	// Env is its environment, beside PATH and TMPDIR, which is the work folder.
	Env   []string
	Files []*os.File
	// Self is the program to run as the supervisor, to which the link "init"
	// in the work folder leads. It must call guest.Main. Default:
	// os.Executable.
	Self string
	// Modules is the folder of the guest's kernel modules, to which the link
	// "modules" in the work folder leads.
	Modules string
	// Needed are further paths that the isolation must leave in sight.
	Needed []string
	// Devices are those that the machine writes to, beside /dev/null and the like.
	Devices []string
	// Room is how many bytes the work folder must have free.
	Room int64
	// Pin gives the machine a CPU of its own, as far as there are any.
	Pin bool
	// SameAddresses turns the randomising of addresses off (personality(2)).
	SameAddresses bool
	// WorkDir is where Bare makes its folder. It must be writable, not mounted
	// noexec, and have Room. Default: the first that is so of /dev/shm,
	// $TMPDIR, $XDG_RUNTIME_DIR, /tmp, /var/tmp. The other rungs use no folder.
	WorkDir string
	// Rung is the isolation wanted; Auto takes the highest that works.
	Rung Rung
	// Before, unless nil, has the line to the guest for itself before the guest's
	// first word, and is told the path of the work folder. Its reads and writes
	// fail when ctx ends or BootTimeout has passed. An error of it ends the boot.
	Before func(ctx context.Context, line *os.File, work string) error
	// BootTimeout bounds the time to the guest's first word.
	BootTimeout time.Duration
	// Silence is how long a guest may say nothing, heartbeats included.
	Silence time.Duration
	// Explain finds the reason of a guest's end in what its console showed, a
	// clause without its full stop; "" is none.
	Explain func(console string) string
	// Log receives lines for a person who asked for more; nil means none.
	Log io.Writer
}
