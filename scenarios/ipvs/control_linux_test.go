package ipvs

import (
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/source"
)

// dummyLink gives the node a device that multicasts can leave by.
func dummyLink(t *testing.T, n *testNode, name, addr string) {
	t.Helper()
	err := n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
			return err
		}
		for _, dev := range []string{name, name + "p"} {
			link, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, a)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sync daemons start, are told of as ipvsadm tells of them, change and stop.
func TestGuestDaemons(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	dummyLink(t, n, "sync0", "10.8.0.1/24")
	w := testWorld{node: n}
	check := func(want ...string) {
		t.Helper()
		list, err := c.Daemons(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != len(want) {
			t.Fatalf("daemons: %v, wanted %q", list, want)
		}
		for i, d := range list {
			wish, err := ParseSyncDaemon(want[i])
			if err != nil || !d.Satisfies(wish) {
				t.Errorf("runs %v, wanted %s (%v)", d, want[i], err)
			}
			if again, err := ParseSyncDaemon(d.String()); err != nil || again.Normal() != d {
				t.Errorf("%v read back: %v, %v", d, again, err)
			}
		}
		if diff := cmp.Diff(ipvsadm(t, n, "", "-L", "--daemon"), FormatDaemons(list)); diff != "" {
			t.Errorf("-ipvsadm -L --daemon +FormatDaemons:\n%s", diff)
		}
	}
	check()
	for _, words := range []string{
		"master --mcast-interface sync0 --syncid 1",
		"master --mcast-interface sync0 --syncid 1", // twice is as once
		"master --mcast-interface sync0 --syncid 7 --sync-maxlen 1000 --mcast-group 239.1.2.3 --mcast-port 9000 --mcast-ttl 3",
	} {
		d, err := ParseSyncDaemon(words)
		if err != nil {
			t.Fatal(err)
		}
		if err := NewSyncDaemonOp("director", d, "", source.Pos{}).Apply(ctx, w); err != nil {
			t.Fatal(err)
		}
		check(words)
	}
	backup := SyncDaemon{State: SyncBackup, Interface: "sync0", Group: netip.MustParseAddr("ff02::77")}
	op := NewSyncDaemonOp("director", backup, "", source.Pos{})
	if err := op.Apply(ctx, w); err != nil {
		t.Fatal(err)
	}
	check("master --mcast-interface sync0 --syncid 7 --sync-maxlen 1000 --mcast-group 239.1.2.3 --mcast-port 9000 --mcast-ttl 3", backup.String())
	for range 2 {
		undo, _ := op.Undo()
		if err := undo.Apply(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.StopDaemon(ctx, SyncMaster); err != nil {
		t.Fatal(err)
	}
	check()
	// What ipvsadm started we read.
	ipvsadm(t, n, "", "--start-daemon", "backup", "--mcast-interface", "sync0", "--syncid", "9")
	check("backup --mcast-interface sync0 --syncid 9")
	err := c.StartDaemon(ctx, SyncDaemon{State: SyncMaster, Interface: "nosuch"})
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "there is no interface nosuch") {
		t.Errorf("no such interface: %v", err)
	}
	// Sync messages cannot say that families are mixed.
	mixed := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80")}
	if err := c.AddService(ctx, mixed); err != nil {
		t.Fatal(err)
	}
	err = c.AddDestination(ctx, mixed, Destination{Addr: netip.MustParseAddrPort("[2001:db8::9]:80"), Forward: TUN, Weight: 1})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "sync daemon") {
		t.Errorf("mixed families beside a daemon: %v", err)
	}
}

// Timeouts are set and read as by ipvsadm, and 0 leaves one as it is.
func TestGuestTimeouts(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	check := func(want Timeouts) {
		t.Helper()
		got, err := c.Timeouts(ctx)
		if err != nil || got != want {
			t.Errorf("timeouts %v, wanted %v; %v", got, want, err)
		}
		if out := ipvsadm(t, n, "", "-L", "--timeout"); out != "Timeout (tcp tcpfin udp): "+want.String()+"\n" {
			t.Errorf("ipvsadm says %q, wanted %v", out, want)
		}
	}
	check(Timeouts{TCP: 900 * time.Second, TCPFin: 120 * time.Second, UDP: 300 * time.Second})
	if err := c.SetTimeouts(ctx, Timeouts{TCP: time.Minute, UDP: 7 * time.Second}); err != nil {
		t.Fatal(err)
	}
	check(Timeouts{TCP: time.Minute, TCPFin: 120 * time.Second, UDP: 7 * time.Second})
	ipvsadm(t, n, "", "--set", "5", "6", "0")
	check(Timeouts{TCP: 5 * time.Second, TCPFin: 6 * time.Second, UDP: 7 * time.Second})
	if err := c.SetTimeouts(ctx, Timeouts{TCP: MaxTimeout}); err != nil {
		t.Error(err)
	}
}

// The counters of services and servers, their zeroing and the connections are
// as ipvsadm tells them.
func TestGuestTraffic(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	dummyLink(t, n, "out0", "10.9.7.1/24")
	table := mustParse(t, strings.Join([]string{
		"-A -u 10.9.0.1:53 -s rr -p 60",
		"-a -u 10.9.0.1:53 -r 10.9.7.9:5353 -m",
		"-A -u [2001:db8::1]:53 -s rr",
		"-a -u [2001:db8::1]:53 -r [2001:db8::9]:5300 -m -w 70000",
		"-A -f 77 -s rr",
		"-a -f 77 -r 10.9.7.9 -m",
	}, "\n"))
	if err := c.Replace(ctx, table); err != nil {
		t.Fatal(err)
	}
	const sent = 5
	for _, to := range []string{"10.9.0.1:53", "[2001:db8::1]:53"} {
		err := n.Do(func() error {
			conn, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			for range sent {
				if _, werr := conn.Write([]byte("hi")); werr != nil {
					err = werr
				}
			}
			return errors.Join(err, conn.Close())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	info, err := c.Info(ctx)
	if err != nil || !strings.HasPrefix(ipvsadm(t, n, "", "-L", "-n"), info.String()+"\n") {
		t.Errorf("info %v, %v", info, err)
	}
	read := func() []Traffic {
		t.Helper()
		list, err := c.Traffic(ctx)
		if err != nil || len(list) != 3 {
			t.Fatalf("traffic %v, %v", list, err)
		}
		return list
	}
	// The estimator comes by every two seconds.
	list := read()
	for end := time.Now().Add(20 * time.Second); list[0].InPkts+list[1].InPkts < 2*sent; list = read() {
		if time.Now().After(end) {
			t.Fatalf("counters never came: %+v", list)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, s := range list {
		if s.FWMark != 0 {
			continue
		}
		if s.Conns != 1 || s.Destinations[0].Counters != s.Counters || s.InBytes < sent*30 {
			t.Errorf("%s counted %+v, its server %+v", s.Name(), s.Counters, s.Destinations[0].Counters)
		}
	}
	same := func() {
		t.Helper()
		if diff := cmp.Diff(ipvsadm(t, n, "", "-L", "-n", "--stats", "--exact"), FormatTraffic(info, read())); diff != "" {
			t.Errorf("-ipvsadm +FormatTraffic:\n%s", diff)
		}
	}
	same()

	conns, err := Connections(n)
	if err != nil || len(conns) != 3 { // and the template
		t.Fatalf("connections %+v, %v", conns, err)
	}
	timers := regexp.MustCompile(`\d\d:\d\d`)
	if diff := cmp.Diff(timers.ReplaceAllString(ipvsadm(t, n, "", "-L", "-n", "-c"), "TT:TT"),
		timers.ReplaceAllString(FormatConnections(conns), "TT:TT")); diff != "" {
		t.Errorf("-ipvsadm +FormatConnections:\n%s", diff)
	}
	if i := slices.IndexFunc(list, func(s Traffic) bool { return s.Persistent() }); list[i].Destinations[0].Templates != 1 {
		t.Errorf("persistent service: %+v", list[i])
	}

	// One service to zero, then all.
	v6 := table[1].Service
	if err := c.Zero(ctx, &v6); err != nil {
		t.Fatal(err)
	}
	for _, s := range read() {
		if zeroed := s.Same(v6); s.FWMark == 0 && zeroed != (s.Counters == Counters{}) {
			t.Errorf("%s has counted %+v", s.Name(), s.Counters)
		}
	}
	same()
	if err := c.Zero(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range read() {
		if s.Counters != (Counters{}) || s.Destinations[0].Counters != (Counters{}) {
			t.Errorf("after zeroing all: %+v", s)
		}
	}
	same()
	none := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:9")}
	if err := c.Zero(ctx, &none); !errors.Is(err, unix.ESRCH) || !strings.Contains(err.Error(), "there is no such service") {
		t.Errorf("zeroing no service: %v", err)
	}
}

// A connection outlives every live edit of its service and server.
func TestGuestEditsKeepConnections(t *testing.T) {
	n, c := ipvsNode(t)
	ctx := t.Context()
	dummyLink(t, n, "out0", "10.9.7.1/24")
	s := Service{Protocol: UDP, Addr: netip.MustParseAddrPort("10.9.0.1:53"), Scheduler: "rr"}
	d := Destination{Addr: netip.MustParseAddrPort("10.9.7.9:53"), Forward: NAT, Weight: 3}
	if err := errors.Join(c.AddService(ctx, s), c.AddDestination(ctx, s, d)); err != nil {
		t.Fatal(err)
	}
	err := n.Do(func() error {
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
	w := testWorld{node: n}
	service := func(set func(*Service)) {
		t.Helper()
		set(&s)
		if err := NewServiceOp("director", s, "", source.Pos{}).Edit().Apply(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	server := func(set func(*Destination)) {
		t.Helper()
		set(&d)
		if err := NewDestinationOp("director", s, d, "", source.Pos{}).Edit().Apply(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	for i, edit := range []func(){
		func() { service(func(s *Service) { s.Scheduler, s.Flags = "sh", []string{"sh-port"} }) },
		func() { service(func(s *Service) { s.Timeout, s.Netmask = time.Minute, 24 }) },
		func() { service(func(s *Service) { s.Timeout, s.Netmask, s.OnePacket = 0, 0, true }) },
		func() { service(func(s *Service) { s.Scheduler, s.Flags, s.OnePacket = "wlc", nil, false }) },
		func() { server(func(d *Destination) { d.Weight = 0 }) }, // draining
		func() { server(func(d *Destination) { d.Weight, d.Upper, d.Lower = 9, 10, 5 }) },
		func() { server(func(d *Destination) { d.Forward, d.TunType, d.TunPort = TUN, GUE, 6080 }) },
		func() { server(func(d *Destination) { d.TunType, d.TunPort, d.TunFlags = GRE, 0, Checksum }) },
		func() { server(func(d *Destination) { d.Forward, d.TunType, d.TunFlags = NAT, IPIP, 0 }) },
	} {
		edit()
		got, err := c.Table(ctx)
		if err != nil || len(got) != 1 || len(got[0].Destinations) != 1 || got[0].Destinations[0].Inactive != 1 {
			t.Fatalf("edit %d: %+v, %v", i, got, err)
		}
		if conns, err := Connections(n); err != nil || len(conns) != 1 {
			t.Fatalf("edit %d: connections %v, %v", i, conns, err)
		}
	}
}
