package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// MaxFile is the largest file, in bytes, that ReadFile reads.
const MaxFile = 16 << 20

// errFilesClosed is what every method of Files answers after Close.
var errFilesClosed = errors.New("the node's files are gone (closed)")

// Files is the machine's file tree as one node sees it: everything there can be
// read, and what the node changes is seen by that node alone. Run and the methods
// here show the same files.
//
// Each file system of the machine is the lower layer of an overlay whose upper
// layer is memory (FilesBytes at most), inside a mount namespace that one thread
// of this process holds: nothing is written to a disk, and when the process ends,
// by SIGKILL too, nothing is left. Without overlayfs in the kernel (Overlay is
// false then) the tree is read-only but for empty /tmp, /var/tmp and /run. In
// both cases /run and /dev are the node's own, so that the machine's daemons and
// disks are out of reach, and /sys is read-only.
//
// It costs nothing until it is first used. All methods may be called from any
// goroutine. Paths are absolute; symbolic links and ".." in them stay inside.
type Files struct {
	name string
	ns   *netns.Namespace
	// plain leaves overlayfs alone, for tests.
	plain bool

	// ctx ends with Close, and with it the commands that run.
	ctx      context.Context
	close    context.CancelFunc
	commands sync.WaitGroup

	// slots bound the operations that are under way at once where folders of
	// other nodes are mounted: each may wait for a server that is gone, and
	// holds a thread meanwhile.
	slots chan struct{}

	programs programs

	mu     sync.Mutex // guards what follows
	view   *view
	closed bool
	// toolbox, when it is not nil, is asked for lvslab's own programs there.
	toolbox func() Toolbox
	mounts  map[string]*mounted // by their path
	kept    map[string]any
}

// NewFiles makes the files of the node called name, whose commands run in ns.
func NewFiles(name string, ns *netns.Namespace) *Files {
	ctx, cancel := context.WithCancel(context.Background())
	return &Files{name: name, ns: ns, ctx: ctx, close: cancel, slots: make(chan struct{}, maxWaiting)}
}

// use is the view, made when it is first asked for. done must be called when it
// is no longer needed; Close waits for that.
func (f *Files) use() (v *view, done func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, nil, fmt.Errorf("node %s: %w", f.name, errFilesClosed)
	}
	if f.view == nil {
		v, err := newView(f.name, f.ns.Fd(), f.plain, f.toolbox)
		if err != nil {
			return nil, nil, fmt.Errorf("node %s: make its view of the files: %w", f.name, err)
		}
		f.view = v
	}
	f.commands.Add(1)
	return f.view, f.commands.Done, nil
}

// Overlay says whether the node can write to every path.
func (f *Files) Overlay() (bool, error) {
	v, done, err := f.use()
	if err != nil {
		return false, err
	}
	defer done()
	return v.overlay, nil
}

// Close kills the node's commands and forgets its files. It returns when the
// commands are gone, and does not wait for the server of a mounted folder: what
// was not written there yet is lost. Calling it again does nothing.
func (f *Files) Close() error {
	f.mu.Lock()
	v, mounts := f.view, f.mounts
	f.view, f.mounts, f.closed = nil, nil, true
	f.mu.Unlock()
	f.close()
	if err := f.release(v, mounts); err != nil {
		return err // the view's thread is kept: it cannot end
	}
	if v != nil {
		v.end()
	}
	return nil
}

// Kept is what a server keeps in the node between its starts, as a real one
// does in a file: the value under name, made when it is first asked for.
func (f *Files) Kept(name string, make func() any) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept == nil {
		f.kept = map[string]any{}
	}
	v, ok := f.kept[name]
	if !ok {
		v = make()
		f.kept[name] = v
	}
	return v
}

// ReadFile reads a regular file of the node, of at most MaxFile bytes. The
// error is an *fs.PathError inside (fs.ErrNotExist and so on). Where a server
// does not answer for its folder it is os.ErrDeadlineExceeded after FileWait.
func (f *Files) ReadFile(name string) ([]byte, error) {
	return f.ReadFileContext(f.ctx, name)
}

// ReadFileContext is ReadFile that waits no longer than ctx.
func (f *Files) ReadFileContext(ctx context.Context, name string) ([]byte, error) {
	return at(ctx, f, "read", name, func(v *view) ([]byte, error) {
		// Not blocking: a FIFO without a writer would hold the caller.
		file, err := v.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if err := regular(file); err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
		if err == nil && len(data) > MaxFile {
			return nil, fmt.Errorf("larger than %d bytes: %w", MaxFile, unix.EFBIG)
		}
		return data, err
	})
}

