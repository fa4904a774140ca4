package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

const (
	// ServerWait bounds the time in which an NFS server must be reached before a
	// folder of it is mounted: the links may have come up a moment ago.
	ServerWait = 5 * time.Second
	// dialWait is how long one connection is tried: a link that has just come
	// up may lose its first packet, which TCP repeats after a second only.
	dialWait = 200 * time.Millisecond
	// syncWait is how long Unmount leaves a server to take what it was not sent
	// yet. Then its requests are cut off, every forceEvery for at most
	// releaseWait.
	syncWait    = 2 * time.Second
	forceEvery  = 5 * time.Millisecond
	releaseWait = 10 * time.Second
)

// mounted is a folder of another node.
type mounted struct {
	// root is the folder as it was when it was mounted, open for reading, so
	// that its file system can be synced and taken off without asking its
	// server anything.
	root *os.File
	what topology.Mount
}

// Mount mounts a folder of another node in this one's own view, by the kernel's
// own NFSv3 client. The folder that it hides is made where it is missing. One that
// is mounted there already, from elsewhere or with other options, is taken off
// first. What the kernel says is inside the error (unix.EACCES and so on).
func (f *Files) Mount(ctx context.Context, m topology.Mount) error {
	v, done, err := f.use()
	if err != nil {
		return err
	}
	// When ctx ends first, the kernel gives up at its own time.
	ended := make(chan error, 1)
	go func() {
		defer done()
		ended <- f.mount(ctx, v, m)
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("node %s: mount %s:%s on %s: %w", f.name, m.Server.Addr(), m.Path, m.At, err)
	}
	return nil
}

func (f *Files) mount(ctx context.Context, v *view, m topology.Mount) error {
	at := path.Clean(m.At)
	f.mu.Lock()
	there := f.mounts[at]
	f.mu.Unlock()
	if there != nil {
		if there.what.Device() == m.Device() && there.what.Data() == m.Data() {
			return nil
		}
		if err := f.Unmount(at); err != nil {
			return err
		}
	}
	if err := f.awaitServer(ctx, m); err != nil {
		return err
	}
	if err := v.mkdirAll(at); err != nil {
		return err
	}
	folder, err := v.open(at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = v.beside(func() error {
		return unix.Mount(m.Device(), procPath(folder), "nfs", unix.MS_NODEV|unix.MS_NOSUID, m.Data())
	})
	if err != nil {
		return mountHint(err)
	}
	root, err := v.open(at, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		v.do(func() { _ = unix.Unmount(procPath(v.root)+at, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.Join(errFilesClosed, takeOff(v, root))
	}
	if f.mounts == nil {
		f.mounts = make(map[string]*mounted)
	}
	f.mounts[at] = &mounted{root, m}
	return nil
}

func mountHint(err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.ENODEV):
		hint = " (this kernel has no NFS client: modules nfs and nfsv3)"
	case errors.Is(err, unix.EINVAL):
		hint = " (an option that the kernel does not take? see nfs(5))"
	case errors.Is(err, unix.ENOENT):
		hint = " (the server has no such folder)"
	}
	return fmt.Errorf("%w%s", err, hint)
}

// awaitServer returns when the server takes connections. mount(2) would wait for
// longer, and say less.
func (f *Files) awaitServer(ctx context.Context, m topology.Mount) error {
	ctx, cancel := context.WithTimeout(ctx, ServerWait)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		try, stop := context.WithTimeout(ctx, dialWait)
		conn, err := f.ns.Dial(try, "tcp", m.Server)
		stop()
		if err == nil {
			return conn.Close()
		}
		if last == nil || ctx.Err() == nil {
			last = err // and not that of a try which was cut short
		}
		if errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("no NFS server listens at %s: %w", m.Server, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no NFS server answers at %s within %s: %w", m.Server, ServerWait, last)
		}
	}
}

// Unmount takes a mounted folder off. It waits for its server a moment only:
// then what was not written there yet is lost, and whoever waits for it gets
// EIO.
func (f *Files) Unmount(at string) error {
	at = path.Clean(at)
	v, done, err := f.use()
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	m, ok := f.mounts[at]
	delete(f.mounts, at)
	f.mu.Unlock()
	if !ok {
		return nil
	}
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		m.sync()
	}()
	err = force(v, []*mounted{m}, synced, syncWait)
	if err == nil {
		err = takeOff(v, m.root)
	}
	if err != nil {
		return fmt.Errorf("node %s: umount %s: %w", f.name, at, err)
	}
	return nil
}

// mounting reports whether any file operation may have to wait for a server.
func (f *Files) mounting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mounts) > 0
}

// release waits for all that uses the view, and takes its mounted folders off.
// A killed process, or a file operation, that waits for a server is cut off from
// it.
func (f *Files) release(v *view, mounts map[string]*mounted) error {
	if v == nil || len(mounts) == 0 {
		f.commands.Wait()
		return nil
	}
	all := make([]*mounted, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, m)
	}
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		f.commands.Wait()
		for _, m := range all {
			m.sync()
		}
	}()
	err := force(v, all, idle, 0)
	for at, m := range mounts {
		if err == nil {
			err = takeOff(v, m.root)
		}
		if err != nil {
			return fmt.Errorf("node %s: umount %s: %w", f.name, at, err)
		}
	}
	return nil
}

// sync writes out what the kernel holds back. Cut off from its server, it loses
// that: nothing is left then for which taking the folder off would wait.
func (m *mounted) sync() { _ = unix.Syncfs(int(m.root.Fd())) }

// force waits for idle, and after a while cuts requests to the servers off
// until then.
func force(v *view, mounts []*mounted, idle <-chan struct{}, after time.Duration) error {
	patience := time.NewTimer(after)
	defer patience.Stop()
	select {
	case <-idle:
		return nil
	case <-patience.C:
	}
	tick := time.NewTicker(forceEvery)
	defer tick.Stop()
	late := time.NewTimer(releaseWait)
	defer late.Stop()
	for {
		select {
		case <-idle:
			return nil
		case <-late.C:
			return fmt.Errorf("its server does not answer, and the kernel does not let go within %s", releaseWait)
		case <-tick.C:
		}
		v.do(func() {
			for _, m := range mounts {
				// EBUSY, since the folder is open; its requests are cut off all
				// the same (nfs_umount_begin in fs/nfs/super.c).
				_ = unix.Unmount(procPath(m.root), unix.MNT_FORCE)
			}
		})
	}
}

// takeOff detaches a folder that nothing waits for any more.
func takeOff(v *view, root *os.File) error {
	var err error
	v.do(func() { err = unix.Unmount(procPath(root), unix.MNT_FORCE|unix.MNT_DETACH) })
	return errors.Join(err, root.Close())
}
