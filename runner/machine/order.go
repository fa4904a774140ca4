package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// launchArg is the first argument by which this program becomes a supervisor.
const launchArg = "lvslab-machine-launch"

// File descriptors that the supervisor inherits.
const (
	controlFd   = 3
	lineFd      = 4
	firstFileFd = 5
)

// order is what a supervisor is told, as its second argument. Most fields are
// those of Spec.
type order struct {
	Rung    Rung
	Program string
	Args    []string
	Env     []string `json:",omitempty"`
	// Self and Modules are where the links in the work folder lead.
	Self, Modules string
	Needed        []string `json:",omitempty"`
	Room          int64
	// Places are where to make the work folder on Bare, best first.
	Places []string `json:",omitempty"`
	// CPU to pin to; negative for none.
	CPU           int
	SameAddresses bool `json:",omitempty"`
	// Files is how many are inherited for the machine.
	Files int `json:",omitempty"`
	// Devices are those that the machine writes to, beside /dev/null and the like.
	Devices []string `json:",omitempty"`
}

// report is what a supervisor says over its control socket, one packet each.
type report struct {
	// Ready comes with the work folder as a file descriptor; Work is its path.
	Ready bool   `json:",omitempty"`
	Work  string `json:",omitempty"`
	// Note is a line for the log.
	Note string `json:",omitempty"`
	// Denied says why this rung cannot be had.
	Denied string `json:",omitempty"`
	// Started is the machine's process, as the supervisor numbers it.
	Started int `json:",omitempty"`
	// Failed says why the machine could not be started.
	Failed string `json:",omitempty"`
	// Exited says how the machine ended: "exit status 1".
	Exited string `json:",omitempty"`
}

// Intercept returns at once, unless the program was started as a supervisor;
// it then never returns. guest.Main calls it.
func Intercept() {
	if len(os.Args) != 3 || os.Args[1] != launchArg {
		return
	}
	var o order
	if err := json.Unmarshal([]byte(os.Args[2]), &o); err != nil {
		fmt.Fprintf(os.Stderr, "%s is for lvslab's own use: %v\n", os.Args[1], err)
		os.Exit(2)
	}
	os.Exit(supervise(o))
}

// helper reports whether this process was meant to be a supervisor or an init,
// in a program that does not call guest.Main.
func helper() bool {
	return len(os.Args) > 1 && (os.Args[1] == launchArg || os.Args[1] == wire.InitArg)
}

// Supervised reports whether this process was started by a supervisor that is the
// first process of a PID namespace: then its mounts are its own, too.
func Supervised() bool {
	line, err := os.ReadFile("/proc/1/cmdline")
	words := strings.Split(string(line), "\x00")
	return err == nil && os.Getppid() == 1 && len(words) > 1 && words[1] == launchArg
}

// patience is how long helpers may take for what takes milliseconds.
const patience = 5 * time.Second
