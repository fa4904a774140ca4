package ipvs

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// testNode is a namespace of its own on one thread, which ends with the test.
type testNode struct {
	topology.Node
	calls chan func()
}

func (n *testNode) Name() string { return "director" }

func (n *testNode) Do(f func() error) error {
	done := make(chan error)
	n.calls <- func() { done <- f() }
	return <-done
}

// testWorld has one node.
type testWorld struct {
	topology.World
	node *testNode
}

func (w testWorld) Node(string) (topology.Node, error) { return w.node, nil }

func newTestNode(t *testing.T) *testNode {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "a network namespace needs root")
	}
	n := &testNode{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range n.calls {
			f()
		}
	}()
	t.Cleanup(func() { close(n.calls) })
	if err := <-ready; err != nil {
		t.Fatalf("a new network namespace: %v", err)
	}
	return n
}

// skip is for what this user or machine cannot show; LVSLAB_REQUIRE makes it a
// failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("LVSLAB_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// ipvsNode is a node on a kernel with IPVS, with an address on lo.
func ipvsNode(t *testing.T) (*testNode, *Conn) {
	t.Helper()
	n := newTestNode(t)
	if _, err := netlink.GenlFamilyGet(genlFamily); err != nil {
		// Not a failure even under LVSLAB_REQUIRE: these tests run in a guest.
		t.Skipf("this kernel has no IPVS (%v); run this test in a guest", err)
	}
	err := n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, a := range []string{"10.9.0.1/24", "2001:db8::1/64"} {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(lo, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return n, c
}

// moby/ipvs would report success here.
func TestOpenWithoutIPVS(t *testing.T) {
	n := newTestNode(t)
	if _, err := netlink.GenlFamilyGet(genlFamily); err == nil {
		t.Skip("this kernel has IPVS")
	}
	if _, err := Open(n); !errors.Is(err, ErrNoIPVS) || !strings.Contains(err.Error(), "director") {
		t.Errorf("Open: %v, wanted ErrNoIPVS with the node's name", err)
	}
	if _, err := Stats(n); !errors.Is(err, ErrNoIPVS) {
		t.Errorf("Stats: %v, wanted ErrNoIPVS", err)
	}
	if _, err := Connections(n); !errors.Is(err, ErrNoIPVS) {
		t.Errorf("Connections: %v, wanted ErrNoIPVS", err)
	}
	err := NewServiceOp("director", Service{FWMark: 1}, "", source.Pos{}).Apply(t.Context(), testWorld{node: n})
	if !errors.Is(err, ErrNoIPVS) {
		t.Errorf("Apply: %v, wanted ErrNoIPVS", err)
	}
}

// ipvsadm runs the real one in the node; without it the test ends here.
func ipvsadm(t *testing.T, n *testNode, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("ipvsadm")
	if err != nil {
		t.Skip("no ipvsadm here to compare with")
	}
	var out []byte
	err = n.Do(func() (err error) {
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("ipvsadm %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Both ways: what ipvsadm wrote we read, what we wrote ipvsadm prints, and in
// its words.
func TestGuestLikeIpvsadm(t *testing.T) {
	n, c := ipvsNode(t)
	saved := readTestdata(t, "ipvsadm-1.31.save")
	table := mustParse(t, saved)
	check := func(by string) {
		t.Helper()
		got, err := c.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := got.Diff(table); len(diff) > 0 {
			t.Errorf("%s wrote, Table read:\n%s", by, strings.Join(diff, "\n"))
		}
		if diff := cmp.Diff(saved, FormatRules(got)); diff != "" {
			t.Errorf("%s wrote, FormatRules (-wanted +got):\n%s", by, diff)
		}
		if diff := cmp.Diff(saved, ipvsadm(t, n, "", "-S", "-n")); diff != "" {
			t.Errorf("%s wrote, ipvsadm -S -n (-wanted +got):\n%s", by, diff)
		}
		if diff := cmp.Diff(FormatList(got), ipvsadm(t, n, "", "-L", "-n")); diff != "" {
			t.Errorf("%s wrote, ipvsadm -L -n (-lvslab +ipvsadm):\n%s", by, diff)
		}
	}
	if err := Restore(t.Context(), n, table); err != nil {
		t.Fatal(err)
	}
	check("lvslab")
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ipvsadm(t, n, saved, "-R")
	check("ipvsadm")
}

// Any table that is valid the kernel takes, and gives back as it was, order of
// real servers included; and ipvsadm prints it in our words.
func TestGuestRandomTables(t *testing.T) {
	n, c := ipvsNode(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		want := randomTable(r)
		if err := c.Replace(t.Context(), want); err != nil {
			t.Fatalf("%v\n%s", err, FormatCommands(want))
		}
		got, err := c.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ordered := want.Clone()
		ordered.Sort()
		for i := range ordered { // services sorted, real servers as added
			e, _ := want.Find(ordered[i].Service)
			ordered[i].Destinations = e.Destinations
		}
		if diff := cmp.Diff(FormatCommands(ordered), FormatCommands(got)); diff != "" {
			t.Fatalf("-wanted +got:\n%s", diff)
		}
		if _, err := exec.LookPath("ipvsadm"); err != nil {
			continue
		}
		saved := ipvsadm(t, n, "", "-S", "-n")
		if diff := cmp.Diff(FormatRules(want), saved); diff != "" {
			t.Fatalf("-FormatRules +ipvsadm -S -n:\n%s", diff)
		}
		if diff := cmp.Diff(FormatList(want), ipvsadm(t, n, "", "-L", "-n")); diff != "" {
			t.Fatalf("-FormatList +ipvsadm -L -n:\n%s", diff)
		}
		// The way back: what ipvsadm saved, by ipvsadm and by us.
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		ipvsadm(t, n, saved, "-R")
		got, err = c.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := got.Diff(mustParse(t, saved)); len(diff) > 0 {
			t.Fatalf("ipvsadm -R and ParseRules of one save differ:\n%s", strings.Join(diff, "\n"))
		}
	}
}

func TestGuestOps(t *testing.T) {
	n, c := ipvsNode(t)
	w := testWorld{node: n}
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "rr"}
	d := Destination{Addr: netip.MustParseAddrPort("10.9.0.2:80"), Weight: 1}
	service := NewServiceOp("director", web, "", source.Pos{})
	server := NewDestinationOp("director", web, d, "", source.Pos{})
	apply := func(op topology.Op, want string) {
		t.Helper()
		for range 2 { // twice is as once
			if err := op.Apply(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			got, err := c.Table(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if FormatCommands(got) != want {
				t.Fatalf("table is\n%swanted\n%s", FormatCommands(got), want)
			}
		}
	}
	undo := func(op topology.Op) topology.Op {
		u, _ := op.Undo()
		return u
	}
	const addWeb = "-A -t 10.9.0.1:80 -s rr\n"
	apply(service, addWeb)
	apply(server, addWeb+"-a -t 10.9.0.1:80 -r 10.9.0.2:80 -g -w 1\n")
	d.Weight, d.Forward = 7, TUN
	apply(NewDestinationOp("director", web, d, "", source.Pos{}), addWeb+"-a -t 10.9.0.1:80 -r 10.9.0.2:80 -i -w 7\n")
	d.TunType, d.TunPort, d.TunFlags = GUE, 6080, Checksum
	apply(NewDestinationOp("director", web, d, "", source.Pos{}),
		addWeb+"-a -t 10.9.0.1:80 -r 10.9.0.2:80 -i -w 7 --tun-type gue --tun-port 6080 --tun-csum\n")
	// moby/ipvs writes no tunnel type; the kernel must not keep the old one.
	d.TunType, d.TunPort, d.TunFlags = IPIP, 0, 0
	apply(NewDestinationOp("director", web, d, "", source.Pos{}), addWeb+"-a -t 10.9.0.1:80 -r 10.9.0.2:80 -i -w 7\n")
	apply(undo(server), addWeb)
	web.Scheduler, web.Timeout = "wlc", time.Minute
	apply(NewServiceOp("director", web, "", source.Pos{}), "-A -t 10.9.0.1:80 -s wlc -p 60\n")
	apply(undo(service), "")

	// Batches.
	var ops []topology.Op
	for _, port := range []uint16{80, 81} {
		s := Service{Protocol: TCP, Addr: netip.AddrPortFrom(web.Addr.Addr(), port), Scheduler: "rr"}
		ops = append(ops, NewServiceOp("director", s, "", source.Pos{File: "l", Line: 1}))
	}
	for i, host := range []string{"10.9.0.2", "10.9.0.3", "224.0.0.1"} {
		d := Destination{Addr: netip.AddrPortFrom(netip.MustParseAddr(host), 80), Weight: 1}
		ops = append(ops, NewDestinationOp("director", Service{Protocol: TCP, Addr: web.Addr, Scheduler: "rr"}, d, "", source.Pos{File: "l", Line: 2 + i}))
	}
	err := topology.ApplyAll(t.Context(), w, ops)
	if err == nil || !strings.Contains(err.Error(), "at l:4") || !strings.Contains(err.Error(), "224.0.0.1") {
		t.Errorf("a batch with a wrong one: %v", err)
	}
	got, err := c.Table(t.Context())
	if want := addWeb + "-a -t 10.9.0.1:80 -r 10.9.0.2:80 -g -w 1\n-a -t 10.9.0.1:80 -r 10.9.0.3:80 -g -w 1\n-A -t 10.9.0.1:81 -s rr\n"; err != nil || FormatCommands(got) != want {
		t.Errorf("after a batch: %v\n%s", err, FormatCommands(got))
	}
}

func TestGuestErrors(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "rr"}
	none := web
	none.Addr = netip.MustParseAddrPort("10.9.0.1:81")
	strange := none
	strange.Scheduler = "nosuch"
	d := Destination{Addr: netip.MustParseAddrPort("10.9.0.2:80"), Weight: 1}
	gone := Destination{Addr: netip.MustParseAddrPort("10.9.0.3:80"), Weight: 1}
	if err := errors.Join(c.AddService(ctx, web), c.AddDestination(ctx, web, d)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		err   error
		errno error
		want  string
	}{
		{c.AddService(ctx, web), unix.EEXIST, "director: ipvsadm -A -t 10.9.0.1:80 -s rr: file exists: the service is there already"},
		{c.AddService(ctx, strange), unix.ENOENT, "the scheduler nosuch is not in this kernel: modprobe ip_vs_nosuch"},
		{c.EditService(ctx, none), unix.ESRCH, "ipvsadm -E -t 10.9.0.1:81 -s rr: no such process: there is no such service"},
		{c.DelService(ctx, none), unix.ESRCH, "ipvsadm -D -t 10.9.0.1:81: no such process: there is no such service"},
		{c.AddDestination(ctx, none, d), unix.ESRCH, "there is no such service; add it first"},
		{c.AddDestination(ctx, web, d), unix.EEXIST, "the real server is there already"},
		{c.EditDestination(ctx, web, gone), unix.ENOENT, "there is no such real server"},
		{c.DelDestination(ctx, web, gone), unix.ENOENT, "director: ipvsadm -d -t 10.9.0.1:80 -r 10.9.0.3:80: no such file or directory: there is no such real server"},
		{c.AddService(ctx, Service{}), nil, "virtual service"},
		{c.AddDestination(ctx, web, Destination{Addr: d.Addr, Weight: 2147483648}), nil, "weight 2147483648"},
	}
	for _, tt := range tests {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) || tt.errno != nil && !errors.Is(tt.err, tt.errno) {
			t.Errorf("got %v\nwanted %v, %s", tt.err, tt.errno, tt.want)
		}
	}

	// A refused table leaves the one that was there.
	err := Restore(ctx, n, Table{{Service: none}, {Service: Service{FWMark: 1, Scheduler: "nosuch"}}})
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "the table is as it was before") {
		t.Errorf("Restore: %v", err)
	}
	got, err := c.Table(ctx)
	if want := (Table{{Service: web, Destinations: []Destination{d}}}); err != nil || !got.Equal(want) {
		t.Errorf("after a refused Restore: %v\n%s", err, FormatCommands(got))
	}

	// A call that is too late says so, and so does the next.
	late, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.AddService(late, none); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A namespace that never had an IPv4 address takes services and no real servers.
func TestGuestNoAddressYet(t *testing.T) {
	ipvsNode(t)
	n := newTestNode(t)
	c, err := Open(n)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "rr"}
	if err := c.AddService(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	err = c.AddDestination(t.Context(), web, Destination{Addr: netip.MustParseAddrPort("10.9.0.2:80"), Weight: 1})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "no IPv4 address yet") {
		t.Errorf("got %v", err)
	}
}
