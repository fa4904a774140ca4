package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// Disk is the files of a node that is switched off: what was written there is
// there when the node is switched on again. That goes for all of its folders,
// /run and /tmp too.
type Disk struct {
	name    string
	plain   bool
	view    *view // nil where the files were never used
	kept    map[string]any
	toolbox func() Toolbox
}

// SwitchOff does what Close does, but keeps what was written. The files can only
// be used by way of the Disk then, whose Close is the caller's to call; the node's
// network namespace is not held by it.
func (f *Files) SwitchOff() (*Disk, error) {
	f.mu.Lock()
	v, mounts := f.view, f.mounts
	if f.closed {
		f.mu.Unlock()
		return nil, fmt.Errorf("node %s: %w", f.name, errFilesClosed)
	}
	f.view, f.mounts, f.closed = nil, nil, true
	d := &Disk{name: f.name, plain: f.plain, view: v, kept: f.kept, toolbox: f.toolbox}
	f.mu.Unlock()
	f.close()
	if err := f.release(v, mounts); err != nil {
		return nil, err // the view's thread is kept: it cannot end
	}
	if v == nil {
		return d, nil
	}
	if err := v.leaveNet(); err != nil {
		v.end()
		return nil, fmt.Errorf("node %s: take its files out of its network: %w", f.name, err)
	}
	return d, nil
}

// SwitchOn is the files of the node in another network namespace. The Disk is
// used up.
func (d *Disk) SwitchOn(ns *netns.Namespace) (*Files, error) {
	f := NewFiles(d.name, ns)
	f.plain, f.kept, f.toolbox = d.plain, d.kept, d.toolbox
	if v := d.view; v != nil {
		d.view = nil
		if err := v.enterNet(ns.Fd()); err != nil {
			v.end()
			return nil, fmt.Errorf("node %s: bring its files into its network: %w", d.name, err)
		}
		f.view = v
	}
	return f, nil
}

// Close forgets the files. Calling it again does nothing.
func (d *Disk) Close() error {
	if d.view != nil {
		d.view.end()
		d.view = nil
	}
	return nil
}

// sysPath is where the view's thread sees the node's /sys.
const sysPath = treePath + "/sys"

// leaveNet moves the view out of the node's network namespace, into one that is
// empty and nobody else's: a thread that is in it, and a /sys that shows its
// devices, would hold it for as long as the view is.
func (v *view) leaveNet() (err error) {
	v.do(func() {
		if err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET)); err == nil {
			err = v.followNet()
		}
	})
	return err
}

// enterNet moves the view into a network namespace.
func (v *view) enterNet(netFd int) (err error) {
	if netFd < 0 {
		return errors.New("its network namespace is closed")
	}
	v.do(func() {
		if err = os.NewSyscallError("setns", unix.Setns(netFd, unix.CLONE_NEWNET)); err == nil {
			err = v.followNet()
		}
	})
	return err
}

// followNet makes the rest of the view that of the thread's network namespace.
func (v *view) followNet() error {
	if err := unix.Unmount(sysPath, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take /sys off: %w", err)
	}
	if err := mountSys(sysPath); err != nil {
		return err
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	v.netNS.Close()
	v.netNS = ns
	return nil
}

// mountSys mounts a /sys that shows the network devices of the namespace that the
// calling thread is in.
func mountSys(at string) error {
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("lvslab", at, "sysfs", flags, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}
