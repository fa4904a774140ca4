package ipvs

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// sockoptConn opens the older door to the table of a node that has the other
// one open.
func sockoptConn(t *testing.T, n *testNode) *Conn {
	t.Helper()
	c, err := openBy(n, openSockopt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// legacyTable is a table as the older interface can say it.
func legacyTable(t Table) Table {
	t = slices.DeleteFunc(t.Clone(), func(e Entry) bool { return e.AddrFamily() != IPv4 })
	for i := range t {
		t[i].PE = ""
		t[i].Destinations = slices.DeleteFunc(t[i].Destinations, func(d Destination) bool { return familyOf(d.Addr.Addr()) != IPv4 })
		for j := range t[i].Destinations {
			d := &t[i].Destinations[j]
			d.TunType, d.TunPort, d.TunFlags = IPIP, 0, 0
		}
	}
	return t
}

// What one door writes the other reads, counts and order included, and ipvsadm
// shows both alike.
func TestGuestSockoptTables(t *testing.T) {
	n, netlinks := ipvsNode(t)
	old := sockoptConn(t, n)
	r := rand.New(rand.NewPCG(5, 6))
	some := 0
	for range 15 {
		want := legacyTable(randomTable(r))
		some += len(want)
		var shown []string
		for _, pair := range [][2]*Conn{{netlinks, old}, {old, netlinks}} {
			if err := pair[0].Replace(t.Context(), want); err != nil {
				t.Fatalf("%v\n%s", err, FormatCommands(want))
			}
			a, err := pair[0].Table(t.Context())
			b, err2 := pair[1].Table(t.Context())
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(FormatCommands(a), FormatCommands(b)); diff != "" {
				t.Fatalf("-as written +by the other door:\n%s", diff)
			}
			shown = append(shown, ipvsadm(t, n, "", "-S", "-n")+ipvsadm(t, n, "", "-L", "-n"))
		}
		if diff := cmp.Diff(shown[0], shown[1]); diff != "" {
			t.Fatalf("ipvsadm of -netlink's +sockopt's:\n%s", diff)
		}
	}
	if some < 10 {
		t.Errorf("%d services only", some)
	}
	info, err := netlinks.Info(t.Context())
	if got, err2 := old.Info(t.Context()); errors.Join(err, err2) != nil || got != info {
		t.Errorf("info %v, %v; wanted %v", got, errors.Join(err, err2), info)
	}
}

// Errors of the kernel's and of our own are those of the other door.
func TestGuestSockoptErrors(t *testing.T) {
	n, netlinks := ipvsNode(t)
	old := sockoptConn(t, n)
	ctx := t.Context()
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "rr"}
	mark := Service{FWMark: 7, Scheduler: "rr"}
	d := Destination{Addr: netip.MustParseAddrPort("10.9.0.2:80"), Weight: 1}
	gone := Destination{Addr: netip.MustParseAddrPort("10.9.0.3:80"), Weight: 1}
	if err := errors.Join(old.AddService(ctx, web), old.AddService(ctx, mark), old.AddDestination(ctx, web, d), old.AddDestination(ctx, mark, d)); err != nil {
		t.Fatal(err)
	}
	none, strange := web, web
	none.Addr = netip.MustParseAddrPort("10.9.0.1:81")
	strange.Addr, strange.Scheduler = none.Addr, "nosuch"
	for i, ask := range []func(*Conn) error{
		func(c *Conn) error { return c.AddService(ctx, web) },
		func(c *Conn) error { return c.AddService(ctx, mark) },
		func(c *Conn) error { return c.AddService(ctx, strange) },
		func(c *Conn) error { return c.EditService(ctx, none) },
		func(c *Conn) error { return c.DelService(ctx, none) },
		func(c *Conn) error { return c.AddDestination(ctx, none, d) },
		func(c *Conn) error { return c.AddDestination(ctx, web, d) },
		func(c *Conn) error { return c.EditDestination(ctx, web, gone) },
		func(c *Conn) error { return c.DelDestination(ctx, web, gone) },
		func(c *Conn) error { return c.Zero(ctx, &none) },
		func(c *Conn) error {
			return c.AddDestination(ctx, web, Destination{Addr: netip.MustParseAddrPort("224.0.0.1:80"), Weight: 1})
		},
		func(c *Conn) error { return c.StartDaemon(ctx, SyncDaemon{State: SyncMaster, Interface: "nosuch"}) },
	} {
		want, got := ask(netlinks), ask(old)
		if want == nil || got == nil || want.Error() != got.Error() {
			t.Errorf("order %d: %v\nby netlink: %v", i, got, want)
		}
	}
	v6, sip := web, web
	v6.Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
	sip.Protocol, sip.Addr, sip.Timeout, sip.PE = UDP, none.Addr, time.Minute, "sip"
	for i, err := range []error{
		old.AddService(ctx, v6),
		old.AddService(ctx, Service{FWMark: 8, Family: IPv6}),
		old.AddService(ctx, sip),
		old.Zero(ctx, &v6),
		old.AddDestination(ctx, web, Destination{Addr: netip.MustParseAddrPort("[2001:db8::9]:80"), Forward: TUN, Weight: 1}),
		old.AddDestination(ctx, web, Destination{Addr: gone.Addr, Forward: TUN, TunType: GRE, Weight: 1}),
		old.StartDaemon(ctx, SyncDaemon{State: SyncMaster, Interface: "lo", TTL: 3}),
	} {
		if !errors.Is(err, ErrLegacy) || !strings.Contains(err.Error(), "director: ipvsadm -") || !strings.Contains(err.Error(), "--kernel uml") {
			t.Errorf("order %d: %v", i, err)
		}
	}
	// The table is as before, a refused one included.
	if err := old.Replace(ctx, Table{{Service: none}, {Service: Service{FWMark: 1, Scheduler: "nosuch"}}}); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "the table is as it was before") {
		t.Errorf("Replace: %v", err)
	}
	const want = "-A -t 10.9.0.1:80 -s rr\n-a -t 10.9.0.1:80 -r 10.9.0.2:80 -g -w 1\n-A -f 7 -s rr\n-a -f 7 -r 10.9.0.2:80 -g -w 1\n"
	if got, err := old.Table(ctx); err != nil || FormatCommands(got) != want {
		t.Errorf("%v\n%s", err, FormatCommands(got))
	}
}

