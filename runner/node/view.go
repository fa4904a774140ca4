package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// view is the mount namespace of one node and the thread that holds it.
//
// The thread keeps the machine's tree as its root, so that it can start the
// program anew by /proc/self/exe, and has the root of the node's tree as its
// working directory: a command's first process inherits that and makes it the
// root (see become). File operations reach the tree by a descriptor.
type view struct {
	work chan func()
	done chan struct{}
	// root is the node's tree, opened O_PATH.
	root    *os.File
	overlay bool
	// kit is the node's toolbox, nil for none.
	kit *kit
	// mountNS is the mount namespace and netNS the network namespace, for
	// threads that join.
	mountNS, netNS *os.File
}

// newView makes the mount namespace, with the network namespace netFd inside.
func newView(name string, netFd int, plain bool, toolbox func() Toolbox) (*view, error) {
	if netFd < 0 {
		return nil, errors.New("its network namespace is closed")
	}
	v := &view{work: make(chan func()), done: make(chan struct{})}
	made := make(chan error)
	go onThread(func() {
		defer close(v.done)
		err := v.enter(name, netFd)
		if err == nil {
			err = v.mount(plain, toolbox)
		}
		if err == nil {
			err = v.hold()
		}
		if err != nil {
			v.kit.close()
			made <- err
			return
		}
		made <- nil
		for f := range v.work {
			f()
		}
	})
	if err := <-made; err != nil {
		<-v.done
		return nil, err
	}
	listening := make(chan error, 1)
	go func() { listening <- v.kit.listen(v.root) }() // the caller's thread may be in a node
	if err := <-listening; err != nil {
		v.end()
		return nil, err
	}
	return v, nil
}

// onThread runs f on a thread that ends with it, and never on the process's
// first one, which the runtime cannot end.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return // locked, so the thread ends with this goroutine
	}
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		f()
	}()
	<-started
	runtime.UnlockOSThread()
}

// do runs f on the view's thread.
func (v *view) do(f func()) {
	ran := make(chan struct{})
	v.work <- func() {
		defer close(ran)
		f()
	}
	<-ran
}

// end lets the mount namespace go. No do may follow.
func (v *view) end() {
	v.kit.close()
	close(v.work)
	<-v.done
	for _, f := range []*os.File{v.root, v.mountNS, v.netNS} {
		f.Close()
	}
}

// beside runs f on a thread of its own in the view's namespaces: what may wait
// for another machine must not hold up the view's own thread.
func (v *view) beside(f func() error) error {
	ended := make(chan error, 1)
	go onThread(func() {
		// A thread that shares its root with others cannot change mount
		// namespaces, setns(2).
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS))
		if err == nil {
			err = os.NewSyscallError("setns", unix.Setns(int(v.netNS.Fd()), unix.CLONE_NEWNET))
		}
		if err == nil {
			err = os.NewSyscallError("setns", unix.Setns(int(v.mountNS.Fd()), unix.CLONE_NEWNS))
		}
		if err == nil {
			err = f()
		}
		ended <- err
	})
	return <-ended
}

// enter moves the calling thread into namespaces of its own.
func (v *view) enter(name string, netFd int) error {
	// IPC: a System V segment outlives its processes, but not its namespace.
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if err != nil {
		hint := ""
		if errors.Is(err, unix.EPERM) {
			hint = " (needs CAP_SYS_ADMIN: be root)"
		}
		return fmt.Errorf("unshare mounts, host name and IPC: %w%s", err, hint)
	}
	if err := unix.Setns(netFd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter its network namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// From here on no mount is seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	return nil
}

// hold opens the calling thread's namespaces.
func (v *view) hold() (err error) {
	if v.mountNS, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
		return err
	}
	v.netNS, err = os.Open("/proc/thread-self/ns/net")
	return err
}

// open opens a path as if the node's tree were everything there is.
func (v *view) open(name string, flags int, perm fs.FileMode) (*os.File, error) {
	return openIn(v.root, name, flags, perm)
}

// openIn opens a path as if root were everything there is.
func openIn(root *os.File, name string, flags int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(perm.Perm())
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename or mount raced with a ".."
			continue
		}
		return nil, err
	}
}

func (v *view) stat(name string) (fs.FileInfo, error) {
	file, err := v.open(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

// mkdirAll makes a folder and those above it, 0755.
func (v *view) mkdirAll(name string) error {
	dir, err := v.open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return dir.Close()
	}
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return err
	}
	above := path.Dir(name)
	if err := v.mkdirAll(above); err != nil {
		return err
	}
	parent, err := v.open(above, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// start starts the program anew as the first process of a PID namespace, in the
// view. It dies when the view's thread does.
func (v *view) start(argv []string, attr *os.ProcAttr) (p *os.Process, err error) {
	attr.Sys = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
		Setsid:     true,
	}
	v.do(func() { p, err = os.StartProcess("/proc/self/exe", argv, attr) })
	return p, err
}

// share lets what is mounted in the view from here on be seen by the processes
// that are started in it from here on (see become).
func (v *view) share() (err error) {
	v.do(func() { err = unix.Mount("", treePath, "", unix.MS_REC|unix.MS_SHARED, "") })
	if err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return nil
}
