package machine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoints are where the private tmpfs may be mounted. Only their existing
// matters: the mount is seen by the guest's kernel alone.
var mountPoints = [...]string{"/dev/shm", "/mnt", "/media", "/srv", "/opt", "/run", "/var/tmp"}

// isolate turns this process's own, new mount namespace into one in which
// nothing but a fresh tmpfs can be written. It returns that tmpfs, and what was
// not as it should be and does no harm. The tmpfs covers none of the paths that
// are still needed.
func isolate(mem int64, needed ...string) (work string, notes []string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", nil, fmt.Errorf("making the mounts private: %w", err)
	}
	if err := readOnly(); err != nil {
		return "", nil, fmt.Errorf("making the mounts read-only: %w", err)
	}
	for _, p := range mountPoints {
		covers := slices.ContainsFunc(needed, func(n string) bool { return strings.HasPrefix(n, p+"/") })
		if info, err := os.Lstat(p); err == nil && info.IsDir() && !covers {
			work = p
			break
		}
	}
	if work == "" {
		return "", nil, fmt.Errorf("none of the folders %v is there to mount a tmpfs on", mountPoints)
	}
	// Room for the guest's memory, where its kernel maps it from a file here,
	// and for jobs.
	data := fmt.Sprintf("mode=0700,size=%dk", (mem+64<<20)>>10)
	if err := unix.Mount("lvslab", work, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return "", nil, fmt.Errorf("mounting a tmpfs on %s: %w", work, err)
	}
	// A container that hides parts of its /proc does not allow a fresh one; the
	// guest's kernel needs none of its own.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, ""); err != nil {
		notes = append(notes, fmt.Sprintf("no /proc of its own: %v", err))
	}
	return work, notes, nil
}

// readOnly makes every mount read-only.
func readOnly() error {
	err := unix.MountSetattr(-1, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if errors.Is(err, unix.ENOSYS) {
		return readOnlyEach() // Linux before 5.12
	}
	return err
}