// Timeouts, daemons and counters are the same through both doors.
func TestGuestSockoptRest(t *testing.T) {
	n, netlinks := ipvsNode(t)
	old := sockoptConn(t, n)
	ctx := t.Context()
	dummyLink(t, n, "out0", "10.9.7.1/24")

	if err := old.SetTimeouts(ctx, Timeouts{TCP: time.Minute, UDP: 7 * time.Second}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Conn{old, netlinks} {
		if got, err := c.Timeouts(ctx); err != nil || got.String() != "60 120 7" {
			t.Errorf("timeouts %v, %v", got, err)
		}
	}

	for _, d := range []SyncDaemon{
		{State: SyncMaster, Interface: "out0", SyncID: 1},
		{State: SyncBackup, Interface: "out0", SyncID: 255},
		{State: SyncMaster, Interface: "out0", SyncID: 3}, // instead of the first
	} {
		if err := old.StartDaemon(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	a, err := old.Daemons(ctx)
	b, err2 := netlinks.Daemons(ctx)
	if errors.Join(err, err2) != nil || len(a) != 2 || len(b) != 2 {
		t.Fatalf("daemons %v and %v, %v", a, b, errors.Join(err, err2))
	}
	for i := range a {
		if !b[i].Satisfies(a[i]) {
			t.Errorf("daemon %v, by netlink %v", a[i], b[i])
		}
	}
	if err := errors.Join(old.StopDaemon(ctx, SyncMaster), old.StopDaemon(ctx, SyncBackup), old.StopDaemon(ctx, SyncBackup)); err != nil {
		t.Error(err)
	}

	s := Service{Protocol: UDP, Addr: netip.MustParseAddrPort("10.9.0.1:53"), Scheduler: "rr", Timeout: time.Minute}
	d := Destination{Addr: netip.MustParseAddrPort("10.9.7.9:53"), Forward: NAT, Weight: 1}
	if err := errors.Join(old.AddService(ctx, s), old.AddDestination(ctx, s, d)); err != nil {
		t.Fatal(err)
	}
	err = n.Do(func() error {
		conn, err := net.Dial("udp", s.Addr.String())
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("hi"))
		return errors.Join(err, conn.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	counted := func(c *Conn) []Traffic {
		t.Helper()
		list, err := c.Traffic(ctx)
		if err != nil || len(list) != 1 || len(list[0].Destinations) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		list[0].Rates, list[0].Destinations[0].Rates = Rates{}, Rates{} // they move
		return list
	}
	for end := time.Now().Add(20 * time.Second); counted(old)[0].Conns == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the counters never came")
		}
	}
	list := counted(old)
	if list[0].InBytes != 30 || list[0].Destinations[0].Inactive != 1 || list[0].Destinations[0].Templates != 1 {
		t.Errorf("counted %+v", list)
	}
	if diff := cmp.Diff(list, counted(netlinks), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-sockopt +netlink:\n%s", diff)
	}
	if err := old.Zero(ctx, &s); err != nil || counted(netlinks)[0].Conns != 0 {
		t.Errorf("after zeroing: %v", err)
	}
	if err := errors.Join(old.Zero(ctx, nil), old.Flush(ctx)); err != nil {
		t.Error(err)
	}
}

// In a user namespace of one's own the ops find the older door by themselves.
func TestGuestUserNamespace(t *testing.T) {
	ipvsNode(t)
	if os.Getenv("LVSLAB_IPVS_USERNS") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuestUserNamespace$", "-test.v")
		cmd.Env = append(os.Environ(), "LVSLAB_IPVS_USERNS=1")
		ids := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	n, c := ipvsNode(t)
	w := testWorld{node: n}
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "rr"}
	server := NewDestinationOp("director", web, Destination{Addr: netip.MustParseAddrPort("10.9.0.2:80"), Forward: TUN, Weight: 3}, "", source.Pos{})
	timeouts := NewTimeoutsOp("director", Timeouts{TCP: time.Minute}, "", source.Pos{})
	service := NewServiceOp("director", web, "", source.Pos{})
	for _, op := range []topology.Op{service, server, server, timeouts} {
		if err := op.Apply(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Table(t.Context()); err != nil || FormatCommands(got) != "-A -t 10.9.0.1:80 -s rr\n-a -t 10.9.0.1:80 -r 10.9.0.2:80 -i -w 3\n" {
		t.Errorf("%v\n%s", err, FormatCommands(got))
	}
	v6 := web
	v6.Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
	if err := NewServiceOp("director", v6, "", source.Pos{}).Apply(t.Context(), w); !errors.Is(err, ErrLegacy) {
		t.Errorf("IPv6: %v", err)
	}
	for _, op := range []topology.Op{server, service} {
		if undo, ok := op.Undo(); !ok || undo.Apply(t.Context(), w) != nil {
			t.Error("it cannot be undone")
		}
	}
	if got, err := c.Table(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
}
