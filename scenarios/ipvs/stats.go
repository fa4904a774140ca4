package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Counters are what a node's IPVS has counted since it began, for all its
// services together. Out counts what comes back through the director, which is
// nothing with DR and TUN.
type Counters struct {
	Conns    uint64
	InPkts   uint64
	OutPkts  uint64
	InBytes  uint64
	OutBytes uint64
}

// Sub is what was counted since o.
func (c Counters) Sub(o Counters) Counters {
	return Counters{
		Conns:    c.Conns - o.Conns,
		InPkts:   c.InPkts - o.InPkts,
		OutPkts:  c.OutPkts - o.OutPkts,
		InBytes:  c.InBytes - o.InBytes,
		OutBytes: c.OutBytes - o.OutBytes,
	}
}

// ParseStats reads /proc/net/ip_vs_stats_percpu.
//
// It adds up the processors' own lines, which count at once. The line of the
// total, ~, comes from the estimator and lags by up to two seconds (run on
// 6.1.176: two connections in CPU 0's line, none in the total's). ipvsadm -Z
// resets the total alone, so these counters only ever grow.
func ParseStats(text string) (Counters, error) {
	var c Counters
	seen := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 6 {
			continue
		}
		if _, err := strconv.ParseUint(fields[0], 16, 32); err != nil {
			continue // a line of the header, or the total
		}
		for i, sum := range []*uint64{&c.Conns, &c.InPkts, &c.OutPkts, &c.InBytes, &c.OutBytes} {
			n, err := strconv.ParseUint(fields[i+1], 16, 64)
			if err != nil {
				return Counters{}, fmt.Errorf("ip_vs_stats_percpu: %.40q is no hexadecimal number in %.120q", fields[i+1], line)
			}
			*sum += n
		}
		seen = true
	}
	if !seen {
		return Counters{}, fmt.Errorf("ip_vs_stats_percpu: no processor's line in %.200q", text)
	}
	return c, nil
}

// Connection is one row of the connection table.
type Connection struct {
	Protocol Protocol
	Client   netip.AddrPort // port 0 in a template of persistence
	Virtual  netip.AddrPort
	Real     netip.AddrPort
	State    string // "ESTABLISHED", "SYN_RECV", "FIN_WAIT", "NONE", …
	// Expires is when the row goes, in whole seconds from now.
	Expires time.Duration
	// FWMark is the mark of a template whose service is found by firewall mark:
	// the kernel puts it where the virtual address stands.
	FWMark uint32
	// PE and PEData are the persistence engine that made a template, "sip", and
	// what it goes by instead of the client's address, a Call-ID. Both are
	// empty without one.
	PE, PEData string
}

// Template reports whether c is no connection but the memory of a client of a
// persistent service.
func (c Connection) Template() bool { return c.Client.Port() == 0 }

// ParseConnections reads /proc/net/ip_vs_conn.
func ParseConnections(text string) ([]Connection, error) {
	var out []Connection
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "Pro" {
			continue
		}
		c, err := parseConnection(fields)
		if err != nil {
			return nil, fmt.Errorf("ip_vs_conn: %w in %.200q", err, line)
		}
		out = append(out, c)
	}
	return out, nil
}

// parseConnection reads a row: protocol, three addresses with their ports in
// hexadecimal, state, seconds, and the persistence engine's data if there is
// one.
func parseConnection(f []string) (c Connection, err error) {
	if len(f) < 9 {
		return c, fmt.Errorf("%d columns, wanted 9", len(f))
	}
	if c.Protocol, err = parseConnProtocol(f[0]); err != nil {
		return c, err
	}
	for i, ap := range []*netip.AddrPort{&c.Client, &c.Virtual, &c.Real} {
		if *ap, err = parseHexAddrPort(f[1+2*i], f[2+2*i]); err != nil {
			return c, err
		}
	}
	c.State = f[7]
	secs, err := strconv.ParseUint(f[8], 10, 32)
	if err != nil {
		return c, fmt.Errorf("%.40q is no number of seconds", f[8])
	}
	c.Expires = time.Duration(secs) * time.Second //nolint:gosec // 32 bits
	if f[0] == "IP" {
		c.FWMark = binary.BigEndian.Uint32(c.Virtual.Addr().AsSlice())
	}
	if len(f) > 10 {
		c.PE, c.PEData = f[9], f[10]
	}
	return c, nil
}

// parseConnProtocol reads the name that the kernel has for a protocol. It is
// IP for the template of a service that is found by firewall mark.
func parseConnProtocol(name string) (Protocol, error) {
	switch name {
	case "IP", "AH", "ESP", "ICMP", "UNKNOWN":
		return 0, nil
	}
	return ParseProtocol(strings.ToLower(name))
}

// parseHexAddrPort reads AC190C64 0050, or an IPv6 address in eight groups.
func parseHexAddrPort(host, port string) (netip.AddrPort, error) {
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.40q is no hexadecimal port", port)
	}
	addr, err := netip.ParseAddr(host)
	if !strings.Contains(host, ":") {
		var n uint64
		n, err = strconv.ParseUint(host, 16, 32)
		addr = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) //nolint:gosec // byte by byte
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.60q is no hexadecimal address", host)
	}
	return netip.AddrPortFrom(addr, uint16(p)), nil //nolint:gosec // 16 bits
}
