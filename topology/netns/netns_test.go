package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// needRoot skips where no namespace can be made, or fails when LVSLAB_REQUIRE=1
// says that it must be possible here.
func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "making network namespaces needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		tb.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
	}
	tb.Skip(why)
}

func newNamespace(tb testing.TB) *Namespace {
	tb.Helper()
	needRoot(tb)
	n, err := New(tb.Name())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

// inode names a namespace.
func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}

func mustInode(tb testing.TB, path string) uint64 { //nolint:unparam // reads as what it asks
	tb.Helper()
	ino, err := inode(path)
	if err != nil {
		tb.Fatal(err)
	}
	return ino
}

func loopbackUp(tb testing.TB, n *Namespace) {
	tb.Helper()
	if err := n.Netlink().LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
		tb.Fatal(err)
	}
}

func TestNewIsElsewhere(t *testing.T) {
	n := newNamespace(t)
	host := mustInode(t, "/proc/self/ns/net")
	var st unix.Stat_t
	if err := unix.Fstat(n.Fd(), &st); err != nil {
		t.Fatal(err)
	}
	for what, run := range map[string]func(func() error) error{"Do": n.Do, "Thread": n.Thread} {
		var in uint64
		if err := run(func() (err error) { in, err = inode(threadPath); return err }); err != nil {
			t.Fatal(err)
		}
		if in == host || in != st.Ino {
			t.Errorf("%s ran in %d; the host is %d, Fd is %d", what, in, host, st.Ino)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(n.Fd()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("Fd is not close-on-exec: flags %#x, %v", flags, err)
	}
	links, err := n.Netlink().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if links[0].Attrs().Name != "lo" || links[0].Attrs().Flags&net.FlagUp != 0 {
		t.Errorf("wanted lo, down; found %v", links[0].Attrs())
	}
	if now := mustInode(t, "/proc/self/ns/net"); now != host {
		t.Errorf("the process was in namespace %d and is now in %d", host, now)
	}
}

func TestDoHandsBack(t *testing.T) {
	n := newNamespace(t)
	mine := errors.New("mine")
	for what, run := range map[string]func(func() error) error{"Do": n.Do, "Thread": n.Thread} {
		if err := run(func() error { return mine }); !errors.Is(err, mine) {
			t.Errorf("%s: got %v", what, err)
		}
		err := run(func() error { panic("ouch") })
		if err == nil || !strings.Contains(err.Error(), "ouch") || !strings.Contains(err.Error(), "netns_test.go") ||
			!strings.Contains(err.Error(), n.Name()) {
			t.Errorf("%s: a panic became %v", what, err)
		}
		err = run(func() error { runtime.Goexit(); return nil })
		if err == nil || !strings.Contains(err.Error(), "Goexit") {
			t.Errorf("%s: Goexit became %v", what, err)
		}
	}
	// The resident goes on, in the namespace, and Do nests.
	host := mustInode(t, "/proc/self/ns/net")
	err := n.Do(func() error {
		return n.Do(func() error {
			in, err := inode(threadPath)
			if err == nil && in == host {
				err = errors.New("on the host")
			}
			return err
		})
	})
	if err != nil {
		t.Error(err)
	}
	if err := n.Do(n.Close); err == nil {
		t.Error("Close inside Do did not fail")
	}
}

func TestDoFromMany(t *testing.T) {
	n := newNamespace(t)
	count, inside := 0, atomic.Int32{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 100 {
				err := n.Do(func() error {
					if inside.Add(1) != 1 {
						return errors.New("two at once")
					}
					count++ // the race detector watches
					inside.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if count != 5000 {
		t.Errorf("ran %d times, wanted 5000", count)
	}
}

func TestThreadsRunBeside(t *testing.T) {
	n := newNamespace(t)
	const many = 8
	var all sync.WaitGroup
	all.Add(many)
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			err := n.Thread(func() error {
				all.Done()
				all.Wait() // hangs if they took turns
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCloseWhileInUse(t *testing.T) {
	needRoot(t)
	host := mustInode(t, "/proc/self/ns/net")
	for range 30 {
		n, err := New("racy")
		if err != nil {
			t.Fatal(err)
		}
		check := func() error {
			if in, err := inode(threadPath); err != nil || in == host {
				return fmt.Errorf("in namespace %d, the host is %d: %w", in, host, err)
			}
			return nil
		}
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for _, f := range []func() error{
			func() error { return n.Do(check) },
			func() error { return n.Do(check) },
			func() error { return n.Thread(check) },
			func() error { _, err := n.Sysctl("net.ipv4.ip_forward"); return err },
		} {
			wg.Go(func() {
				<-begin
				for {
					if err := f(); errors.Is(err, ErrClosed) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				<-begin
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		wg.Wait()
	}
}

func TestAfterClose(t *testing.T) {
	n := newNamespace(t)
	h := n.Netlink()
	for range 2 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ran := func() error { t.Error("ran after Close"); return nil }
	for what, err := range map[string]error{
		"Do":     n.Do(ran),
		"Thread": n.Thread(ran),
		"Dial": func() error {
			_, err := n.Dial(t.Context(), "tcp", netip.MustParseAddrPort("127.0.0.1:1"))
			return err
		}(),
		"SetSysctl": n.SetSysctl("net.ipv4.ip_forward", "1"),
	} {
		if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), t.Name()) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if n.Fd() != -1 {
		t.Errorf("Fd is %d", n.Fd())
	}
	// A closed handle of the netlink package would open a new socket here, on
	// the host.
	for what, h := range map[string]*netlink.Handle{"a kept handle": h, "Netlink": n.Netlink()} {
		if links, err := h.LinkList(); err == nil {
			t.Errorf("%s works after Close and lists %d links of the host", what, len(links))
		}
	}
}

// entries counts a directory of /proc.
func entries(tb testing.TB, dir string) int {
	tb.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return len(list)
}

func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	cycle := func(count int) {
		all := make([]*Namespace, count)
		for i := range all {
			n, err := New("leak")
			if err != nil {
				t.Fatal(err)
			}
			all[i] = n
			if err := n.Thread(func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if got := entries(t, "/proc/self/task"); got < count {
			t.Errorf("%d threads for %d namespaces", got, count)
		}
		for _, n := range all {
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cycle(4) // the runtime's own first threads and descriptors
	host, threads, fds := mustInode(t, "/proc/self/ns/net"), entries(t, "/proc/self/task"), entries(t, "/proc/self/fd")
	for range 4 {
		cycle(50)
	}
	// The runtime keeps some idle threads of its own; they do not grow with the
	// number of namespaces. Ended ones may need a moment.
	more := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if more = entries(t, "/proc/self/task") - threads; more <= 8 {
			break
		}
	}
	if more > 8 {
		t.Errorf("%d threads more after 200 New and Close", more)
	}
	if now := entries(t, "/proc/self/fd"); now > fds {
		t.Errorf("%d descriptors before, %d after", fds, now)
	}
	// No thread of the process is anywhere but on the host.
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		in, err := inode("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && in != host {
			t.Errorf("thread %s is in namespace %d, the host is %d", task.Name(), in, host)
		}
	}
}

// Of the two namespaces only one listens, so that a connection shows where its
// socket was made.
func TestDialAndListen(t *testing.T) {
	n := newNamespace(t)
	other, err := New("other")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	loopbackUp(t, n)
	loopbackUp(t, other)

	l, err := n.Listen(t.Context(), "tcp", netip.MustParseAddrPort("0.0.0.0:8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "hello %s", c.RemoteAddr())
			_ = c.Close()
		}
	}()

	at := netip.MustParseAddrPort("127.0.0.1:8080")
	c, err := n.Dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if want := "hello " + c.LocalAddr().String(); err != nil || string(got) != want {
		t.Errorf("read %q, %v, wanted %q", got, err, want)
	}
	_ = c.Close()

	_, err = other.Dial(t.Context(), "tcp", at)
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "other") {
		t.Errorf("from another namespace: %v, wanted connection refused", err)
	}
	if c, err := net.Dial("tcp4", at.String()); err == nil {
		// A server of the machine's own may be there, but not ours.
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if got, _ := io.ReadAll(c); strings.HasPrefix(string(got), "hello") {
			t.Error("the host reaches the namespace's listener")
		}
		_ = c.Close()
	}

	if _, err := n.Dial(t.Context(), "tcp6", at); err == nil {
		t.Error("tcp6 took an IPv4 address")
	}
	if _, err := n.Dial(t.Context(), "unix", at); err == nil {
		t.Error("network unix was taken")
	}
	if _, err := n.Dial(t.Context(), "tcp", netip.AddrPort{}); err == nil {
		t.Error("no address was taken")
	}
}

func TestDialUDP(t *testing.T) {
	n := newNamespace(t)
	loopbackUp(t, n)
	at := netip.MustParseAddrPort("127.0.0.1:53")
	l, err := n.ListenPacket(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := n.Dial(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, from, err := l.ReadFrom(make([]byte, 8)); err != nil || from.String() != c.LocalAddr().String() {
		t.Errorf("from %v, %v, wanted %v", from, err, c.LocalAddr())
	}
}

// A backlog that is full leaves SYNs unanswered: Dial must end with its context.
func TestDialEndsWithContext(t *testing.T) {
	n := newNamespace(t)
	loopbackUp(t, n)
	fd := -1
	err := n.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrInet4{Port: 99, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		return unix.Listen(fd, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	at := netip.MustParseAddrPort("127.0.0.1:99")
	for range 1 { // a backlog of 0 holds one
		c, err := n.Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = n.Dial(ctx, "tcp", at)
	var op net.Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &op) || !op.Timeout() {
		t.Errorf("deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err = n.Dial(ctx, "tcp", at); !errors.Is(err, context.Canceled) {
		t.Errorf("cancel: %v", err)
	}
}

func TestSysctl(t *testing.T) {
	n := newNamespace(t)
	const key = "net.ipv4.ip_forward"
	before, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	want := "1"
	if strings.TrimSpace(string(before)) == "1" {
		want = "0"
	}
	if err := n.SetSysctl(key, want); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Sysctl("net/ipv4/ip_forward"); err != nil || got != want {
		t.Errorf("read %q, %v, wanted %q", got, err, want)
	}
	if after, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); string(after) != string(before) {
		t.Errorf("the host's own went from %q to %q", before, after)
	}
	if _, err := n.Sysctl("net.ipv4.no_such"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), t.Name()) {
		t.Errorf("a key that is not there: %v", err)
	}

	dotted := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "lo.5"}}
	kinds := []netlink.Link{dotted, &netlink.Veth{LinkAttrs: dotted.LinkAttrs, PeerName: "peer"}}
	for i, l := range kinds { // not every kernel has dummy
		if err = n.Netlink().LinkAdd(l); err == nil {
			break
		} else if i == len(kinds)-1 {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"net.ipv4.conf.lo/5.rp_filter", "net/ipv4/conf/lo.5/rp_filter"} {
		if err := n.SetSysctl(key, "2"); err != nil {
			t.Error(err)
		}
	}

	dev, err := n.ProcNet("dev")
	if err != nil || !strings.Contains(string(dev), "lo.5:") {
		t.Errorf("net/dev is %s, %v", dev, err)
	}
	for _, bad := range []string{"../../self/environ", "/etc/passwd", "", "a/../../.."} {
		if _, err := n.ProcNet(bad); err == nil {
			t.Errorf("ProcNet(%q) was taken", bad)
		}
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":            "/proc/sys/net/ipv4/ip_forward",
		"net/ipv4/ip_forward":            "/proc/sys/net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/5.rp_filter": "/proc/sys/net/ipv4/conf/eth0.5/rp_filter",
		"net/ipv4/conf/eth0.5/rp_filter": "/proc/sys/net/ipv4/conf/eth0.5/rp_filter",
		"net.ipv4.vs.conntrack":          "/proc/sys/net/ipv4/vs/conntrack",

		"":                       "",
		"net":                    "",
		"net.":                   "",
		"netx.ipv4":              "",
		"kernel.hostname":        "",
		"/net/ipv4/ip_forward":   "",
		"/etc/passwd":            "",
		"../etc/passwd":          "",
		"net/../kernel/hostname": "",
		"net.//.kernel":          "",
		"net..ipv4":              "",
		"net/ipv4/":              "",
		"net/./ipv4":             "",
		"net/ipv4/a\x00b":        "",
		"net.ipv4.a\nb":          "",
	} {
		got, err := sysctlPath(key)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("sysctlPath(%q) = %q, %v, wanted %q", key, got, err, want)
		}
	}
}

func FuzzSysctlPath(f *testing.F) {
	for _, key := range []string{"net.ipv4.ip_forward", "net/ipv4/conf/a.b/x", "net.//./..", "net/../x", "/net", ".net.a"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		path, err := sysctlPath(key)
		if err != nil {
			return
		}
		const root = "/proc/sys/net/"
		if !strings.HasPrefix(path, root) {
			t.Fatalf("%q leads to %q", key, path)
		}
		for word := range strings.SplitSeq(path[len(root):], "/") {
			if word == "" || word == "." || word == ".." {
				t.Fatalf("%q leads to %q", key, path)
			}
		}
	})
}

func BenchmarkNewClose1000(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		all := make([]*Namespace, 1000)
		for i := range all {
			n, err := New("bench")
			if err != nil {
				b.Fatal(err)
			}
			all[i] = n
		}
		for _, n := range all {
			if err := n.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// The floor: the system calls alone.
func BenchmarkUnshare1000(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		done := make(chan error)
		onThread(func() {
			var fds [1000]int
			for i := range fds {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					done <- err
					return
				}
				fds[i], _ = unix.Open(threadPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			}
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			done <- nil
		})
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	n := newNamespace(b)
	for b.Loop() {
		if err := n.Do(func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
