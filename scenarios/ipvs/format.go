package ipvs

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// FormatRules is t as `ipvsadm -S -n` prints it (ipvsadm 1.31): sorted, with
// every tunnel's type, and without thresholds, which ipvsadm does not save. A
// restored table has therefore lost its order and its thresholds.
//
// The one difference is a firewall mark above 2147483647: ipvsadm prints it as
// a negative number, which it cannot read back.
func FormatRules(t Table) string {
	var b strings.Builder
	for _, e := range t.listed() {
		fmt.Fprintf(&b, "%s\n", addServiceRule(e.Service))
		for _, d := range e.Destinations {
			fmt.Fprintf(&b, "-a %s -r %v %s -w %d%s\n",
				serviceRule(e.Service), d.Addr, d.Forward.option(), d.Weight, tunnelOptions(d, true))
		}
	}
	return b.String()
}

// FormatCommands is t as rules that lose nothing: thresholds are there, and the
// order is t's own, so that rr begins with the same real server again.
func FormatCommands(t Table) string {
	var b strings.Builder
	for _, e := range t {
		e = e.Normal()
		fmt.Fprintf(&b, "%s\n", addServiceRule(e.Service))
		for _, d := range e.Destinations {
			fmt.Fprintf(&b, "%s\n", addDestinationRule(e.Service, d))
		}
	}
	return b.String()
}

// listHeader follows the first line of `ipvsadm -Ln`.
const listHeader = `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
`

// usualInfo is the IPVS of every kernel in use. The size of the connection
// table is the kernel's, 4096 unless configured.
func usualInfo() Info { return Info{Version: 0x010201, TableSize: 4096} }

// FormatList is t as `ipvsadm -L -n` prints it, header and trailing blanks
// included, on a kernel with a connection table of the usual size. Counts of
// connections are those of t, so t should have been read from a kernel.
func FormatList(t Table) string { return usualInfo().FormatList(t) }

// FormatList is what FormatList of the package is, with i in its first line.
func (i Info) FormatList(t Table) string {
	var b strings.Builder
	b.WriteString(i.String() + "\n" + listHeader)
	for _, e := range t.listed() {
		b.WriteString(listService(e.Service))
		for _, d := range e.Destinations {
			fmt.Fprintf(&b, "  -> %-28s %-7s %-6d %-10d %-10d\n",
				d.Addr, d.Forward.listName(), d.Weight, d.Active, d.Inactive)
		}
	}
	return b.String()
}

// listName is the service as it begins a line of ipvsadm's lists.
func listName(s Service) string {
	switch {
	case s.FWMark == 0:
		return fmt.Sprintf("%-4s %v", strings.ToUpper(s.Protocol.String()), s.Addr)
	case s.Family == IPv6:
		return fmt.Sprintf("FWM  %d IPv6", s.FWMark)
	}
	return fmt.Sprintf("FWM  %d", s.FWMark)
}

func listService(s Service) string {
	var b strings.Builder
	b.WriteString(listName(s))
	b.WriteString(" " + s.Scheduler)
	if len(s.Flags) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(s.Flags, ","))
	}
	if s.Persistent() {
		fmt.Fprintf(&b, " persistent %d", s.Timeout/time.Second)
		if s.Netmask != 0 {
			b.WriteString(" mask " + maskText(s))
		}
	}
	if s.PE != "" {
		b.WriteString(" pe " + s.PE)
	}
	if s.OnePacket {
		b.WriteString(" ops")
	}
	return b.String() + "\n"
}

// addServiceRule is `-A …`, as ipvsadm -S prints it and a person types it.
func addServiceRule(s Service) string {
	return "-A " + serviceRule(s) + " " + serviceOptions(s)
}

// serviceRule names the service: `-t 172.25.12.100:80`, `-f 1 -6`.
func serviceRule(s Service) string {
	switch {
	case s.FWMark == 0:
		return s.Protocol.option() + " " + s.Addr.String()
	case s.Family == IPv6:
		return fmt.Sprintf("-f %d -6", s.FWMark)
	}
	return fmt.Sprintf("-f %d", s.FWMark)
}

// serviceOptions are how the service is set, in the order of ipvsadm -S.
func serviceOptions(s Service) string {
	s = s.Normal()
	opts := []string{"-s", s.Scheduler}
	if s.Persistent() {
		opts = append(opts, "-p", fmt.Sprint(int64(s.Timeout/time.Second)))
		if s.Netmask != 0 {
			opts = append(opts, "-M", maskText(s))
		}
	}
	if s.PE != "" {
		opts = append(opts, "--pe", s.PE)
	}
	if s.OnePacket {
		opts = append(opts, "-o")
	}
	if len(s.Flags) > 0 {
		opts = append(opts, "-b", strings.Join(s.Flags, ","))
	}
	return strings.Join(opts, " ")
}

