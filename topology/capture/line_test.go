package capture

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const syn = "45000028000040004006 0000 ac190cfa ac190c64 9c400050 000003e8 00000000 5002 faf0 0000 0000"

// packetText is a packet and how it reads, without time and direction.
type packetText struct {
	hardware, etherType uint16
	data, want          string
}

var packetTexts = []packetText{
	{
		unix.ARPHRD_ETHER, 0x0806, "ffffffffffff020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002",
		"02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
	},
	{
		unix.ARPHRD_ETHER, 0x0806, "020000000002020000000001 0806 0001080006040001 020000000001 0a000001 020000000002 0a000002",
		"02:00:00:00:00:01 > 02:00:00:00:00:02, ARP, Request who-has 10.0.0.2 (02:00:00:00:00:02) tell 10.0.0.1, length 28",
	},
	{
		unix.ARPHRD_ETHER, 0x0806, "020000000001020000000002 0806 0001080006040002 020000000002 0a000002 020000000001 0a000001",
		"02:00:00:00:00:02 > 02:00:00:00:00:01, ARP, Reply 10.0.0.2 is-at 02:00:00:00:00:02, length 28",
	},
	{
		unix.ARPHRD_ETHER, 0x0806, "020000000001020000000002 0806 0001080006040002 020000000002 0a000002",
		"02:00:00:00:00:02 > 02:00:00:00:00:01, ARP, [|arp]",
	},
	// SYN as a tunnel's own device shows it, then on the wire in IPIP and GRE.
	{unix.ARPHRD_TUNNEL, 0x0800, syn, "IP 172.25.12.250.40000 > 172.25.12.100.80: Flags [S], seq 1000, win 64240, length 0"},
	{
		unix.ARPHRD_ETHER, 0x0800, "020000000001020000000002 0800 4500003c000040004004 0000 ac190c01 ac190c02" + syn,
		"02:00:00:00:00:02 > 02:00:00:00:00:01, IP 172.25.12.1 > 172.25.12.2: " +
			"IP 172.25.12.250.40000 > 172.25.12.100.80: Flags [S], seq 1000, win 64240, length 0",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "4500004000004000402f 0000 ac190c01 ac190c02 00000800" + syn,
		"IP 172.25.12.1 > 172.25.12.2: GREv0, length 44: " +
			"IP 172.25.12.250.40000 > 172.25.12.100.80: Flags [S], seq 1000, win 64240, length 0",
	},
	// Four bytes of data; FIN; RST; cut after the ports; a later fragment.
	{
		unix.ARPHRD_NONE, 0x0800, "4500002c000040004006 0000 0a000001 0a000002 c3500050 00000001 00000064 5018 0200 0000 0000 61626364",
		"IP 10.0.0.1.50000 > 10.0.0.2.80: Flags [P.], seq 1:5, ack 100, win 512, length 4",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000028000040004006 0000 0a000001 0a000002 c3500050 00000001 00000064 5011 0200 0000 0000",
		"IP 10.0.0.1.50000 > 10.0.0.2.80: Flags [F.], seq 1, ack 100, win 512, length 0",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000028000040004006 0000 0a000001 0a000002 c3500050 00000001 00000064 5004 0200 0000 0000",
		"IP 10.0.0.1.50000 > 10.0.0.2.80: Flags [R], seq 1, win 512, length 0",
	},
	{unix.ARPHRD_NONE, 0x0800, "45000028000040004006 0000 0a000001 0a000002 c3500050", "IP 10.0.0.1.50000 > 10.0.0.2.80: Flags [|tcp]"},
	{
		unix.ARPHRD_NONE, 0x0800, "4500001c000000b94006 0000 0a000001 0a000002 0000000000000000",
		"IP 10.0.0.1 > 10.0.0.2: ip-proto-6, frag offset 1480, length 8",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000021000040004011 0000 0a000001 0a000002 c3500035 000d0000 6162636465",
		"IP 10.0.0.1.50000 > 10.0.0.2.53: UDP, length 5",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "4500001e000040004001 0000 0a000001 0a000002 08000000 00070001 6162",
		"IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 1, length 10",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000044000040004001 0000 0a000001 0a000002 03010000 00000000" + syn,
		"IP 10.0.0.1 > 10.0.0.2: ICMP host 172.25.12.100 unreachable, length 48",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000044000040004001 0000 0a000001 0a000002 03030000 00000000" + syn,
		"IP 10.0.0.1 > 10.0.0.2: ICMP 172.25.12.100 tcp port 80 unreachable, length 48",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000044000040004001 0000 0a000001 0a000002 03040000 000005dc" + syn,
		"IP 10.0.0.1 > 10.0.0.2: ICMP 172.25.12.100 unreachable - need to frag (mtu 1500), length 48",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000044000040004001 0000 0a000001 0a000002 05010000 0a0000fe" + syn,
		"IP 10.0.0.1 > 10.0.0.2: ICMP redirect 172.25.12.100 to host 10.0.0.254, length 48",
	},
	{
		unix.ARPHRD_NONE, 0x0800, "45000044000040004001 0000 0a000001 0a000002 0b000000 00000000" + syn,
		"IP 10.0.0.1 > 10.0.0.2: ICMP time exceeded in-transit, length 48",
	},
	{unix.ARPHRD_NONE, 0x0800, "45", "IP [|ip]"},
	{unix.ARPHRD_ETHER, 0x0800, "0200", "[|ether], length 2"},
	{
		unix.ARPHRD_ETHER, 0x88cc, "0180c200000e020000000002 88cc 0000",
		"02:00:00:00:00:02 > 01:80:c2:00:00:0e, ethertype Unknown (0x88cc), length 16",
	},
}

func (l packetText) packet(tb testing.TB) Packet {
	tb.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(l.data, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return Packet{Hardware: l.hardware, EtherType: l.etherType, Data: data, Length: len(data)}
}

func TestLine(t *testing.T) {
	at := time.Date(2020, 1, 2, 3, 4, 5, 678901000, time.UTC)
	for i, l := range packetTexts {
		p := l.packet(t)
		p.Time, p.Outgoing = at, i%2 == 0
		head := "03:04:05.678901 In  "
		if p.Outgoing {
			head = "03:04:05.678901 Out "
		}
		if got := Line(p); got != head+l.want {
			t.Errorf("line %d:\n got %s\nwant %s", i, got, head+l.want)
		}
	}
}

// Whatever is on a link, it is one line of plain text.
func FuzzLine(f *testing.F) {
	for _, l := range packetTexts {
		p := l.packet(f)
		f.Add(p.Hardware, p.EtherType, p.Data)
	}
	f.Fuzz(func(t *testing.T, hardware, etherType uint16, data []byte) {
		p := Packet{Hardware: hardware, EtherType: etherType, Data: data, Length: len(data)}
		line := Line(p)
		if line == "" || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", line)
		}
		if m, ok := ARP(p); ok && (!m.SenderIP.Is4() || len(m.EtherDst) != 6) {
			t.Errorf("%v", m)
		}
	})
}
