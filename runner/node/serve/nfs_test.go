package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/willscott/go-nfs-client/nfs"
	"github.com/willscott/go-nfs-client/nfs/rpc"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

// folderFiles are Files below a folder of the machine.
type folderFiles struct {
	dir string

	mu   sync.Mutex
	kept map[string]any
}

func (f *folderFiles) ReadFileContext(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.dir, name))
}

func (f *folderFiles) OpenRoot(name string) (*os.Root, error) {
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

func (f *folderFiles) Kept(name string, make func() any) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept[name] == nil {
		f.kept = map[string]any{name: make()}
	}
	return f.kept[name]
}

// export serves /srv of files on the machine's loopback.
func export(t *testing.T, files Files) (addr string, d Daemon) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, err = serveNFS(host{
		name: "store", files: files, streams: []net.Listener{l},
		d: topology.Daemon{Service: "nfs", Root: "/srv"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return l.Addr().String(), d
}

func mount(t *testing.T, addr, path string) (*client.Target, error) {
	t.Helper()
	c, err := rpc.DialTCP("tcp", addr, false)
	for range 20 {
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		c, err = rpc.DialTCP("tcp", addr, false) // it draws its own port by lot
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	m := client.Mount{Client: c}
	return m.Mount(path, rpc.NewAuthUnix("client", 0, 0).Auth())
}

func mustMount(t *testing.T, addr, path string) *client.Target {
	t.Helper()
	target, err := mount(t, addr, path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func wantRemote(t *testing.T, c *client.Target, name, want string) {
	t.Helper()
	f, err := c.Open(name)
	if err != nil {
		t.Errorf("open %s: %v", name, err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; wanted %q", name, got, err, want)
	}
}

func TestNFS(t *testing.T) {
	files := &folderFiles{dir: t.TempDir()}
	addr, _ := export(t, files)
	local := filepath.Join(files.dir, "srv")
	if err := os.WriteFile(filepath.Join(local, "index.html"), []byte("first\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	web1, web2 := mustMount(t, addr, "/"), mustMount(t, addr, "/")
	wantRemote(t, web1, "/index.html", "first\n")

	f, err := web1.OpenFile("/new.txt", 0o640)
	if err == nil {
		_, err = f.Write([]byte("from web1\n"))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	wantRemote(t, web2, "/new.txt", "from web1\n")
	if got, err := os.ReadFile(filepath.Join(local, "new.txt")); err != nil || string(got) != "from web1\n" {
		t.Errorf("on the storage: %q, %v", got, err)
	}

	if _, err := web1.Mkdir("/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := web1.Rename("/new.txt", "/deep/moved.txt"); err != nil {
		t.Fatal(err)
	}
	wantRemote(t, mustMount(t, addr, "/deep"), "/moved.txt", "from web1\n")
	var names []string
	entries, err := web2.ReadDirPlus("/")
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names) // the client keeps them in a map
	if got := strings.Join(names, " "); err != nil || got != "deep index.html" {
		t.Errorf("entries %q, %v", got, err)
	}
	if err := web2.RemoveAll("/deep"); err != nil {
		t.Error(err)
	}
	if _, _, err := mustMount(t, addr, "/").Lookup("/deep"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}

	for _, path := range []string{"/nowhere", "/index.html"} {
		if _, err := mount(t, addr, path); err == nil {
			t.Errorf("%s was mounted", path)
		}
	}
}

// Nothing outside of the folder can be reached, whatever lies in it.
func TestNFSStaysInside(t *testing.T) {
	files := &folderFiles{dir: t.TempDir()}
	addr, _ := export(t, files)
	secret := filepath.Join(files.dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"absolute": secret, "relative": "../secret", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(files.dir, "srv", link)); err != nil {
			t.Fatal(err)
		}
	}
	c := mustMount(t, addr, "/")
	for _, name := range []string{"/absolute", "/relative"} {
		if f, err := c.Open(name); err == nil {
			if data, err := io.ReadAll(f); err == nil {
				t.Errorf("%s gives %q", name, data)
			}
		}
	}
	e := &exported{handles: newHandles()}
	var err error
	if e.root, err = files.OpenRoot("/srv"); err != nil {
		t.Fatal(err)
	}
	defer e.root.Close()
	for _, name := range []string{"../secret", "/../secret", "up/secret", "a/../../secret", "absolute", "relative"} {
		if f, err := e.Open(name); err == nil {
			f.Close()
			t.Errorf("%q was opened", name)
		}
	}
}

// A client goes on with the handles that it has when the server was stopped and
// started, whatever was renamed before; that of a removed file is stale.
func TestNFSHandles(t *testing.T) {
	h := newHandles()
	a, dir, deep := h.of("a"), h.of("dir"), h.of("dir/deep")
	if again := h.of("a"); string(again) != string(a) || len(a)%4 != 0 || len(a) > 64 {
		t.Errorf("handles %x and %x", a, again)
	}
	h.move("dir", "b")
	h.move("a", "b/deep") // over what is there
	want := func(handle []byte, path string) {
		t.Helper()
		if got, ok := h.path(handle); got != path || ok != (path != "") {
			t.Errorf("handle %x is %q, %t; wanted %q", handle, got, ok, path)
		}
	}
	want(a, "b/deep")
	want(dir, "b")
	want(deep, "")
	h.forget("b")
	want(a, "")
	want(dir, "")
	for _, other := range [][]byte{nil, a[:8], newHandles().of("a"), append(a, 0)} {
		want(other, "")
	}

	files := &folderFiles{dir: t.TempDir()}
	addr, d := export(t, files)
	if err := os.WriteFile(filepath.Join(files.dir, "srv", "a"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, before, err := mustMount(t, addr, "/").Lookup("/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	addr, _ = export(t, files)
	if attr, err := mustMount(t, addr, "/").GetAttr(before); err != nil || attr.Filesize != 1 {
		t.Errorf("after a restart: %+v, %v", attr, err)
	}
}

func TestNFSCloses(t *testing.T) {
	addr, d := export(t, &folderFiles{dir: t.TempDir()})
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	mustMount(t, addr, "/")
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	idle.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is open: %d, %v", n, err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it listens on")
	}
}

// Requests are handed over one by one, small ones whole.
func TestNFSRecords(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := &nfsConn{Conn: ours, daemon: &nfsDaemon{open: map[net.Conn]struct{}{}}}
	record := func(size int) []byte {
		r := binary.BigEndian.AppendUint32(nil, uint32(size)|1<<31)
		return append(r, make([]byte, size)...)
	}
	go func() {
		for _, b := range append(record(40), record(10000)...) {
			theirs.Write([]byte{b}) // as it may come: byte by byte
		}
		theirs.Write(record(maxRecord + 1)[:8])
	}()
	buf := make([]byte, 4096)
	if n, err := c.Read(buf); n != 44 || err != nil {
		t.Errorf("the first record: %d bytes, %v", n, err)
	}
	if n, err := c.Read(buf); n != 4096 || err != nil {
		t.Errorf("the second one's beginning: %d bytes, %v", n, err)
	}
	rest, err := io.ReadAll(c)
	if len(rest) != 10004-4096 || err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("the rest: %d bytes, %v", len(rest), err)
	}
}

func TestStatusOf(t *testing.T) {
	for want, err := range map[int]error{
		404: &fs.PathError{Err: fs.ErrNotExist}, 403: &fs.PathError{Err: fs.ErrPermission},
		504: &fs.PathError{Err: os.ErrDeadlineExceeded}, 503: errors.New("input/output error"),
	} {
		if got := statusOf(err); got != want {
			t.Errorf("%v: %d; wanted %d", err, got, want)
		}
	}
}
