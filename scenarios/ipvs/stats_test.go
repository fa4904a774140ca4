package ipvs

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Read on Linux 6.1.176 at the moment of the second connection: the total still
// says nothing.
const statsSample = `       Total Incoming Outgoing         Incoming         Outgoing
CPU    Conns  Packets  Packets            Bytes            Bytes
  0        2        2        2               5B               63
  ~        0        0        0                0                0

     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
           0        0        0                0                0
`

func TestParseStats(t *testing.T) {
	tests := map[string]struct {
		text string
		want Counters
		bad  bool
	}{
		"one processor": {text: statsSample, want: Counters{Conns: 2, InPkts: 2, OutPkts: 2, InBytes: 0x5b, OutBytes: 0x63}},
		"two, eleven, wide": {
			text: "CPU x\n  0 1 2 3 4 5\n  1 FFFFFFFFFF 0 0 0 0\n  B 1 0 0 0 0\n  ~ 9 9 9 9 9\n",
			want: Counters{Conns: 0xffffffffff + 2, InPkts: 2, OutPkts: 3, InBytes: 4, OutBytes: 5},
		},
		"empty":       {bad: true},
		"only header": {text: statsSample[:130], bad: true},
		"no number":   {text: "0 1 2 x 4 5\n", bad: true},
	}
	for name, tt := range tests {
		got, err := ParseStats(tt.text)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("%s: %+v, %v; wanted %+v, error %v", name, got, err, tt.want, tt.bad)
		}
	}
	if got := (Counters{Conns: 5, InPkts: 4}).Sub(Counters{Conns: 2, InPkts: 4}); got != (Counters{Conns: 3}) {
		t.Errorf("Sub: %+v", got)
	}
}

const connSample = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
UDP 2001:0db8:0000:0000:0000:0000:0000:0001 A2D9 2001:0db8:0000:0000:0000:0000:0000:0001 0035 2001:0db8:0009:0000:0000:0000:0000:0002 0035 UDP             299
TCP 0A090001 991E 0A090001 0050 0A090909 0050 CLOSE             9
UDP 0A090001 0000 0A090001 0035 0A090909 0035 NONE             59
IP  0A090001 0000 00000001 0000 0A090909 0000 NONE             59 sip call-id
`

func TestParseConnections(t *testing.T) {
	row := func(p Protocol, a, b, c, state string, secs time.Duration) Connection {
		return Connection{
			Protocol: p, Client: netip.MustParseAddrPort(a), Virtual: netip.MustParseAddrPort(b),
			Real: netip.MustParseAddrPort(c), State: state, Expires: secs * time.Second,
		}
	}
	want := []Connection{
		row(UDP, "[2001:db8::1]:41689", "[2001:db8::1]:53", "[2001:db8:9::2]:53", "UDP", 299),
		row(TCP, "10.9.0.1:39198", "10.9.0.1:80", "10.9.9.9:80", "CLOSE", 9),
		row(UDP, "10.9.0.1:0", "10.9.0.1:53", "10.9.9.9:53", "NONE", 59),
		row(0, "10.9.0.1:0", "0.0.0.1:0", "10.9.9.9:0", "NONE", 59),
	}
	want[3].FWMark, want[3].PE, want[3].PEData = 1, "sip", "call-id"
	got, err := ParseConnections(connSample)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareOptions()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{
		"TCP 0A090001", "XYZ 0A090001 991E 0A090001 0050 0A090909 0050 CLOSE 9",
		"TCP 1A0900011 991E 0A090001 0050 0A090909 0050 CLOSE 9", "TCP 0A090001 991E 0A090001 0050 0A090909 0050 CLOSE x",
		"TCP 0A090001 1991E 0A090001 0050 0A090909 0050 CLOSE 9",
	} {
		if _, err := ParseConnections(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseStats(f *testing.F) {
	f.Add(statsSample)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = ParseStats(text) })
}

func FuzzParseConnections(f *testing.F) {
	f.Add(connSample)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseConnections(text)
		if err != nil && list != nil {
			t.Fatal("rows in spite of an error")
		}
	})
}
