package machine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accesses that change files, by the version of Landlock's ABI that brought
// them (landlock(7)). Reading and executing are left alone.
const (
	changes1 = unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	changes2 = changes1 | unix.LANDLOCK_ACCESS_FS_REFER
	changes3 = changes2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// fileChanges are those that a rule about one file may name.
	fileChanges = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// errNoLandlock says that this machine's kernel has no Landlock, or has it
// switched off.
var errNoLandlock = errors.New("this machine's kernel has no Landlock")

// landlockChanges is what can be forbidden here; 0 is nothing.
func landlockChanges() uint64 {
	const createRulesetVersion = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createRulesetVersion)
	switch {
	case errno != 0 || abi == 0:
		return 0
	case abi == 1:
		return changes1
	case abi == 2:
		return changes2
	}
	return changes3
}

// confine takes from this thread, and from all that it forks, the right to
// change any file outside dir but these devices and the usual ones. Only this
// thread is confined, so the caller must have locked it.
func confine(dir string, devices ...string) error {
	handled := landlockChanges()
	if handled == 0 {
		return errNoLandlock
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	// Kernels of older ABIs take the first field alone.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	ruleset := int(fd)
	defer unix.Close(ruleset)
	if err := permit(ruleset, dir, handled); err != nil {
		return err
	}
	for _, dev := range append([]string{"/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx"}, devices...) {
		if err := permit(ruleset, dev, handled&fileChanges); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}

func permit(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("landlock_add_rule %s: %w", path, errno)
	}
	return nil
}