// OpenRoot opens a folder of the node, which is made (0755) where it is missing.
// Nothing outside of it can be reached by what is returned.
func (f *Files) OpenRoot(name string) (*os.Root, error) {
	return at(f.ctx, f, "open", name, func(v *view) (*os.Root, error) {
		if err := v.mkdirAll(path.Clean(name)); err != nil {
			return nil, err
		}
		dir, err := v.open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		return os.OpenRoot(procPath(dir))
	})
}

// procPath names an open file, for system calls that take names alone.
func procPath(file *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", file.Fd()) }

// WriteFile makes or replaces the content of a regular file of the node. The
// folders above it are made (0755) where they are missing; perm, less no umask,
// counts for a new file.
func (f *Files) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return f.do("write", name, func(v *view) error {
		if err := v.mkdirAll(path.Dir(path.Clean(name))); err != nil {
			return err
		}
		_, missing := v.stat(name)
		file, err := v.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK|unix.O_NOCTTY, perm.Perm())
		if err != nil {
			return err
		}
		err = regular(file)
		if err == nil {
			err = file.Truncate(0)
		}
		if err == nil && missing != nil {
			err = file.Chmod(perm.Perm()) // the umask is the process's, not the node's
		}
		if err == nil {
			_, err = file.Write(data)
		}
		return errors.Join(err, file.Close())
	})
}

// Stat describes a file of the node; symbolic links are followed.
func (f *Files) Stat(name string) (fs.FileInfo, error) {
	return at(f.ctx, f, "stat", name, func(v *view) (fs.FileInfo, error) { return v.stat(name) })
}

// Remove takes one file, or an empty folder, out of the node's view.
func (f *Files) Remove(name string) error {
	return f.do("remove", name, func(v *view) error {
		clean := path.Clean(name)
		parent, err := v.open(path.Dir(clean), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer parent.Close()
		err = unix.Unlinkat(int(parent.Fd()), path.Base(clean), 0)
		if errors.Is(err, unix.EISDIR) {
			err = unix.Unlinkat(int(parent.Fd()), path.Base(clean), unix.AT_REMOVEDIR)
		}
		return err
	})
}

// FileWait bounds a file operation in a node that has folders of others
// mounted, whose server may be gone: then nothing else ends it.
const FileWait = 5 * time.Second

// maxWaiting is how many such operations of a node are under way at once.
const maxWaiting = 64

// do is at for what has no result.
func (f *Files) do(op, name string, do func(*view) error) error {
	_, err := at(f.ctx, f, op, name, func(v *view) (struct{}, error) { return struct{}{}, do(v) })
	return err
}

// at runs one file operation and says in its error where it was.
func at[T any](ctx context.Context, f *Files, op, name string, do func(*view) (T, error)) (T, error) {
	var none T
	if !path.IsAbs(name) {
		return none, fmt.Errorf("node %s: %s %q: wanted an absolute path", f.name, op, name)
	}
	v, done, err := f.use()
	if err != nil {
		return none, err
	}
	var result T
	if f.mounting() {
		result, err = bounded(ctx, f, done, func() (T, error) { return do(v) })
	} else {
		result, err = do(v)
		done()
	}
	if err == nil {
		return result, nil
	}
	hint := ""
	if errors.Is(err, unix.EROFS) && !v.overlay {
		hint = " (this kernel has no overlayfs: load the module overlay)"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // its path is ours, or a number
	}
	return none, fmt.Errorf("node %s: %w%s", f.name, &fs.PathError{Op: op, Path: name, Err: err}, hint)
}

// bounded runs do beside the caller and waits no longer than ctx, or FileWait.
// What is left behind ends when its server answers, at the latest with Close.
func bounded[T any](ctx context.Context, f *Files, done func(), do func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, FileWait, os.ErrDeadlineExceeded)
	defer cancel()
	type outcome struct {
		value T
		err   error
	}
	var none outcome
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		done()
		return none.value, fmt.Errorf("%d operations wait for the server already: %w", maxWaiting, context.Cause(ctx))
	}
	ended := make(chan outcome, 1)
	go func() {
		defer done()
		defer func() { <-f.slots }()
		value, err := do()
		ended <- outcome{value, err}
	}()
	select {
	case o := <-ended:
		return o.value, o.err
	case <-ctx.Done():
		return none.value, fmt.Errorf("the server of the mounted folder does not answer: %w", context.Cause(ctx))
	}
}

func regular(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("not a regular file (%s): %w", info.Mode().Type(), unix.EINVAL)
	}
	return nil
}
