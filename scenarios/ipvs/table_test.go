package ipvs

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// randomTable is any valid table.
func randomTable(r *rand.Rand) Table {
	var t Table
	for range r.IntN(6) {
		e := Entry{Service: randomService(r)}
		if _, twice := t.Find(e.Service); twice {
			continue
		}
		for range r.IntN(5) {
			d := randomDestination(r, e.Service)
			if _, twice := e.Find(d); !twice {
				e.Destinations = append(e.Destinations, d)
			}
		}
		t = append(t, e)
	}
	return t
}

func randomAddr(r *rand.Rand, f Family) netip.Addr {
	if f == IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(r.Uint32())})
	}
	// Within half of all addresses, where ipvsadm's order has no circle.
	return netip.AddrFrom4([4]byte{byte(1 + r.IntN(100)), 0, 0, byte(1 + r.IntN(4))})
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomService(r *rand.Rand) Service {
	s := Service{Scheduler: pick(r, "rr", "wlc", "sh", "mh")}
	f := pick(r, IPv4, IPv6)
	if r.IntN(4) == 0 {
		s.FWMark, s.Family = 1+r.Uint32N(1<<31-1), f
	} else {
		s.Protocol = pick(r, TCP, UDP, SCTP)
		s.Addr = netip.AddrPortFrom(randomAddr(r, f), uint16(1+r.IntN(3)))
		s.OnePacket = s.Protocol == UDP && r.IntN(2) == 0
	}
	if r.IntN(2) == 0 {
		s.Timeout = time.Duration(1+r.IntN(1000)) * time.Second
		s.Netmask = r.IntN(f.bits() + 1)
		s.PE = pick(r, "", "sip")
	}
	s.Flags = flagNames(s.Scheduler, r.Uint32()&flagsSched)
	return s.Normal()
}

func randomDestination(r *rand.Rand, s Service) Destination {
	d := Destination{Forward: pick(r, DR, TUN, NAT), Weight: r.IntN(MaxWeight + 1), Upper: uint32(r.IntN(3))}
	d.Lower = uint32(r.IntN(int(d.Upper) + 1))
	f := s.AddrFamily()
	if d.Forward == TUN {
		f = pick(r, IPv4, IPv6)
		d.TunType = pick(r, IPIP, GUE, GRE)
		if d.TunType != IPIP {
			d.TunFlags = pick(r, NoChecksum, Checksum)
		}
		if d.TunType == GUE {
			d.TunPort = uint16(1 + r.IntN(65535))
		}
	}
	d.Addr = netip.AddrPortFrom(randomAddr(r, f), uint16(r.IntN(65536)))
	return d.For(s)
}

func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		table := randomTable(r)
		if err := table.Validate(); err != nil {
			t.Fatalf("%v\n%s", err, FormatCommands(table))
		}
		checkRoundTrip(t, table)
		shuffled := table.Clone()
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !table.Equal(shuffled) {
			t.Fatalf("order must not matter:\n%s", strings.Join(table.Diff(shuffled), "\n"))
		}
		shuffled.Sort()
		table.Sort()
		if diff := cmp.Diff(table, shuffled, compareOptions()); diff != "" {
			t.Fatalf("Sort has more than one order:\n%s", diff)
		}
	}
}

func TestDiff(t *testing.T) {
	have := mustParse(t, `-A -t 172.25.12.100:80 -s wlc
-a -t 172.25.12.100:80 -r 172.25.12.2 -g
-a -t 172.25.12.100:80 -r 172.25.12.4 -g
-A -f 3 -s rr
`)
	want := mustParse(t, `-A -t 172.25.12.100:80 -s rr
-a -t 172.25.12.100:80 -r 172.25.12.3 -i
-a -t 172.25.12.100:80 -r 172.25.12.2 -g -w 5
-A -u 172.25.12.100:53 -s rr
-a -u 172.25.12.100:53 -r 172.25.12.3 -m
`)
	wantLines := []string{
		"! tcp 172.25.12.100:80: is -s wlc, wanted -s rr",
		"! tcp 172.25.12.100:80 -> 172.25.12.2:80: is -g -w 1, wanted -g -w 5",
		"+ tcp 172.25.12.100:80 -> 172.25.12.3:80: missing (-i -w 1)",
		"- tcp 172.25.12.100:80 -> 172.25.12.4:80: not wanted (-g -w 1)",
		"+ udp 172.25.12.100:53: missing (-s rr)",
		"+ udp 172.25.12.100:53 -> 172.25.12.3:53: missing (-m -w 1)",
		"- fwmark 3: not wanted (-s rr)",
	}
	if diff := cmp.Diff(wantLines, have.Diff(want)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	counted := have.Clone()
	counted[0].Destinations[0].Active = 7
	if !have.Equal(counted) {
		t.Error("counts of connections are no part of what is wished")
	}
}

func TestValidate(t *testing.T) {
	ok := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("172.25.12.100:80")}
	set := func(f func(*Service)) Table {
		s := ok
		f(&s)
		return Table{{Service: s}}
	}
	dest := func(d Destination) Table { return Table{{Service: ok, Destinations: []Destination{d}}} }
	rip := netip.MustParseAddrPort("172.25.12.2:80")
	tests := map[string]Table{
		"no address":                set(func(s *Service) { s.Addr = netip.AddrPort{} }),
		"protocol":                  set(func(s *Service) { s.Protocol = 0 }),
		"not in whole seconds":      set(func(s *Service) { s.Timeout = time.Millisecond }),
		"31 days":                   set(func(s *Service) { s.Timeout = -time.Second }),
		"netmask /33":               set(func(s *Service) { s.Netmask = 33 }),
		"cannot be the name":        set(func(s *Service) { s.Scheduler = "rr -D" }),
		"persistence engine":        set(func(s *Service) { s.PE = "a\nb" }),
		"weight -1":                 dest(Destination{Addr: rip, Weight: -1}),
		"2147483648":                dest(Destination{Addr: rip, Weight: 1, Upper: 2147483648}),
		"forwarding 9":              dest(Destination{Addr: rip, Forward: 9}),
		"tunnel type 9":             dest(Destination{Addr: rip, Forward: TUN, TunType: 9}),
		"at most one of":            dest(Destination{Addr: rip, Forward: TUN, TunType: GUE, TunPort: 1, TunFlags: 3}),
		"has no checksum":           dest(Destination{Addr: rip, Forward: TUN, TunFlags: Checksum}),
		"gue alone, not for gre":    dest(Destination{Addr: rip, Forward: TUN, TunType: GRE, TunFlags: RemoteChecksum}),
		"in the table twice":        {{Service: ok}, {Service: ok}},
		"real server is there twic": {{Service: ok, Destinations: []Destination{{Addr: rip}, {Addr: netip.MustParseAddrPort("172.25.12.2:81")}}}},
	}
	for want, table := range tests {
		if err := table.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: %v, wanted something about %q", err, want)
		}
	}
	if err := (Table{{Service: ok, Destinations: []Destination{{Addr: rip}}}}).Validate(); err != nil {
		t.Error(err)
	}
}
