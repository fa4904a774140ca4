package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/machine"
)

// enterRoot makes the host's tree the root of an init that was started from an
// initramfs. In User-Mode Linux the kernel has done so, and there is nothing to
// do. The initramfs stays below, with this program in it.
func enterRoot() error {
	how := os.Getenv(machine.StageEnv)
	if how == "" {
		return nil
	}
	// On a machine that somebody works with, the root is no initramfs.
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil || st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is set, and the root is no initramfs", machine.StageEnv)
	}
	if how != machine.StageGoes {
		return stop() // and start anew
	}
	return enterShare()
}

// stop loads the modules for the root and the line, stops until the host says
// what this guest is to be, and becomes that: it returns an error or not at all.
func stop() error {
	modules, err := os.ReadDir(machine.StageModules) // sorted by name
	if err != nil {
		return fmt.Errorf("the initramfs: %w", err)
	}
	for _, m := range modules {
		if err := insertStage(filepath.Join(machine.StageModules, m.Name())); err != nil {
			return err
		}
	}
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}} {
		if err := os.Mkdir(m.at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s in the initramfs: %w", m.at, err)
		}
	}
	line, err := openHost()
	if err != nil {
		return err
	}
	stage, err := machine.ReadStage(line, becomeOneself)
	if err != nil {
		return fmt.Errorf("waiting for the host: %w", err)
	}
	_ = line.Close()
	for _, at := range []string{"/sys", "/dev"} {
		_ = unix.Unmount(at, unix.MNT_DETACH) // out of sight soon, at the worst
	}
	// Started anew, the program draws its own random numbers anew, too.
	if err := os.Setenv(machine.StageEnv, machine.StageGoes); err != nil {
		return err
	}
	err = unix.Exec(os.Args[0], []string{os.Args[0], os.Args[1], stage.Work}, os.Environ())
	return fmt.Errorf("starting %s anew: %w", os.Args[0], err)
}

// becomeOneself gives this kernel the host's time, and random numbers that no
// other guest has.
func becomeOneself(s machine.Stage, now time.Time) error {
	tv := unix.NsecToTimeval(now.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("setting the clock: %w", err)
	}
	random, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer random.Close()
	// random(4): struct rand_pool_info, with all bits of the seed to its credit.
	pool := make([]byte, 8, 8+len(s.Seed))
	binary.NativeEndian.PutUint32(pool, uint32(len(s.Seed)*8))
	binary.NativeEndian.PutUint32(pool[4:], uint32(len(s.Seed)))
	pool = append(pool, s.Seed...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, random.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool[0]))); errno != 0 {
		return fmt.Errorf("seeding random numbers: %w", errno)
	}
	// Without this the kernel goes on with what it drew from its pool before, for
	// a minute or more. Linux before 4.14 cannot be told.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, random.Fd(), unix.RNDRESEEDCRNG, 0); errno != 0 && errno != unix.ENOTTY {
		return fmt.Errorf("seeding random numbers anew: %w", errno)
	}
	return nil
}

// enterShare mounts the host's tree by 9p, and makes it the root.
func enterShare() error {
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
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
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
