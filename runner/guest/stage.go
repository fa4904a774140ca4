package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/machine"
)

// enterRoot makes the host's tree the root of an init that was started from an
// initramfs. In User-Mode Linux the kernel has done so, and there is nothing to
// do. The initramfs stays below, with this program in it.
func enterRoot() error {
	if os.Getenv(machine.StageEnv) == "" {
		return nil
	}
	// On a machine that somebody works with, the root is no initramfs.
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil || st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is set, and the root is no initramfs", machine.StageEnv)
	}
	modules, err := os.ReadDir(machine.StageModules) // sorted by name
	if err != nil {
		return fmt.Errorf("the initramfs: %w", err)
	}
	for _, m := range modules {
		if err := insertStage(filepath.Join(machine.StageModules, m.Name())); err != nil {
			return err
		}
	}
	const at = "/root"
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// The version of Linux's own; the largest messages; nobody changes files
	// under a guest's feet, so it may cache them; one user for all
	// (Documentation/filesystems/9p.rst).
	const options = "trans=virtio,version=9p2000.L,msize=512000,cache=loose,access=any"
	if err := unix.Mount(machine.RootTag, at, "9p", unix.MS_RDONLY, options); err != nil {
		return fmt.Errorf("mounting the host's files by 9p: %w", err)
	}
	// As switch_root(8) does. A bare chroot would deny user namespaces.
	if err := os.Chdir(at); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	return os.Chdir("/")
}

func insertStage(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("loading %s: %w", path, err)
	}
	return nil
}

// portPatience is how long the line may take to be found after its driver was
// loaded; it takes milliseconds.
const portPatience = 10 * time.Second

// openHost opens the line to the host: a serial line in User-Mode Linux, else a
// virtio-serial port. A port must never be handed to a child process, which
// would keep it open: it is closed on exec.
func openHost() (*os.File, error) {
	if os.Getenv(machine.StageEnv) == "" {
		return openLine("/dev/ttyS0")
	}
	for deadline := time.Now().Add(portPatience); ; time.Sleep(2 * time.Millisecond) {
		name, err := findPort()
		if err == nil {
			var fd int
			fd, err = unix.Open("/dev/"+name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err == nil {
				return os.NewFile(uintptr(fd), name), nil
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("opening the line to the host, the virtio-serial port %s: %w", machine.PortName, err)
		}
	}
}

// findPort is the name of the port's device in /dev.
func findPort() (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if text, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(text)) == machine.PortName {
			return filepath.Base(filepath.Dir(n)), nil
		}
	}
	return "", fmt.Errorf("none of the %d ports has that name", len(names))
}
