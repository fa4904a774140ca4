package node

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FilesBytes is how much a node may write to its files, in bytes of memory;
// files there are at most one for every 4 KiB.
const FilesBytes = 64 << 20

// base is where a view is put together: any folder that every machine has, since
// the mount is seen in the view's namespace alone.
const base = "/tmp"

// Paths below base.
const (
	treePath  = base + "/tree"  // the node's root
	upperPath = base + "/upper" // folders of upper layers
	workPath  = base + "/work"  // overlayfs's own
)

// own are the folders that are the node's and show nothing of the machine.
// Mounts of the machine below them are left out.
var own = []string{"/proc", "/sys", "/dev", "/run"}

// layer is one mount of the machine, held open: base hides what is below it.
type layer struct {
	mount mountPoint
	fd    int
	dir   bool
}

// mount puts the node's tree together on the calling thread, which is alone in a
// private mount namespace, and leaves its root as the working directory.
func (v *view) mount(plain bool, toolbox func() Toolbox) (err error) {
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	mounts, err := parseMountinfo(string(info))
	if err != nil {
		return err
	}
	layers := openLayers(mounts)
	defer func() {
		for _, l := range layers {
			unix.Close(l.fd)
		}
	}()
	// Without overlayfs this is the tree; it must be taken before base hides a
	// part of it.
	whole, err := readOnlyClone("/")
	if err != nil {
		return err
	}
	defer unix.Close(whole)
	if toolbox != nil {
		if v.kit, err = openKit(toolbox()); err != nil {
			return err
		}
	}

	options := fmt.Sprintf("mode=755,size=%d,nr_inodes=%d", FilesBytes, FilesBytes/4096)
	if err := unix.Mount("lvslab", base, "tmpfs", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, p := range []string{treePath, upperPath, workPath} {
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
	}
	v.overlay = !plain && hasOverlay()
	if v.overlay {
		// It may be denied, or refuse such a root, in a user namespace.
		err = overlay("/", 0, treePath)
		v.overlay = !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL)
	}
	switch {
	case !v.overlay:
		err = addPlain(whole)
	case err == nil:
		err = addLayers(layers)
	}
	if err != nil {
		return err
	}
	if err := addOwn(v.kit.room()); err != nil {
		return err
	}
	if err := v.kit.install(); err != nil {
		return err
	}
	if err := addHome(); err != nil {
		return err
	}
	if err := addCPUInfo(); err != nil {
		return err
	}
	if err := os.Chdir(treePath); err != nil { // this thread's alone (CLONE_FS)
		return err
	}
	v.root, err = openPath(treePath)
	return err
}

// openLayers holds the mounts that can be seen below the root.
func openLayers(mounts []mountPoint) []layer {
	var layers []layer
	for _, m := range mounts {
		// An autofs would mount something when it is looked at.
		if m.path == "/" || m.fstype == "autofs" || belowAny(m.path, own) {
			continue
		}
		fd, err := unix.Open(m.path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue // its mount point is below another mount
		}
		var st unix.Statx_t
		err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID|unix.STATX_TYPE, &st)
		if err != nil || st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != m.id {
			unix.Close(fd) // hidden by a later mount
			continue
		}
		layers = append(layers, layer{m, fd, st.Mode&unix.S_IFMT == unix.S_IFDIR})
	}
	return layers
}

// addLayers puts the machine's other mounts into the tree, each as an overlay of
// its own; read-only what cannot be one: single files, file systems that
// overlayfs does not take, such whose server may not answer.
func addLayers(layers []layer) error {
	for i, l := range layers {
		at := treePath + l.mount.path
		if _, err := os.Lstat(at); err != nil {
			continue // below a mount that was left out
		}
		if l.dir && !strings.HasPrefix(l.mount.fstype, "fuse") && !strings.HasPrefix(l.mount.fstype, "nfs") {
			if overlay(fmt.Sprintf("/proc/self/fd/%d", l.fd), i+1, at) == nil {
				continue
			}
		}
		fd, err := unix.OpenTree(l.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("clone the mount %s: %w", l.mount.path, err)
		}
		err = setReadOnly(fd, 0)
		if err == nil {
			err = moveMount(fd, at)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("mount %s: %w", l.mount.path, err)
		}
	}
	return nil
}

// addPlain makes the tree without overlayfs: all read-only, and empty folders to
// write to.
func addPlain(whole int) error {
	if err := moveMount(whole, treePath); err != nil {
		return err
	}
	for _, p := range []string{"/tmp", "/var/tmp"} {
		at := treePath + p
		if info, err := os.Lstat(at); err != nil || !info.IsDir() {
			continue
		}
		if err := unix.Mount("lvslab", at, "tmpfs", unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d", FilesBytes/2)); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", p, err)
		}
	}
	return nil
}

// home is HOME of every command.
const home = "/root"

