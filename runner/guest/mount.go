package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/wire"
)

// work is the folder that the host hands over, seen through hostfs. It is held
// open because the guest's own mounts hide its path.
type work struct {
	fd      int
	modules int
}

// openWork opens the folder and the modules that its link "modules" leads to.
func openWork(path string) (*work, error) {
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Open(path, how, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the work folder %s: %w", path, err)
	}
	modules, err := unix.Openat(fd, "modules", how, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s/modules: %w", path, err)
	}
	return &work{fd: fd, modules: modules}, nil
}

func (w *work) read(name string) ([]byte, error) { return readAt(w.fd, name) }

func readAt(dir int, name string) ([]byte, error) {
	f, err := openAt(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func openAt(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// mountProc mounts /proc and makes sure that the kernel was booted with this
// program's role on its command line.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if !strings.Contains(string(cmdline), wire.InitArg) {
		return fmt.Errorf("the kernel was not booted for %s, so this is no guest", wire.InitArg)
	}
	return nil
}

// mountAll mounts the rest. The root stays what the host gave: read-only.
func mountAll() error {
	// What is mounted may hide the program's own file.
	self, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		fmt.Fprintf(os.Stderr, "lvslab guest: this program will not be at %s: open_tree: %v\n", Self, err)
		self = -1
	}
	if err := mountKernel(); err != nil {
		return err
	}
	if self >= 0 {
		if err := showSelf(self); err != nil {
			fmt.Fprintf(os.Stderr, "lvslab guest: this program is not at %s: %v\n", Self, err)
		}
		return unix.Close(self)
	}
	return nil
}

// Self is where a guest has the file of the program that is its init, whatever
// hides the file's own place: /tmp, /run and /dev are the guest's. It may be
// missing where the root has no /run.
const Self = "/run/lvslab/exe"

// showSelf puts the program's file, a mount that is nowhere yet, where Self
// says.
func showSelf(tree int) error {
	if err := os.MkdirAll(filepath.Dir(Self), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(Self, nil, 0o555); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, Self, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		_ = os.Remove(Self)
		return os.NewSyscallError("move_mount", err)
	}
	return nil
}

// mountKernel mounts what the kernel makes, and what is in memory.
func mountKernel() error {
	for _, m := range []struct {
		at, kind, data string
		flags          uintptr
		optional       bool
	}{
		{"/dev", "devtmpfs", "mode=0755", unix.MS_NOSUID, false},
		{"/dev/pts", "devpts", "mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC, false},
		{"/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV, false},
		{"/sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, false},
		{"/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV, true},
		{"/tmp", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV, true},
	} {
		switch m.at {
		case "/dev/pts", "/dev/shm":
			if err := os.Mkdir(m.at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data)
		// A minimal root may lack the folder, and nothing can make one there.
		if err != nil && (!m.optional || !errors.Is(err, unix.ENOENT)) {
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.at, err)
		}
		if m.at == "/dev" {
			if err := console(); err != nil {
				return err
			}
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// console points the standard streams at this kernel's console: what the root
// had at /dev/console may be a host's pseudo-terminal, or nothing.
func console() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/console: %w", err)
	}
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return fmt.Errorf("taking /dev/console: %w", err)
		}
	}
	return unix.Close(fd)
}

// tune sets what holds for the whole kernel. A setting that this kernel lacks
// is passed over.
func tune() {
	for _, s := range []struct{ file, value string }{
		// 1024 neighbours for all namespaces together are too few for a large
		// lab (Documentation/networking/ip-sysctl.rst).
		{"/proc/sys/net/ipv4/neigh/default/gc_thresh3", "1048576"},
		{"/proc/sys/net/ipv4/neigh/default/gc_thresh2", "524288"},
		{"/proc/sys/net/ipv4/neigh/default/gc_thresh1", "262144"},
		// The guest loads its modules by itself. Whatever else the kernel would
		// ask modprobe for costs a process and is not there.
		{"/proc/sys/kernel/modprobe", "\n"},
		// Debian's kernel would start /sbin/hotplug for every module.
		{"/sys/kernel/uevent_helper", "\n"},
		// After an oops no verdict is to be trusted.
		{"/proc/sys/kernel/panic_on_oops", "1"},
		{"/proc/sys/kernel/hostname", "lvslab"},
	} {
		if f, err := os.OpenFile(s.file, os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString(s.value)
			_ = f.Close()
		}
	}
	for name, value := range map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/tmp",
		"TERM": "dumb",
	} {
		_ = os.Setenv(name, value)
	}
}
