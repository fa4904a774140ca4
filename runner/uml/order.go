package uml

import (
	"fmt"
	"strings"

	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/uml/warm"
	"github.com/lvslab/lvslab/runner/wire"
)

// commandLine is the kernel's. Each part that speeds the boot was measured:
// lpj spares the calibration of a delay loop, the blacklisted initcall is a
// benchmark, legacy pseudo-terminals are 256 device nodes. init and the work
// folder are without blanks: the kernel splits at them.
func commandLine(mem int64) []string {
	return []string{
		fmt.Sprintf("mem=%dM", mem>>20),
		"rootfstype=hostfs", "rootflags=/", "ro",
		// The work folder may be below /dev, so the init mounts it itself.
		"devtmpfs.mount=0",
		"init=" + machine.Work + "/init",
		"con=null", "con0=null,fd:1",
		"ssl=null", "ssl0=fd:3,fd:3",
		"uml_dir=" + machine.Work + "/", "umid=uml",
		"quiet", "lpj=18390000", "initcall_blacklist=raid6_select_algo", "pty.legacy_count=0",
		"selinux=0", "apparmor=0", "audit=0",
		// Words that the kernel does not know become the init's environment. A page
		// that is touched for the first time costs a guest more than to collect
		// one; a single lab comes to its end before the first collection.
		"GOGC=200", "GOMEMLIMIT=128MiB", "GOMAXPROCS=1", warm.Env + "=1",
		"--", wire.InitArg, machine.Work,
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
