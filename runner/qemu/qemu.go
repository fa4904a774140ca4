// Package qemu boots guests on QEMU, with the generic kernel that Debian ships
// for PCs, and runs jobs in them. That kernel has what User-Mode Linux lacks; it
// boots in seconds and not in milliseconds where the processor is emulated (TCG).
// KVM is used where a real boot has proved it, for a /dev/kvm that opens proves
// nothing. A guest is kept as it was right before it became somebody's, and the
// next ones start from that (Config.Cache).
//
// The guest sees the machine's own files, read-only, through 9p, and this very
// program is its init. How QEMU is started and kept in check is package
// machine's.
package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
)

// Defaults of Config.
const (
	// DefaultMem is enough for a lab of some hundred nodes.
	DefaultMem = 512 << 20
	// DefaultBootTimeout is 20 times what a boot takes on a quiet machine.
	DefaultBootTimeout = time.Minute
	// DefaultSilence is fifteen heartbeats of a guest.
	DefaultSilence = 30 * time.Second
)

// Program is what is looked for on PATH.
const Program = "qemu-system-x86_64"

// Package is Debian's and Ubuntu's package with Program.
const Package = "qemu-system-x86"

// kind is the machine's name for people.
const kind = "QEMU"

// folderRoom is what the work folder holds, jobs alone, in bytes.
const folderRoom = 16 << 20

// Config says what to boot and how.
type Config struct {
	Kernel kernel.Kernel
	// Program is the path of qemu-system-x86_64. Default: found on PATH.
	Program string
	// Self is the program to run as the supervisor and as the guest's init. It
	// must be static, of this machine's architecture, and call guest.Main.
	// Default: os.Executable.
	Self string
	// Mem is the guest's memory in bytes; 0 means DefaultMem.
	Mem int64
	// WorkDir is machine.Spec's.
	WorkDir string
	// Rung is the isolation wanted; machine.Auto takes the highest that works.
	Rung machine.Rung
	// BootTimeout bounds the time to the guest's first word; 0 means
	// DefaultBootTimeout.
	BootTimeout time.Duration
	// Silence is how long a guest may say nothing, heartbeats included; 0
	// means DefaultSilence.
	Silence time.Duration
	// Cache is lvslab's folder in the user's cache (kernel.Cache), where snapshots
	// are kept and what is known of KVM. Empty means that there are no snapshots,
	// and that KVM is not tried.
	Cache string
	// NoSnapshot has the kernel boot each time.
	NoSnapshot bool
	// KVM says whether guests get it. Default: where one has booted by it.
	KVM KVM
	// Log receives lines for a person who asked for more; nil means none.
	Log io.Writer
}

func (c Config) complete() (Config, error) {
	if c.Kernel.Image == "" {
		return c, errors.New("no kernel given to boot")
	}
	var err error
	if c.Program == "" {
		if c.Program, err = findProgram(); err != nil {
			return c, fmt.Errorf("%w: %s", err, InstallProgram)
		}
	}
	if c.Program, err = filepath.EvalSymlinks(c.Program); err != nil {
		return c, fmt.Errorf("QEMU: %w", err)
	}
	if c.Self == "" {
		if c.Self, err = os.Executable(); err != nil {
			return c, fmt.Errorf("finding this program for the guest to run: %w", err)
		}
	}
	for _, path := range []string{c.Kernel.Image, c.Program} {
		// QEMU splits the values of its options at commas.
		if strings.Contains(path, ",") {
			return c, fmt.Errorf("%s: QEMU takes no path with a comma in it", path)
		}
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
	return c, nil
}

// File descriptors that QEMU inherits (machine.Spec).
const (
	lineFd  = 3
	firstFd = 4
)

// arguments are QEMU's (qemu-system-x86_64(1)), with those that say how the guest
// starts. All but these must be the same for a snapshot to fit.
func (b *booting) arguments(start []string) []string {
	return append([]string{
		// No device but those named here, and no configuration of the user's.
		"-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
		"-machine", "pc,usb=off,vmport=off", "-accel", b.accel, "-smp", "1",
		// The guest's Go program asks for random numbers first thing.
		"-cpu", "qemu64,+rdrand",
		"-m", fmt.Sprintf("%dM", b.Mem>>20),
		// A kernel that panics restarts the machine, which ends QEMU.
		"-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", fmt.Sprintf("socket,id=line,fd=%d", lineFd),
		"-device", "virtserialport,chardev=line,name=" + machine.PortName,
		// Several file systems in one share need numbers of files made anew.
		"-virtfs", "local,path=/,mount_tag=" + machine.RootTag + ",security_model=none,readonly=on,multidevs=remap",
		"-kernel", b.Kernel.Image,
		"-append", strings.Join(commandLine(), " "),
	}, start...)
}

// commandLine is the kernel's. Most of it spares an emulated processor work:
// tests of ciphers, cures of flaws that it has not, the calibration of a clock.
func commandLine() []string {
	return []string{
		"console=ttyS0", "quiet", "panic=-1",
		"cryptomgr.notests=1", "mitigations=off", "tsc=reliable", "random.trust_cpu=on",
		"initcall_blacklist=raid6_select_algo", "i8042.noprobe", "pty.legacy_count=0",
		// Namespaces come and go by the dozen, and wait for this.
		"rcupdate.rcu_expedited=1",
		"selinux=0", "apparmor=0", "audit=0",
		// Words that the kernel does not know become the init's environment. A
		// collection costs a guest more than the memory that it wins.
		"GOGC=off", "GOMEMLIMIT=160MiB", "GOMAXPROCS=1", machine.StageEnv + "=1",
		"--", wire.InitArg, "-",
	}
}

// explain finds the usual reasons in what the console showed.
func explain(console string) string {
	for _, known := range []struct{ sign, means string }{
		{"Could not access KVM", "QEMU asked for KVM"},
		{"Cannot allocate memory", "this machine has too little memory left for the guest's"},
		{"cannot set up guest memory", "this machine has too little memory left for the guest's"},
		{"could not load kernel", "QEMU could not read the kernel"},
		{"No working init found", "the kernel found no init in its initramfs"},
		{"Attempted to kill init", "the guest's init ended, and with it the guest's kernel"},
		{"Kernel panic", "the guest's kernel panicked"},
	} {
		if strings.Contains(console, known.sign) {
			return known.means
		}
	}
	return ""
}
