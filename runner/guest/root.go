package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/machine"
)

// rootPath is where the root of labs in a user namespace is put together: any
// folder that every machine has, since nobody else sees the mount.
const rootPath = "/tmp"

// Bounds of that root: what is copied to it is small.
const (
	rootBytes = 128 << 20
	copyBytes = 1 << 20 // of one file
)

// ownRoot makes a root out of the machine's tree over which overlays can be
// laid. A user namespace's mounts are locked to one another, so that nobody looks
// beneath one; and overlayfs takes no folder with such mounts in it, as / always
// is (clone_private_mount in fs/namespace.c). The new root is a tmpfs with the
// machine's folders in it, each a mount of this namespace's own. Nothing of
// the machine becomes writable by it.
//
// Overlayfs also changes no file whose owner the user namespace does not know
// (EOVERFLOW), and it knows this user alone. So /etc is a copy, and in folders
// of others new files can be made at the top of each mount only.
func ownRoot() error {
	points, err := machine.MountPoints()
	if err != nil {
		return err
	}
	// Not into what is bound below.
	if err := unix.Mount("lvslab", rootPath, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("mode=755,size=%d", rootBytes)); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	t := &tree{mounts: points}
	if err := t.folder("/"); err != nil {
		return err
	}
	if err := os.Chdir(rootPath); err != nil {
		return err
	}
	// As pivot_root(2) tells: the old root comes to lie over the new one, and
	// is taken away.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Chdir("/")
}

// tree is the new root while it is made.
type tree struct{ mounts []string }

// hasMounts reports whether something is mounted below a folder.
func (t *tree) hasMounts(p string) bool {
	return slices.ContainsFunc(t.mounts, func(m string) bool { return strings.HasPrefix(m, p+"/") })
}

// folder puts the entries of a folder of the machine into the new root. One that
// cannot be read stays empty.
func (t *tree) folder(p string) error {
	entries, err := os.ReadDir(p)
	if err != nil && p == "/" {
		return err
	}
	for _, e := range entries {
		if err := t.entry(path.Join(p, e.Name()), e.Type()); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) entry(p string, kind fs.FileMode) error {
	at := rootPath + p
	switch {
	case kind&fs.ModeSymlink != 0:
		target, err := os.Readlink(p)
		if err != nil {
			return nil //nolint:nilerr // it went away
		}
		return os.Symlink(target, at)
	case kind.IsDir():
		info, err := os.Lstat(p)
		if err != nil {
			return nil //nolint:nilerr // it went away, or is a dead FUSE
		}
		if err := errors.Join(os.Mkdir(at, 0o755), os.Chmod(at, info.Mode().Perm()|0o700|info.Mode()&fs.ModeSticky)); err != nil {
			return err
		}
		return t.subfolder(p, at)
	case kind.IsRegular():
		return copyFile(p, at)
	}
	return nil // sockets and the like serve the machine's own
}

// subfolder fills a folder that is there.
func (t *tree) subfolder(p, at string) error {
	switch {
	case p == "/proc", p == "/sys", p == "/dev", p == "/run":
		// A node has its own of these.
		if err := unix.Mount(p, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", p, err)
		}
		return nil
	case p == rootPath || !readable(p): // it stays empty
		return nil
	case p == "/etc" || strings.HasPrefix(p, "/etc/"), p == "/var", t.hasMounts(p):
		return t.folder(p)
	}
	// One that cannot be had stays empty.
	_ = unix.Mount(p, at, "", unix.MS_BIND, "")
	return nil
}

// readable reports whether a folder is open to this user.
func readable(p string) bool { return unix.Access(p, unix.R_OK|unix.X_OK) == nil }

// copyFile copies a file, or shows it where it is large; one that may not be read
// is left out.
func copyFile(p, at string) error {
	info, err := os.Stat(p)
	if err != nil {
		return nil //nolint:nilerr // it went away
	}
	if info.Size() > copyBytes {
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			return err
		}
		_ = unix.Mount(p, at, "", unix.MS_BIND, "")
		return nil
	}
	data, err := os.ReadFile(p)
	if err != nil {
		return nil //nolint:nilerr // not for this user
	}
	// Made anew, it is this user's: who could read it may change it.
	return errors.Join(os.WriteFile(at, data, 0o600), os.Chmod(at, info.Mode().Perm()|0o600))
}
