package ipvs

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The bytes of the structs as a C program on amd64 has them, which fills them
// in by the members' names.
func TestSockoptStructs(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	web := Service{
		Protocol: TCP, Addr: netip.MustParseAddrPort("10.9.0.1:80"), Scheduler: "sh", Flags: []string{"sh-port"},
		Timeout: 6 * time.Minute, Netmask: 24,
	}
	server := Destination{Addr: netip.MustParseAddrPort("10.9.0.2:8080"), Forward: NAT, Weight: 7, Upper: 10, Lower: 5}
	const (
		named  = "0600 0000 0a090001 0050 0000 00000000"
		marked = "0600 0000 00000000 0000 0000 4d000000"
		sh     = "73680000 00000000 00000000 00000000"
		set    = sh + "11000000 68010000 ffffff00"
	)
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"service", serviceUser(web), named + set},
		{"mark", serviceUser(Service{FWMark: 77, Scheduler: "rr"}), marked + "72720000 00000000 00000000 00000000" + "00000000 00000000 ffffffff"},
		{"nat", destUser(server), "0a090002 1f90 0000 00000000 07000000 0a000000 05000000"},
		{"tun", destUser(Destination{Addr: server.Addr, Forward: TUN, Weight: MaxWeight}), "0a090002 1f90 0000 02000000 ffffff7f 00000000 00000000"},
		{"dr", destUser(Destination{Addr: server.Addr}), "0a090002 1f90 0000 03000000 00000000 00000000 00000000"},
		{"timeouts", timeoutUser(Timeouts{TCP: time.Minute, UDP: 7 * time.Second}), "3c000000 00000000 07000000"},
		{"daemon", daemonUser(SyncDaemon{State: SyncBackup, Interface: "eth0", SyncID: 9}), "02000000" + "65746830 00000000 00000000 00000000" + "09000000"},
		{"a long name", daemonUser(SyncDaemon{State: SyncMaster, Interface: "abcdefghijklmno"})[4:20], "6162636465666768696a6b6c6d6e6f00"},
		{"get services", getServicesArg(2)[:12], "02000000 00000000 00000000"},
		{"get a service", getServiceArg(web)[:20], named + "00000000"},
		{"get servers", getDestsArg(web, 3)[:28], named + "03000000 00000000 00000000"},
	} {
		if want := strings.ReplaceAll(tt.want, " ", ""); hex.EncodeToString(tt.got) != want {
			t.Errorf("%s: got\n%x, wanted\n%s", tt.name, tt.got, want)
		}
	}
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"services", len(getServicesArg(2)), 8 + 2*104},
		{"service", len(getServiceArg(web)), 104},
		{"servers", len(getDestsArg(web, 3)), 24 + 3*96},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d bytes, wanted %d", tt.name, tt.got, tt.want)
		}
	}

	const stats = "01000000 02000000 03000000 00000000 0400000000000000 0500000000000000 06000000 07000000 08000000 09000000 0a000000 00000000"
	counters := Counters{Conns: 1, InPkts: 2, OutPkts: 3, InBytes: 4, OutBytes: 5}
	rates := Rates{Conns: 6, InPkts: 7, OutPkts: 8, InBytes: 9, OutBytes: 10}
	bytes := func(text string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	empty := strings.Repeat("00", sizeofServiceEntry)
	// 02 is IP_VS_SVC_F_HASHED, which is the kernel's own.
	list := parseServices(bytes("02000000 00000000" + named + sh + "13000000 68010000 ffffff00" + "04000000" + stats + empty))
	want := []serviceEntry{{service: web.Normal(), dests: 4, counters: counters, rates: rates}}
	if diff := cmp.Diff(want, list, cmp.AllowUnexported(serviceEntry{}), cmp.Comparer(func(a, b Service) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("services -wanted +got:\n%s", diff)
	}
	head := named + "02000000 00000000"
	entry := "0a090002 1f90 0000 00010000 07000000 0a000000 05000000 0b000000 0c000000 0d000000 00000000" + stats
	server.Active, server.Inactive = 11, 12
	dests, err := parseDests(bytes(head + entry + strings.Repeat("00", sizeofDestEntry)))
	wantDests := []DestinationTraffic{{Destination: server, Counters: counters, Rates: rates, Templates: 13}}
	if diff := cmp.Diff(wantDests, dests, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("%v, servers -wanted +got:\n%s", err, diff)
	}
	if _, err := parseDests(bytes(head + strings.Replace(entry, "00010000", "04000000", 1))); err == nil || !strings.Contains(err.Error(), "forwarding method 4") {
		t.Errorf("a bypass: %v", err)
	}
	if d, ok := parseDaemonUser(make([]byte, sizeofDaemon)); ok {
		t.Errorf("no daemon is %v", d)
	}
}
