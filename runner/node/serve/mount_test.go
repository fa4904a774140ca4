package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

func TestMain(m *testing.M) {
	node.Main()
	os.Exit(m.Run())
}

// station is a node with files.
type station struct {
	*netns.Namespace
	files *node.Files
}

// storage is an NFS server, and a web server beside it on a cable.
type storage struct {
	store, web station
	daemon     serve.Daemon
	server     netip.AddrPort
}

// newStorage needs a kernel with the NFS client.
func newStorage(t *testing.T) *storage {
	t.Helper()
	needRoot(t)
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(known), "\tnfs\n") {
		t.Skip("this kernel has no NFS client (module nfs)")
	}
	s := &storage{store: newStation(t, "store"), web: newStation(t, "web1"), server: netip.MustParseAddrPort("10.0.0.10:2049")}
	if ok, err := s.web.files.Overlay(); err != nil || !ok {
		t.Skipf("this kernel has no overlayfs (%v)", err)
	}
	err = s.web.Netlink().LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0", Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.store.Fd()),
	})
	if err != nil {
		t.Fatal(err)
	}
	for n, a := range map[station]string{s.web: "10.0.0.2/24", s.store: "10.0.0.10/24"} {
		l, err := n.Netlink().LinkByName("eth0")
		if err == nil {
			err = n.Netlink().LinkSetUp(l)
		}
		addr, _ := netlink.ParseAddr(a)
		if err == nil {
			err = n.Netlink().AddrAdd(l, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.start(t)
	if err := s.store.files.WriteFile("/srv/index.html", []byte("first\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func newStation(t *testing.T, name string) station {
	ns := newNode(t, false)
	f := node.NewFiles(name, ns)
	t.Cleanup(func() { f.Close() })
	return station{ns, f}
}

func (s *storage) start(t *testing.T) {
	t.Helper()
	var err error
	s.daemon, err = serve.Start(s.store.Namespace, "store", s.store.files, topology.Daemon{Name: "nfs", Service: "nfs", Port: 2049, Root: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.daemon.Close() })
}

func (s *storage) mount(t *testing.T, options ...string) {
	t.Helper()
	m := topology.Mount{At: "/srv", Server: s.server, Path: "/", Options: options}
	for range 2 { // twice is as once
		if err := s.web.files.Mount(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// lose pulls the cable.
func (s *storage) lose(t *testing.T) {
	t.Helper()
	l, err := s.store.Netlink().LinkByName("eth0")
	if err == nil {
		err = s.store.Netlink().LinkSetDown(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, f *node.Files, name, want string) {
	t.Helper()
	if got, err := f.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; wanted %q", name, got, err, want)
	}
}

func TestGuestMount(t *testing.T) {
	s := newStorage(t)
	s.mount(t, "actimeo=0")
	wantFile(t, s.web.files, "/srv/index.html", "first\n")
	if err := s.web.files.WriteFile("/srv/deep/new.txt", []byte("from web1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantFile(t, s.store.files, "/srv/deep/new.txt", "from web1\n")

	// A command sees it, too.
	out := node.Run(t.Context(), s.web.files, node.Command{Combined: true, Shell: "set -e; cat /srv/deep/new.txt; mv /srv/deep/new.txt /srv/a; cat /srv/a; " +
		"ln -s a /srv/b; cat /srv/b; chmod 600 /srv/a; set -C; echo x >/srv/c; rm /srv/c; rmdir /srv/deep; ls /srv"})
	if want := "from web1\nfrom web1\nfrom web1\na\nb\nindex.html\n"; out.Err != nil || out.ExitCode != 0 || string(out.Stdout) != want {
		t.Errorf("%v, exit %d: %q; wanted %q", out.Err, out.ExitCode, out.Stdout, want)
	}

	// A restart of the server is not noticed but for the time it takes.
	if err := s.daemon.Close(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	wantRead := time.Now().Add(30 * time.Second)
	for {
		data, err := s.web.files.ReadFile("/srv/a")
		if err == nil && string(data) == "from web1\n" {
			break
		}
		if time.Now().After(wantRead) {
			t.Fatalf("after a restart: %q, %v", data, err)
		}
	}

	// Other options mean another mount, and an unmount shows what was hidden.
	s.mount(t, "soft", "ro")
	if err := s.web.files.WriteFile("/srv/a", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("mounted read-only: %v", err)
	}
	for range 2 {
		if err := s.web.files.Unmount("/srv"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.web.files.ReadFile("/srv/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after umount: %v", err)
	}
}

func TestGuestMountFails(t *testing.T) {
	s := newStorage(t)
	for _, c := range []struct {
		m    topology.Mount
		want error
		say  string
	}{
		{topology.Mount{At: "/srv", Server: s.server, Path: "/nowhere"}, unix.ENOENT, "no such folder"},
		{topology.Mount{At: "/srv", Server: s.server, Path: "/", Options: []string{"nonsense"}}, unix.EINVAL, "nfs(5)"},
		{topology.Mount{At: "/srv", Server: netip.AddrPortFrom(s.server.Addr(), 2050), Path: "/"}, unix.ECONNREFUSED, "no NFS server listens"},
	} {
		err := s.web.files.Mount(t.Context(), c.m)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "web1") {
			t.Errorf("%+v: %v; wanted %v and %q", c.m, err, c.want, c.say)
		}
	}
}

// When the storage is gone, all that waits for it ends with the node: file
// operations, web servers' requests, commands, and what was not written yet.
func TestGuestDeadStorage(t *testing.T) {
	for _, options := range [][]string{{"hard"}, {"soft", "timeo=3", "retrans=1"}} {
		t.Run(options[0], func(t *testing.T) {
			s := newStorage(t)
			s.mount(t, options...)
			web, err := serve.Start(s.web.Namespace, "web1", s.web.files, topology.Daemon{Name: "http", Service: "http", Port: 80, Root: "/srv"})
			if err != nil {
				t.Fatal(err)
			}
			defer web.Close()
			resp, body := get(t, s.web.Namespace, "GET", "127.0.0.1:80", "/")
			if resp.StatusCode != http.StatusOK || body != "first\n" || resp.Header.Get(serve.ServedBy) != "web1" {
				t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
			}
			if resp, _ := get(t, s.web.Namespace, "GET", "127.0.0.1:80", "/nothing"); resp.StatusCode != http.StatusNotFound {
				t.Errorf("a file that is not there: %d", resp.StatusCode)
			}

			var wg sync.WaitGroup
			writer := node.Command{Shell: "exec 3>>/srv/log; echo ready >/tmp/ready; while :; do echo line >&3; done", Timeout: time.Minute}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			wg.Go(func() { node.Run(ctx, s.web.files, writer) })
			await(t, func() error {
				_, err := s.web.files.Stat("/tmp/ready")
				return err
			})
			s.lose(t)
			for range 4 {
				wg.Go(func() {
					if _, err := s.web.files.ReadFile("/srv/index.html"); err == nil {
						t.Error("a file was read from a storage that is gone")
					}
				})
			}
			want := map[string]int{"hard": http.StatusGatewayTimeout, "soft": http.StatusServiceUnavailable}[options[0]]
			if resp, body := get(t, s.web.Namespace, "GET", "127.0.0.1:80", "/"); resp.StatusCode != want {
				t.Errorf("%d %q; wanted %d", resp.StatusCode, body, want)
			}
			web.Close()
			if err := s.web.files.Close(); err != nil {
				t.Error(err)
			}
			wg.Wait()
			if err := s.web.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func await(t *testing.T, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("not within 20 s: %w", err))
		}
		time.Sleep(5 * time.Millisecond)
	}
}