// maskText is the netmask as ipvsadm has it: dotted for IPv4, a number for IPv6.
func maskText(s Service) string {
	if s.AddrFamily() == IPv6 {
		return fmt.Sprint(s.Netmask)
	}
	return net.IP(net.CIDRMask(s.Netmask, 32)).String()
}

// addDestinationRule is `-a …` as a person types it.
func addDestinationRule(s Service, d Destination) string {
	return fmt.Sprintf("-a %s -r %v %s", serviceRule(s), d.Addr, destinationOptions(d))
}

func delDestinationRule(s Service, d Destination) string {
	return fmt.Sprintf("-d %s -r %v", serviceRule(s), d.Addr)
}

// destinationOptions are how the real server is set.
func destinationOptions(d Destination) string {
	opts := fmt.Sprintf("%s -w %d", d.Forward.option(), d.Weight)
	if d.Upper != 0 {
		opts += fmt.Sprintf(" -x %d", d.Upper)
	}
	if d.Lower != 0 {
		opts += fmt.Sprintf(" -y %d", d.Lower)
	}
	return opts + tunnelOptions(d, false)
}

// tunnelOptions are those of TUN. ipvsadm -S names the default type as well,
// which a person leaves out.
func tunnelOptions(d Destination, nameDefault bool) string {
	if d.Forward != TUN || d.TunType == IPIP && !nameDefault {
		return ""
	}
	opts := " --tun-type " + d.TunType.String()
	if d.TunType == GUE {
		opts += fmt.Sprintf(" --tun-port %d", d.TunPort)
	}
	if d.TunType == IPIP {
		return opts
	}
	switch d.TunFlags {
	case Checksum:
		return opts + " --tun-csum"
	case RemoteChecksum:
		return opts + " --tun-remcsum"
	default:
		return opts + " --tun-nocsum"
	}
}

// listed is t in the order in which ipvsadm prints it.
//
// ipvsadm compares marks and IPv4 addresses by a subtraction that overflows, so
// that 192.168.0.1 comes before 10.0.0.1 (run). Such an order can run in a
// circle, where ipvsadm's own output depends on the kernel's hash; here a merge
// of the canonical order decides.
func (t Table) listed() Table {
	out := t.normalSorted()
	merge(out, func(a, b Entry) int { return listCompareServices(a.Service, b.Service) })
	for i := range out {
		merge(out[i].Destinations, func(a, b Destination) int { return listCompareAddrs(a.Addr, b.Addr) })
	}
	return out
}

func listCompareServices(a, b Service) int {
	switch {
	case a.FWMark != b.FWMark:
		return int(int32(a.FWMark - b.FWMark)) //nolint:gosec // the overflow is ipvsadm's
	case a.AddrFamily() != b.AddrFamily():
		return int(a.AddrFamily()) - int(b.AddrFamily())
	case a.Protocol != b.Protocol:
		return int(a.Protocol) - int(b.Protocol)
	case a.FWMark != 0:
		return 0
	}
	return listCompareAddrs(a.Addr, b.Addr)
}

// listCompareAddrs compares as ipvsadm does: by the family of the first, so that
// an IPv4 address is compared with the first four bytes of an IPv6 one.
func listCompareAddrs(a, b netip.AddrPort) int {
	if a.Addr() == b.Addr() {
		return cmp.Compare(a.Port(), b.Port())
	}
	rawA, rawB := padded(a.Addr()), padded(b.Addr())
	if !a.Addr().Is4() {
		return bytes.Compare(rawA[:], rawB[:])
	}
	return int(int32(binary.BigEndian.Uint32(rawA[:4]) - binary.BigEndian.Uint32(rawB[:4]))) //nolint:gosec // the same
}

// padded is the address as the kernel holds it, in 16 bytes from the left.
func padded(a netip.Addr) (raw [16]byte) {
	copy(raw[:], a.AsSlice())
	return raw
}

// merge is a stable merge sort, which ends whatever compare answers.
func merge[T any](s []T, compare func(a, b T) int) {
	if len(s) < 2 {
		return
	}
	left, right := slices.Clone(s[:len(s)/2]), slices.Clone(s[len(s)/2:])
	merge(left, compare)
	merge(right, compare)
	for i := range s {
		if len(right) == 0 || len(left) > 0 && compare(left[0], right[0]) <= 0 {
			s[i], left = left[0], left[1:]
		} else {
			s[i], right = right[0], right[1:]
		}
	}
}
