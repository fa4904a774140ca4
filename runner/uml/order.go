package uml

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/uml/warm"
	"github.com/lvslab/lvslab/runner/wire"
)

// launchArg is the first argument by which this program becomes a supervisor.
const launchArg = "lvslab-uml-launch"

// File descriptors that the supervisor inherits.
const (
	controlFd = 3
	lineFd    = 4
)

// order is what a supervisor is told, as its second argument.
type order struct {
	Rung  Rung
	Image string
	// Self and Modules are where the links in the work folder lead.
	Self, Modules string
	Mem           int64
	// Places are where to make the work folder on Bare, best first.
	Places []string `json:",omitempty"`
	// CPU to pin to; negative for none.
	CPU int
}

// report is what a supervisor says over its control socket, one packet each.
type report struct {
	// Ready comes with the work folder as a file descriptor.
	Ready bool `json:",omitempty"`
	// Note is a line for the log.
	Note string `json:",omitempty"`
	// Denied says why this rung cannot be had.
	Denied string `json:",omitempty"`
	// Started is the kernel's process, as the supervisor numbers it.
	Started int `json:",omitempty"`
	// Failed says why the kernel could not be started.
	Failed string `json:",omitempty"`
	// Exited says how the kernel ended: "exit status 1".
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

// commandLine is the kernel's. Each part that speeds the boot was measured:
// lpj spares the calibration of a delay loop, the blacklisted initcall is a
// benchmark, legacy pseudo-terminals are 256 device nodes. init and the work
// folder are without blanks: the kernel splits at them.
func commandLine(o order, work string) []string {
	return []string{
		fmt.Sprintf("mem=%dM", o.Mem>>20),
		"rootfstype=hostfs", "rootflags=/", "ro",
		// The work folder may be below /dev, so the init mounts it itself.
		"devtmpfs.mount=0",
		"init=" + work + "/init",
		"con=null", "con0=null,fd:1",
		"ssl=null", "ssl0=fd:3,fd:3",
		"uml_dir=" + work + "/", "umid=uml",
		"quiet", "lpj=18390000", "initcall_blacklist=raid6_select_algo", "pty.legacy_count=0",
		"selinux=0", "apparmor=0", "audit=0",
		// Words that the kernel does not know become the init's environment. A
		// collection costs a guest more than the memory that it wins.
		"GOGC=off", "GOMEMLIMIT=128MiB", "GOMAXPROCS=1", warm.Env + "=1",
		"--", wire.InitArg, work,
	}
}

// explain finds the usual reasons in what the console showed.
func explain(console string) string {
	for _, known := range []struct{ sign, means string }{
		{"check_ptrace", "ptrace is blocked here (a container's seccomp profile, or kernel.yama.ptrace_scope=3): allow it, for Docker with --cap-add=SYS_PTRACE or --security-opt seccomp=unconfined"},
		{"must be not mounted noexec", "the folder for the guest's memory is mounted noexec: set TMPDIR to one that is not"},
		{"ThreadSanitizer", "this program was built with -race, for which User-Mode Linux has not the addresses: let Config.Self be a build without"},
		{"Segfault with no mm", "the kernel could not use its work folder or its memory: a full disk, or too small a tmpfs"},
		{"Attempted to kill init", "the guest's init ended, and with it the guest's kernel"},
		{"Kernel panic", "the guest's kernel panicked"},
	} {
		if strings.Contains(console, known.sign) {
			return known.means
		}
	}
	return ""
}

// patience is how long helpers may take for what takes milliseconds.
const patience = 5 * time.Second
