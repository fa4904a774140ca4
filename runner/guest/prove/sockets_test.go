package prove

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// listening are the addresses and ports at which the thread's namespace listens,
// each once: "tcp *:80". A socket for all of IPv6 may be one for all of IPv4,
// too, or have a second one beside it: both are "*".
func listening() ([]string, error) {
	var lines []string
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + protocol)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		rows := strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, row := range rows[1:] {
			f := strings.Fields(row)
			at, err := socketAddress(f[1])
			if err != nil {
				return nil, fmt.Errorf("/proc/net/%s: %w", protocol, err)
			}
			// include/net/tcp_states.h; a datagram's socket without a peer is
			// closed. The ports of those who ask are others each time.
			const listen, closed = "0A", "07"
			if f[3] != listen && f[3] != closed || strings.HasPrefix(protocol, "udp") && at.Port() >= 32768 {
				continue
			}
			host := at.Addr().String()
			if at.Addr().IsUnspecified() {
				host = "*"
			}
			lines = append(lines, fmt.Sprintf("%s %s:%d", strings.TrimSuffix(protocol, "6"), host, at.Port()))
		}
	}
	// Fields of net/sctp/proc.c: ENDPT SOCK STY SST HBKT LPORT.
	text, err := os.ReadFile("/proc/thread-self/net/sctp/eps")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for i, row := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if f := strings.Fields(row); i > 0 && len(f) > 5 {
			lines = append(lines, "sctp *:"+f[5])
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

// socketAddress reads "0100007F:0050": words of the machine's own order.
func socketAddress(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("no socket's address: %q", s)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}
