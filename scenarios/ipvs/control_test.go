package ipvs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func TestParseSyncDaemon(t *testing.T) {
	eth0 := SyncDaemon{State: SyncMaster, Interface: "eth0"}
	with := func(set func(*SyncDaemon)) SyncDaemon {
		d := eth0
		set(&d)
		return d
	}
	for text, want := range map[string]SyncDaemon{
		"master --mcast-interface eth0":                               eth0,
		"ipvsadm --start-daemon  master\t--mcast-interface=eth0":      eth0,
		"backup --mcast-interface eth0":                               with(func(d *SyncDaemon) { d.State = SyncBackup }),
		"master --syncid 255 --mcast-interface eth0":                  with(func(d *SyncDaemon) { d.SyncID = 255 }),
		"master --mcast-interface eth0 --sync-maxlen 9000":            with(func(d *SyncDaemon) { d.MaxLength = 9000 }),
		"master --mcast-interface eth0 --mcast-group ff05::1":         with(func(d *SyncDaemon) { d.Group = netip.MustParseAddr("ff05::1") }),
		"master --mcast-interface eth0 --mcast-port=1 --mcast-ttl=64": with(func(d *SyncDaemon) { d.Port, d.TTL = 1, 64 }),
	} {
		got, err := ParseSyncDaemon(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; wanted %+v", text, got, err, want)
		}
		if again, err := ParseSyncDaemon(got.String()); err != nil || again != got {
			t.Errorf("%v and back: %v, %v", got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                         "master or backup",
		"--mcast-interface eth0":   "master or backup",
		"master":                   "needs its interface",
		"master --mcast-interface": "needs an argument",
		"master --mcast-interface aninterfacename1":            "longer than 15",
		"master --mcast-interface a/b":                         "cannot be the name",
		"master --mcast-interface eth0 --syncid 256":           "out of range, 0 to 255",
		"master --mcast-interface eth0 --sync-maxlen 65508":    "out of range, 1 to 65507",
		"master --mcast-interface eth0 --mcast-group 10.0.0.1": "no multicast address",
		"master --mcast-interface eth0 --mcast-group x":        "no IP address",
		"master --mcast-interface eth0 --mcast-port 0":         "out of range, 1 to 65535",
		"master --mcast-interface eth0 --mcast-ttl 0":          "out of range, 1 to 255",
		"master --mcast-interface eth0 --mcast-interface eth1": "a second --mcast-interface",
		"master --mcast-interfaces eth0":                       "did you mean",
		"master --mcast-interface eth0 backup":                 "needs an argument",
	} {
		if _, err := ParseSyncDaemon(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, wanted %q", text, err, want)
		}
	}
}

func TestParseTimeouts(t *testing.T) {
	want := Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute}
	for _, text := range []string{"900 120 0", "ipvsadm --set 900 120 0", "--set 900 120 0"} {
		if got, err := ParseTimeouts(text); err != nil || got != want || got.String() != "900 120 0" {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "three numbers", "1 2": "found 2", "1 2 3 4": "found 4", "1 x 3": "not a number", "1 2 -3": "out of range", "1 2 2147484": "out of range"} {
		if _, err := ParseTimeouts(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, wanted %q", text, err, want)
		}
	}
	if (Timeouts{UDP: time.Millisecond}).Validate() == nil {
		t.Error("a millisecond is valid")
	}
}

func TestSyncDaemonOp(t *testing.T) {
	d := SyncDaemon{State: SyncMaster, Interface: "eth0", SyncID: 1}
	op := NewSyncDaemonOp("director", d, "why", source.Pos{File: "lab.yaml", Line: 3})
	undo, ok := op.Undo()
	if m := op.About(); m.Key != (topology.Key{Node: "director", Kind: KindDaemon, ID: "master"}) || m.Role != RoleDaemon ||
		!slices.Equal(m.Needs, []topology.Feature{"ip_vs"}) || !ok || undo.About().Key != m.Key {
		t.Errorf("About: %+v", m)
	}
	for _, tt := range []struct {
		op   topology.Op
		want string
	}{
		{op, "ip netns exec director ipvsadm --start-daemon master --mcast-interface eth0 --syncid 1"},
		{undo, "ip netns exec director ipvsadm --stop-daemon master"},
	} {
		if got := tt.op.Shell(topology.Dialect{}); !slices.Equal(got, []string{tt.want}) {
			t.Errorf("Shell: %q, wanted %q", got, tt.want)
		}
		if err := tt.op.Apply(t.Context(), noWorld{}); err == nil {
			t.Error("Apply in a world without the node: no error")
		}
	}
	d.SyncID = 2
	edit := NewSyncDaemonOp("director", d, "why", source.Pos{}).Edit()
	want := []string{
		"ip netns exec director ipvsadm --stop-daemon master",
		"ip netns exec director ipvsadm --start-daemon master --mcast-interface eth0 --syncid 2",
	}
	if got := edit.Shell(topology.Dialect{}); !slices.Equal(got, want) {
		t.Errorf("Shell of the edit: %q, wanted %q", got, want)
	}
}

func FuzzParseSyncDaemon(f *testing.F) {
	f.Add("master --mcast-interface eth0 --syncid 1")
	f.Add("ipvsadm --start-daemon backup --mcast-interface=eth0 --sync-maxlen=9 --mcast-group ff02::1 --mcast-port 1 --mcast-ttl 2")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseSyncDaemon(text)
		if err != nil {
			return
		}
		if again, err := ParseSyncDaemon(d.String()); err != nil || again.Normal() != d.Normal() {
			t.Fatalf("%q is %+v, and back %+v, %v", text, d, again, err)
		}
	})
}
