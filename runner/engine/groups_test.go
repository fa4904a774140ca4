package engine

import (
	"net/netip"
	"testing"
)

func TestListens(t *testing.T) {
	const text = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n" +
		"2    eth0            ff0200000000000000000001ff000100     2 00000004 0\n"
	for _, c := range []struct {
		device, addr string
		want         bool
	}{
		{"eth0", "fd00:12::100", true},
		{"eth0", "fd00:12::101", false},
		{"lo", "fd00:12::100", false},
		{"eth", "fd00:12::100", false},
	} {
		if got := listens(text, c.device, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s on %s: %t", c.addr, c.device, got)
		}
	}
}
