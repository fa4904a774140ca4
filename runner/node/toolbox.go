package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where a node has lvslab's own programs.
const (
	// OwnFolder holds all that lvslab puts into a node, below /run, which is
	// the node's own.
	OwnFolder = "/run/lvslab"
	// FirstFolder holds the programs that win over the machine's, lastFolder
	// those that are found where the machine has none.
	FirstFolder = OwnFolder + "/first"
	lastFolder  = OwnFolder + "/bin"
	// ownProgram is this very program, which the others are run by.
	ownProgram = OwnFolder + "/lvslab"
	// ControlPath is the Unix socket by which programs in a node ask for what
	// is done from outside of it.
	ControlPath = OwnFolder + "/control"
)

// Toolbox is what a node has of lvslab's own programs.
type Toolbox struct {
	// First are the names of programs that win over the machine's.
	First []string
	// Last are the names of those that are found where the machine has none.
	Last []string
	// Links are symbolic links among them, by their paths, to where they lead.
	Links map[string]string
	// Argument tells this program, as its first argument, that it was started
	// by one of those names: that name's path and the arguments follow.
	Argument string
	// Folders are made where the machine has none, Files are written there;
	// without overlayfs neither is.
	Folders []string
	Files   map[string]string
	// Instead are files that take the place of the machine's, under the same
	// condition.
	Instead map[string]string
	// Control, when it is not nil, serves ControlPath, in a goroutine of its
	// own, from when the node's files come to be until they are gone, which
	// closes the listener.
	Control func(net.Listener)
}

// SetToolbox gives the node a toolbox, asked for when the node's files are first
// used, on a thread that is in the node's network namespace; it must be called
// before that.
func (f *Files) SetToolbox(ask func() Toolbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.toolbox = ask
}

// path is the PATH of the commands that see this view.
func (v *view) path() string {
	if v.kit == nil {
		return Path
	}
	return FirstFolder + ":" + Path + ":" + lastFolder
}

// kit is a toolbox on its way into a view.
type kit struct {
	Toolbox
	// program is this program, opened O_PATH while its folder can be seen, or
	// where it cannot, to be copied.
	program *os.File
	copied  bool
	size    int64
	control net.Listener
}

// openKit holds this program. It must be called in the view's mount namespace,
// before base hides a part of it.
func openKit(t Toolbox) (*kit, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	k := &kit{Toolbox: t, size: self.Size()}
	candidates := []string{"/run/lvslab/exe"}
	if name, err := os.Readlink("/proc/self/exe"); err == nil {
		candidates = append(candidates, name)
	}
	for _, name := range candidates {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		k.program = os.NewFile(uintptr(fd), name)
		if info, err := k.program.Stat(); err == nil && os.SameFile(info, self) {
			return k, nil
		}
		k.program.Close()
	}
	// Another one lies there by now, or none that can be seen.
	if k.program, err = os.Open("/proc/self/exe"); err != nil {
		return nil, fmt.Errorf("open this program: %w", err)
	}
	k.copied = true
	return k, nil
}

// close closes what the kit holds. A nil kit holds nothing.
func (k *kit) close() {
	if k == nil {
		return
	}
	k.program.Close() // again, unless putting it in failed
	if k.control != nil {
		k.control.Close()
	}
}

// room is how much /run must hold beside what the node writes there, in bytes.
func (k *kit) room() int64 {
	if k == nil || !k.copied {
		return 0
	}
	return k.size
}

// install puts the toolbox into the tree, whose /run is mounted. A nil kit is
// none.
func (k *kit) install() error {
	if k == nil {
		return nil
	}
	for _, dir := range []string{OwnFolder, FirstFolder, lastFolder} {
		if err := errors.Join(os.Mkdir(treePath+dir, 0o755), open755(treePath+dir)); err != nil {
			return err
		}
	}
	defer k.program.Close()
	if err := k.installProgram(); err != nil {
		return fmt.Errorf("put this program into the node: %w", err)
	}
	script := []byte("#!" + ownProgram + " " + k.Argument + "\n")
	for folder, names := range map[string][]string{FirstFolder: k.First, lastFolder: k.Last} {
		for _, name := range names {
			at := filepath.Join(treePath+folder, name)
			if err := errors.Join(os.WriteFile(at, script, 0o755), open755(at)); err != nil { //nolint:gosec // programs of a node
				return err
			}
		}
	}
	for at, to := range k.Links {
		if err := os.Symlink(to, treePath+at); err != nil {
			return err
		}
	}
	return k.writeFiles()
}

// open755 lets everybody in the node have what this process's umask would not.
func open755(name string) error { return os.Chmod(name, 0o755) } //nolint:gosec // programs of a node

// writeFiles makes the folders and files that are missing, and those that take
// the place of others.
func (k *kit) writeFiles() error {
	for _, dir := range k.Folders {
		if err := makeFolders(dir); err != nil && !errors.Is(err, unix.EROFS) {
			return err
		}
	}
	for name, content := range k.Files {
		if _, err := os.Lstat(treePath + name); err == nil {
			continue
		}
		if err := writeFile(name, content); err != nil {
			return err
		}
	}
	for name, content := range k.Instead {
		if err := writeFile(name, content); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file of the node that everybody there may read, where its
// tree can be written to.
func writeFile(name, content string) error {
	err := os.WriteFile(treePath+name, []byte(content), 0o644) //nolint:gosec // settings of a node
	if err == nil {
		err = os.Chmod(treePath+name, 0o644) //nolint:gosec // the same
	}
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// makeFolders makes a folder of the node and those above it that are missing.
func makeFolders(dir string) error {
	if _, err := os.Stat(treePath + dir); err == nil || dir == "/" {
		return nil
	}
	if err := makeFolders(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(treePath+dir, 0o755); err != nil {
		return err
	}
	return open755(treePath + dir)
}

func (k *kit) installProgram() error {
	at := treePath + ownProgram
	file, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	if k.copied {
		_, err = file.ReadFrom(k.program)
	}
	if err := errors.Join(err, file.Close(), open755(at)); err != nil || k.copied {
		return err
	}
	fd, err := unix.OpenTree(int(k.program.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(fd)
	if err := setReadOnly(fd, 0); err != nil {
		return err
	}
	return moveMount(fd, at)
}

// listen opens the control socket in the tree whose root is given, for root
// alone. It must be called on a thread that is in no node: a socket holds the
// network namespace that it was made in, and this one stays when the node is
// switched off.
func (k *kit) listen(root *os.File) error {
	if k == nil || k.Control == nil {
		return nil
	}
	at := procPath(root) + ControlPath
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		return fmt.Errorf("open its control socket: %w", err)
	}
	// Its path is the view's; there is nothing to be taken away elsewhere.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(at, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	k.control = l
	go k.Control(l)
	return nil
}

// Lookup finds a program of the machine as a node's commands would without a
// toolbox, its symbolic links followed; "" when there is none.
func Lookup(program string) string {
	for _, dir := range strings.Split(Path, ":") {
		at, err := filepath.EvalSymlinks(filepath.Join(dir, program))
		if err != nil {
			continue
		}
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return at
		}
	}
	return ""
}
