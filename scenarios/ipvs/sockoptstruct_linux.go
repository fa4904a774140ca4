package ipvs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// The structs of the socket options (linux/ip_vs.h), as machines of 64 bits have
// them: their sizes in bytes, the arrays at their end left out.
const (
	sizeofService      = 44  // struct ip_vs_service_user
	sizeofDest         = 24  // struct ip_vs_dest_user
	sizeofInfo         = 12  // struct ip_vs_getinfo
	sizeofTimeout      = 12  // struct ip_vs_timeout_user
	sizeofDaemon       = 24  // struct ip_vs_daemon_user
	sizeofServices     = 8   // struct ip_vs_get_services
	sizeofServiceEntry = 104 // struct ip_vs_service_entry
	sizeofDests        = 24  // struct ip_vs_get_dests
	sizeofDestEntry    = 96  // struct ip_vs_dest_entry
)

// fields reads and writes members of a struct by their offsets.
type fields struct{ b []byte }

func (f fields) u16(at int) uint16 { return binary.NativeEndian.Uint16(f.b[at:]) }
func (f fields) u32(at int) uint32 { return binary.NativeEndian.Uint32(f.b[at:]) }
func (f fields) u64(at int) uint64 { return binary.NativeEndian.Uint64(f.b[at:]) }

func (f fields) port(at int) uint16 { return binary.BigEndian.Uint16(f.b[at:]) }

func (f fields) addr(at int) netip.Addr { return netip.AddrFrom4([4]byte(f.b[at:])) }

func (f fields) text(at, size int) string {
	name, _, _ := bytes.Cut(f.b[at:at+size], []byte{0})
	return string(name)
}

func (f fields) putU16(at int, v uint16) { binary.NativeEndian.PutUint16(f.b[at:], v) }
func (f fields) putU32(at int, v uint32) { binary.NativeEndian.PutUint32(f.b[at:], v) }

func (f fields) putPort(at int, v uint16) { binary.BigEndian.PutUint16(f.b[at:], v) }

func (f fields) putAddr(at int, a netip.Addr) {
	if a.Is4() {
		copy(f.b[at:], a.AsSlice())
	}
}

// putName writes which service is meant: the first 16 bytes of several structs.
// A service that is found by firewall mark has the protocol that ipvsadm gives
// it; the kernel wants one.
func (f fields) putName(s Service) {
	if s.FWMark != 0 {
		f.putU16(0, uint16(TCP))
		f.putU32(12, s.FWMark)
		return
	}
	f.putU16(0, uint16(s.Protocol))
	f.putAddr(4, s.Addr.Addr())
	f.putPort(8, s.Addr.Port())
}

// serviceUser is struct ip_vs_service_user.
func serviceUser(s Service) []byte {
	f := fields{make([]byte, sizeofService)}
	f.putName(s)
	copy(f.b[16:16+maxSchedulerName-1], s.Scheduler)
	flags, seconds := serviceFlags(s)
	f.putU32(32, flags)
	f.putU32(36, seconds)
	f.putU32(40, rawNetmask(s))
	return f.b
}

// serviceFlags are the kernel's flags of a service, and the seconds of its
// persistence.
func serviceFlags(s Service) (flags, seconds uint32) {
	flags, _ = flagBits(s.Scheduler, s.Flags) // validated
	if s.OnePacket {
		flags |= flagOnePacket
	}
	if s.Persistent() {
		flags |= flagPersistent
		seconds = uint32(s.Timeout / time.Second) //nolint:gosec // validated, at most 31 days
	}
	return flags, seconds
}

// destUser is struct ip_vs_dest_user.
func destUser(d Destination) []byte {
	f := fields{make([]byte, sizeofDest)}
	f.putAddr(0, d.Addr.Addr())
	f.putPort(4, d.Addr.Port())
	f.putU32(8, d.Forward.raw())
	f.putU32(12, uint32(d.Weight)) //nolint:gosec // validated
	f.putU32(16, d.Upper)
	f.putU32(20, d.Lower)
	return f.b
}

// timeoutUser is struct ip_vs_timeout_user.
func timeoutUser(t Timeouts) []byte {
	f := fields{make([]byte, sizeofTimeout)}
	for i, d := range []time.Duration{t.TCP, t.TCPFin, t.UDP} {
		f.putU32(4*i, uint32(d/time.Second)) //nolint:gosec // validated
	}
	return f.b
}

// daemonUser is struct ip_vs_daemon_user.
func daemonUser(d SyncDaemon) []byte {
	f := fields{make([]byte, sizeofDaemon)}
	f.putU32(0, uint32(d.State))
	copy(f.b[4:4+maxInterfaceName-1], d.Interface)
	f.putU32(20, uint32(d.SyncID))
	return f.b
}

