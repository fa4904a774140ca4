package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
)

// A kernel that misses a module starts a program, modprobe(8), and waits for it
// (kernel/module/kmod.c). On a machine that is how the first `tc qdisc add … netem`
// or `iptables -t nat` of a person works. Here the program is this one, which
// loads the module by itself: the guest's init could not be asked, since a system
// call of its own may be what waits.
const (
	autoloadFolder = "/run/lvslab"
	autoloadScript = autoloadFolder + "/modprobe"
	// autoloadModules leads to the folder of modules, which nothing but the
	// init's descriptor of it does.
	autoloadModules = autoloadFolder + "/modules"
	// programPath is this program, whatever else lies over where it was.
	programPath = autoloadFolder + "/exe"
	// autoloadArg is the first argument of the program that the kernel starts; the
	// script's own path, "-q", "--" and the module's name follow.
	autoloadArg = "lvslab-guest-autoload"
)

// autoload lets the kernel load modules by itself from now on.
func (l *loader) autoload() error {
	if _, err := os.Stat(programPath); err != nil {
		return nil //nolint:nilerr // the program cannot be seen: modules are loaded beforehand
	}
	if err := os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.dir), autoloadModules); err != nil {
		return err
	}
	if err := os.WriteFile(autoloadScript, []byte("#!"+programPath+" "+autoloadArg+"\n"), 0o700); err != nil { //nolint:gosec // a program
		return err
	}
	// A kernel without the setting loads nothing by itself.
	if err := os.WriteFile("/proc/sys/kernel/modprobe", []byte(autoloadScript+"\n"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// loadAlias loads the modules of a name or an alias. One that is unknown is no
// error: kernels ask for much.
func (l *loader) loadAlias(name string) error {
	var unknown *kernel.UnknownModuleError
	err := l.load(name)
	if !errors.As(err, &unknown) {
		return err
	}
	text, err := readAt(l.dir, "modules.alias")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", name, err)
	}
	for _, module := range kernel.ParseAliases(text).Find(name) {
		if lerr := l.load(module); !errors.As(lerr, &unknown) {
			err = errors.Join(err, lerr)
		}
	}
	return err
}

// askedToLoad is the life of the program that the kernel starts. It returns at
// once where it is not that.
func askedToLoad() {
	if len(os.Args) < 4 || os.Args[1] != autoloadArg || filepath.Clean(os.Args[2]) != autoloadScript {
		return
	}
	dir, err := unix.Open(autoloadModules, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = newLoader(dir).loadAlias(os.Args[len(os.Args)-1])
	}
	if err != nil {
		os.Exit(1) // its output goes nowhere
	}
	os.Exit(0)
}