// addHome makes home an empty folder where the machine's own is closed. That of
// a guest is, when an ordinary user booted it: the guest's root has no more
// rights to the machine's files than that user.
func addHome() error {
	at := treePath + home
	f, err := os.Open(at)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, os.ErrPermission) {
		return nil // there is none; HOME may name what is not there
	}
	if err := unix.Mount("lvslab", at, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=700,size=16m"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", home, err)
	}
	return nil
}

// addOwn mounts /run, which holds extra bytes more than elsewhere, /dev and /sys;
// /proc is each command's own.
func addOwn(extra int64) error {
	for _, p := range own {
		if err := os.Mkdir(treePath+p, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("the machine has no %s: %w", p, err)
		}
	}
	run, dev := treePath+"/run", treePath+"/dev"
	if err := unix.Mount("lvslab", run, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("mode=755,size=%d", 16<<20+extra)); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.Mkdir(run+"/lock", 0o755); err != nil { // xtables.lock and others
		return err
	}
	if err := mountSys(sysPath); err != nil {
		return err
	}
	if err := unix.Mount("lvslab", dev, "tmpfs", unix.MS_NOSUID, "mode=755,size=16m"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	// Bound and not made by mknod(2), which a user namespace may not. A disk of
	// the machine must not be among them: read-only does not hold for devices.
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := os.WriteFile(dev+"/"+name, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, dev+"/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /dev/%s: %w", name, err)
		}
	}
	if err := os.Mkdir(dev+"/shm", 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dev+"/shm", os.ModeSticky|0o777); err != nil {
		return err
	}
	for name, target := range map[string]string{"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink("/proc/self/"+target, dev+"/"+name); err != nil {
			return err
		}
	}
	return addTerminals(dev)
}

// terminals is how many terminals a node may have at once: the machine has 4096
// in all (kernel.pty.max).
const terminals = 256

// addTerminals mounts the node's own terminals: /dev/pts/0 is its first one.
func addTerminals(dev string) error {
	at := dev + "/pts"
	if err := os.Mkdir(at, 0o755); err != nil {
		return err
	}
	options := fmt.Sprintf("newinstance,ptmxmode=0666,mode=0620,max=%d", terminals)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
	// 5 is the group tty. A user namespace may not know it.
	err := unix.Mount("lvslab", at, "devpts", flags, options+",gid=5")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("lvslab", at, "devpts", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	return os.Symlink("pts/ptmx", dev+"/ptmx")
}

// hasOverlay asks without mounting one: that would load the module, and the
// machine's modules are not lvslab's to load here.
func hasOverlay() bool {
	known, err := os.ReadFile("/proc/filesystems")
	return err == nil && strings.Contains(string(known), "\toverlay\n")
}

// overlay mounts lower, under an upper layer of its own with number i, at a path.
func overlay(lower string, i int, at string) error {
	n := "/" + strconv.Itoa(i)
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(upperPath+n, 0o755), os.Mkdir(workPath+n, 0o755)); err != nil {
		return err
	}
	// The upper layer's root gives the overlay's its owner and mode (/tmp: 1777).
	// In a user namespace that does not know the owner (EINVAL) it is this user.
	err := os.Chown(upperPath+n, int(st.Uid), int(st.Gid))
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Chmod(upperPath+n, st.Mode&0o7777); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upperPath+n, workPath+n)
	if err := unix.Mount("lvslab", at, "overlay", unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w", strings.TrimPrefix(at, treePath), err)
	}
	return nil
}

// readOnlyClone is a copy of the mounts at and below a path, detached.
func readOnlyClone(p string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("clone the mounts at %s: %w", p, err)
	}
	if err := setReadOnly(fd, unix.AT_RECURSIVE); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setReadOnly(fd int, flags uint) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &attr)
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("mount_setattr: %w (needs Linux 5.12)", err)
	}
	return os.NewSyscallError("mount_setattr", err)
}

func moveMount(fd int, at string) error {
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

func openPath(p string) (*os.File, error) {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), p), nil
}

func belowAny(p string, folders []string) bool {
	for _, f := range folders {
		if p == f || strings.HasPrefix(p, f+"/") {
			return true
		}
	}
	return false
}

// mountPoint is a line of mountinfo, proc_pid_mountinfo(5).
type mountPoint struct {
	id     uint64
	path   string
	fstype string
}

// parseMountinfo keeps the order of the file, parents before children.
func parseMountinfo(text string) ([]mountPoint, error) {
	var mounts []mountPoint
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Split(left, " ")
		fstype, _, _ := strings.Cut(right, " ")
		if !ok || len(fields) < 6 {
			return nil, fmt.Errorf("mountinfo: line %q: wanted six fields, then - and a type", line)
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("mountinfo: line %q: its mount id is no number", line)
		}
		p := unescape(fields[4])
		if !path.IsAbs(p) {
			return nil, fmt.Errorf("mountinfo: line %q: its mount point is not absolute", line)
		}
		mounts = append(mounts, mountPoint{id: id, path: p, fstype: fstype})
	}
	return mounts, nil
}

// unescape undoes the \040 of mountinfo: space, tab, newline, backslash, #.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