// parseDaemonUser reads what daemonUser writes; false where no daemon runs.
func parseDaemonUser(b []byte) (SyncDaemon, bool) {
	f := fields{b}
	d := SyncDaemon{
		State:     SyncState(f.u32(0)), //nolint:gosec // 0 to 2
		Interface: f.text(4, maxInterfaceName),
		SyncID:    uint8(f.u32(20)), //nolint:gosec // 0 to 255
	}
	return d.Normal(), d.State != 0
}

// serviceEntry is struct ip_vs_service_entry.
type serviceEntry struct {
	service  Service
	dests    int
	counters Counters
	rates    Rates
}

// getServiceArg asks for one service, getServicesArg for n of them.
func getServiceArg(s Service) []byte {
	f := fields{make([]byte, sizeofServiceEntry)}
	f.putName(s)
	return f.b
}

func getServicesArg(n int) []byte {
	f := fields{make([]byte, sizeofServices+n*sizeofServiceEntry)}
	f.putU32(0, uint32(n)) //nolint:gosec // a count
	return f.b
}

// parseServices reads the entries that the kernel has filled.
func parseServices(b []byte) []serviceEntry {
	var out []serviceEntry
	for b = b[sizeofServices:]; len(b) >= sizeofServiceEntry; b = b[sizeofServiceEntry:] {
		if e := parseService(b[:sizeofServiceEntry]); e.service.Protocol != 0 || e.service.FWMark != 0 {
			out = append(out, e)
		}
	}
	return out
}

func parseService(b []byte) serviceEntry {
	f := fields{b}
	flags := f.u32(32)
	s := Service{FWMark: f.u32(12), Scheduler: f.text(16, maxSchedulerName), OnePacket: flags&flagOnePacket != 0}
	if s.FWMark == 0 {
		s.Protocol = Protocol(f.u16(0)) //nolint:gosec // a protocol number has 8 bits
		s.Addr = netip.AddrPortFrom(f.addr(4), f.port(8))
	}
	if flags&flagPersistent != 0 {
		s.Timeout = time.Duration(f.u32(36)) * time.Second
		s.Netmask = maskLength(b[40:44], IPv4)
	}
	s.Flags = flagNames(s.Scheduler, flags&flagsSched)
	e := serviceEntry{service: s.Normal(), dests: int(f.u32(44))}
	e.counters, e.rates = parseStatsUser(b[48:])
	return e
}

// parseStatsUser reads struct ip_vs_stats_user.
func parseStatsUser(b []byte) (Counters, Rates) {
	f := fields{b}
	n := func(at int) uint64 { return uint64(f.u32(at)) }
	return Counters{Conns: n(0), InPkts: n(4), OutPkts: n(8), InBytes: f.u64(16), OutBytes: f.u64(24)},
		Rates{Conns: n(32), InPkts: n(36), OutPkts: n(40), InBytes: n(44), OutBytes: n(48)}
}

// getDestsArg asks for n real servers of a service.
func getDestsArg(s Service, n int) []byte {
	f := fields{make([]byte, sizeofDests+n*sizeofDestEntry)}
	f.putName(s)
	f.putU32(16, uint32(n)) //nolint:gosec // a count
	return f.b
}

// parseDests reads the entries that the kernel has filled, in its order: the
// last one added comes first.
func parseDests(b []byte) ([]DestinationTraffic, error) {
	var out []DestinationTraffic
	for b = b[sizeofDests:]; len(b) >= sizeofDestEntry; b = b[sizeofDestEntry:] {
		f := fields{b[:sizeofDestEntry]}
		addr := f.addr(0)
		if addr.IsUnspecified() {
			continue // no real server has it
		}
		d := Destination{
			Addr: netip.AddrPortFrom(addr, f.port(4)), Weight: int(f.u32(12)), Upper: f.u32(16), Lower: f.u32(20),
			Active: int(f.u32(24)), Inactive: int(f.u32(28)),
		}
		var ok bool
		if d.Forward, ok = forwardOf(f.u32(8)); !ok {
			return nil, fmt.Errorf("real server %s has forwarding method %d, which lvslab does not know", d.Addr, f.u32(8)&forwardMask)
		}
		t := DestinationTraffic{Destination: d, Templates: int(f.u32(32))}
		t.Counters, t.Rates = parseStatsUser(f.b[40:])
		out = append(out, t)
	}
	return out, nil
}

// forwardOf is the method behind the kernel's flags of a real server.
func forwardOf(flags uint32) (Forward, bool) {
	for _, m := range []Forward{DR, TUN, NAT} {
		if flags&forwardMask == m.raw() {
			return m, true
		}
	}
	return 0, false
}
