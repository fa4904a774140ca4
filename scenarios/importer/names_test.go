package importer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// Services have the shortest names that tell them apart.
func TestServiceNames(t *testing.T) {
	for _, c := range []struct{ services, want string }{
		{"tcp 10.0.0.1:80", "web"},
		{"tcp 10.0.0.1:80, tcp 10.0.0.1:443", "web https"},
		{"tcp 10.0.0.1:80, tcp 10.0.0.2:80", "web-1 web-2"},
		{"tcp 10.0.0.1:53, udp 10.0.0.1:53", "dns-tcp dns-udp"},
		{"tcp 10.0.0.1:80, tcp 10.0.1.1:80, tcp 10.0.0.7:80", "web-0-1 web-1-1 web-7"},
		{"tcp 10.0.0.1:80, tcp [fd00::1]:80", "web-1 web-v6-1"},
		{"tcp 10.0.0.1:7000", "tcp-7000"},
	} {
		var list []*placed
		for s := range strings.SplitSeq(c.services, ", ") {
			proto, addr, _ := strings.Cut(s, " ")
			p, err := ipvs.ParseProtocol(proto)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, &placed{Service: &config.Service{Service: ipvs.Service{Protocol: p, Addr: netip.MustParseAddrPort(addr)}}})
		}
		nameServices(newNamer(), list)
		var got []string
		for _, p := range list {
			got = append(got, p.name)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%s: %v, wanted %v", c.services, got, want)
		}
	}
}

func TestLabName(t *testing.T) {
	for in, want := range map[string]string{
		"WEB_servers": "web-servers", "1st": "st", "ä": "", "a--": "a", strings.Repeat("x", 40): strings.Repeat("x", longestBase),
	} {
		if got := labName(in); got != want {
			t.Errorf("%q: %q, wanted %q", in, got, want)
		}
	}
}
