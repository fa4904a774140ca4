package serve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/willscott/go-nfs"
	"golang.org/x/sys/unix"
)

// nfsDaemon is an NFSv3 server, the program MOUNT beside NFS on one port, as
// RFC 1813 leaves open. There is no portmapper, no lock manager and no access
// control: who reaches the port may do all.
type nfsDaemon struct {
	cancel    context.CancelFunc
	listeners []net.Listener
	loops     sync.WaitGroup
	root      *os.Root
	once      sync.Once
	err       error

	mu     sync.Mutex // guards what follows
	closed bool
	open   map[net.Conn]struct{}
}

// serveNFS exports a folder of the node's own view of the files. A client that
// has mounted it before a stop of the server goes on after the next start.
func serveNFS(h host) (Daemon, error) {
	quietNFS()
	root := h.d.Root
	folder, err := h.files.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	handles, _ := h.files.Kept("nfs "+root, func() any { return newHandles() }).(*handles)
	ctx, cancel := context.WithCancel(context.Background())
	d := &nfsDaemon{cancel: cancel, listeners: h.streams, root: folder, open: make(map[net.Conn]struct{})}
	server := &nfs.Server{Handler: &nfsHandler{fs: &exported{root: folder, handles: handles}, host: h}, Context: ctx}
	// A client that is told another verifier writes again what was not
	// committed; here all is (RFC 1813, 3.3.7).
	binary.BigEndian.PutUint64(server.ID[:], handles.boot)
	for _, l := range h.streams {
		// What ends Serve is Close, or a listener that is gone: clients see it.
		d.loops.Go(func() { _ = server.Serve(nfsListener{l, d}) })
	}
	return d, nil
}

// quietNFS keeps the library from writing to the program's standard error: what
// goes wrong is told to the client.
var quietNFS = sync.OnceFunc(func() { nfs.Log.SetLevel(nfs.PanicLevel) })

// Close implements Daemon. The library has no end to wait for, of a request
// that it is carrying out: such a one finds the folder closed.
func (d *nfsDaemon) Close() error {
	d.once.Do(func() {
		d.cancel()
		var errs []error
		for _, l := range d.listeners {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		d.loops.Wait()
		d.mu.Lock()
		d.closed = true
		for c := range d.open {
			errs = append(errs, c.Close())
		}
		d.mu.Unlock()
		d.err = errors.Join(append(errs, d.root.Close())...)
	})
	return d.err
}

// nfsHandler is what the library asks.
type nfsHandler struct {
	fs   *exported
	host host
}

var _ nfs.Handler = (*nfsHandler)(nil)

// Mount implements nfs.Handler: of the exported folder, or of one below it.
func (h *nfsHandler) Mount(_ context.Context, c net.Conn, req nfs.MountRequest) (nfs.MountStatus, billy.Filesystem, []nfs.AuthFlavor) {
	name := inside(string(req.Dirpath))
	h.host.asked(c.RemoteAddr(), "mount", "/"+name)
	info, err := h.fs.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nfs.MountStatusErrNoEnt, h.fs, nil
	case err != nil:
		return nfs.MountStatusErrIO, h.fs, nil
	case !info.IsDir():
		return nfs.MountStatusErrNotDir, h.fs, nil
	}
	return nfs.MountStatusOk, &subfolder{h.fs, name}, []nfs.AuthFlavor{nfs.AuthFlavorNull, nfs.AuthFlavorUnix}
}

// Change implements nfs.Handler.
func (h *nfsHandler) Change(billy.Filesystem) billy.Change { return h.fs }

// FSStat implements nfs.Handler.
func (h *nfsHandler) FSStat(_ context.Context, _ billy.Filesystem, s *nfs.FSStat) error {
	dir, err := h.fs.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	block := uint64(st.Bsize) //nolint:gosec // a size
	s.TotalSize, s.FreeSize, s.AvailableSize = st.Blocks*block, st.Bfree*block, st.Bavail*block
	s.TotalFiles, s.FreeFiles, s.AvailableFiles = st.Files, st.Ffree, st.Ffree
	return nil
}

// ToHandle implements nfs.Handler.
func (h *nfsHandler) ToHandle(where billy.Filesystem, name []string) []byte {
	if sub, ok := where.(*subfolder); ok {
		name = append([]string{sub.base}, name...)
	}
	return h.fs.handles.of(inside(path.Join(name...)))
}

// FromHandle implements nfs.Handler.
func (h *nfsHandler) FromHandle(handle []byte) (billy.Filesystem, []string, error) {
	name, ok := h.fs.handles.path(handle)
	if !ok {
		return nil, nil, &nfs.NFSStatusError{NFSStatus: nfs.NFSStatusStale}
	}
	if name == "." {
		return h.fs, nil, nil
	}
	return h.fs, strings.Split(name, "/"), nil
}

// InvalidateHandle implements nfs.Handler: the library calls it after a file was
// removed, and after one was renamed, whose handle lives on.
func (h *nfsHandler) InvalidateHandle(_ billy.Filesystem, handle []byte) error {
	if name, ok := h.fs.handles.path(handle); ok {
		if _, err := h.fs.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			h.fs.handles.forget(name)
		}
	}
	return nil
}

// HandleLimit implements nfs.Handler. It bounds how many entries one answer to
// READDIR has.
func (h *nfsHandler) HandleLimit() int { return 1 << 20 }

// handles are the file handles that clients were given. They outlive the server,
// as those of a real one outlive its process, and name a file wherever it is
// moved to; the handle of a file that was removed is stale.
type handles struct {
	// boot tells the handles of this table from all others.
	boot uint64

	mu     sync.Mutex // guards what follows
	last   uint64
	byID   map[uint64]string
	byPath map[string]uint64
}

func newHandles() *handles {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return &handles{boot: binary.BigEndian.Uint64(b[:]), byID: make(map[uint64]string), byPath: make(map[string]uint64)}
}

// of is the handle of a path, as inside makes it.
func (h *handles) of(name string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	id, ok := h.byPath[name]
	if !ok {
		h.last++
		id = h.last
		h.byID[id], h.byPath[name] = name, id
	}
	// The library reads handles whose length is a multiple of 4 alone.
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, h.boot), id)
}

func (h *handles) path(handle []byte) (string, bool) {
	if len(handle) != 16 || binary.BigEndian.Uint64(handle) != h.boot {
		return "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name, ok := h.byID[binary.BigEndian.Uint64(handle[8:])]
	return name, ok
}

// forget makes the handles of a path, and of all below it, stale.
func (h *handles) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, id := range h.byPath {
		if p == name || strings.HasPrefix(p, name+"/") {
			delete(h.byPath, p)
			delete(h.byID, id)
		}
	}
}

// move lets handles go with what was renamed.
func (h *handles) move(from, to string) {
	if from == to {
		return
	}
	h.forget(to)
	h.mu.Lock()
	defer h.mu.Unlock()
	moved := make(map[string]uint64)
	for p, id := range h.byPath {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(h.byPath, p)
			moved[to+p[len(from):]] = id
		}
	}
	for p, id := range moved {
		h.byPath[p], h.byID[id] = id, p
	}
}

// inside is a path below the exported folder as os.Root takes it; ".." leads no
// higher than the folder.
func inside(name string) string {
	name = path.Clean("/" + name)
	if name == "/" {
		return "."
	}
	return name[1:]
}

// errNoTemporary is for what the library's interface has and NFSv3 has not.
var errNoTemporary = fmt.Errorf("a temporary file, or a folder of its own: %w", billy.ErrNotSupported)
