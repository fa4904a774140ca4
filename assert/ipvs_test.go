package assert

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

func TestIPVSErrors(t *testing.T) {
	for text, want := range map[string]string{
		"connections: {count: 1}":                                  `f:1:14: key "node" is missing`,
		"connections: {node: a}":                                   `f:1:14: key "count" is missing`,
		"connections: {node: a, count: few}":                       `f:1:14: count: wanted a condition such as ">0", "=4" or "<2", found "few"`,
		"connections: {node: a, count: 1, protocol: icmp}":         `f:1:14: unknown protocol "icmp"; IPVS balances tcp, udp and sctp`,
		"connections: {node: a, count: 1, client_port: 65536}":     `f:1:47: wanted a whole number from 0 to 65535, found "65536"`,
		"connections: {node: a, count: 1, flags: x}":               `f:1:34: unknown key "flags"; Allowed: node, count, protocol, client, service, server, state, client_port`,
		"destination: {node: a, service: b, server: c}":            "f:1:14: destination needs weight:, active: or inactive:",
		"destination: {node: a, service: b, active: 1}":            `f:1:14: key "server" is missing`,
		"destination: {node: a, service: b, server: c, weight: x}": `f:1:14: weight: wanted a condition such as ">0", "=4" or "<2", found "x"`,
	} {
		if _, err := decode(t, text); err == nil || err.Error() != want {
			t.Errorf("%s:\n  %v\nwant\n  %s", text, err, want)
		}
	}
}

// conns is the table of a director: of web two connections to 10.0.0.2 and one
// to 10.0.0.3 with its template, and one of another service.
func conns() []ipvs.Connection {
	ap := netip.MustParseAddrPort
	return []ipvs.Connection{
		{Protocol: ipvs.TCP, Client: ap("10.0.0.250:40001"), Virtual: ap("10.0.0.100:80"), Real: ap("10.0.0.2:80"), State: "ESTABLISHED", Expires: 15 * time.Minute},
		{Protocol: ipvs.TCP, Client: ap("10.0.0.250:40000"), Virtual: ap("10.0.0.100:80"), Real: ap("10.0.0.2:80"), State: "FIN_WAIT", Expires: 119 * time.Second},
		{Protocol: ipvs.TCP, Client: ap("10.0.0.251:40000"), Virtual: ap("10.0.0.100:80"), Real: ap("10.0.0.3:80"), State: "ESTABLISHED", Expires: 15 * time.Minute},
		{Protocol: ipvs.TCP, Client: ap("10.0.0.251:0"), Virtual: ap("10.0.0.100:80"), Real: ap("10.0.0.3:80"), State: "ASSURED", Expires: 6 * time.Minute},
		{Client: ap("10.0.0.252:0"), Virtual: ap("0.0.0.1:0"), Real: ap("10.0.0.3:0"), State: "NONE", Expires: time.Minute},
		{Protocol: ipvs.UDP, Client: ap("[fd00::250]:40000"), Virtual: ap("[fd00::100]:53"), Real: ap("[fd00::2]:53"), State: "UDP", Expires: 5 * time.Minute},
	}
}

func TestConnections(t *testing.T) {
	web := ipvs.Service{Protocol: ipvs.TCP, Addr: netip.MustParseAddrPort("10.0.0.100:80")}
	for _, c := range []struct {
		check           string
		service         ipvs.Service
		clients, server string
		want            int
		wanted          string
	}{
		{"count: 4", ipvs.Service{}, "", "", 4, "director holds 4 connections"},
		{"service: web, count: 3", web, "", "", 3, "director holds 3 connections for web"},
		{"service: web, count: 3", ipvs.Service{Addr: netip.MustParseAddrPort("10.0.0.100:0")}, "", "", 3, "director holds 3 connections for web"},
		{"service: web, count: 0", ipvs.Service{Protocol: ipvs.UDP, Addr: web.Addr}, "", "", 0, "director holds 0 connections for web"},
		{"service: web, count: 0", ipvs.Service{Protocol: ipvs.TCP, Addr: netip.MustParseAddrPort("10.0.0.100:81")}, "", "", 0, "director holds 0 connections for web"},
		{"service: web, count: \">3\"", ipvs.Service{FWMark: 1}, "", "", 4, "director holds >3 connections for web"},
		{"server: web1, count: 2", ipvs.Service{}, "", "10.0.0.2", 2, "director holds 2 connections to web1"},
		{"client: client, server: web1, count: 2", ipvs.Service{}, "10.0.0.250", "10.0.0.2", 2, "director holds 2 connections of client to web1"},
		{"client: client, server: web1, count: 0", ipvs.Service{}, "10.0.0.251", "10.0.0.2", 0, "director holds 0 connections of client to web1"},
		{"client_port: 0, count: 2", ipvs.Service{}, "", "", 2, "director holds 2 templates of persistence"},
		{"client_port: 40000, count: 3", ipvs.Service{}, "", "", 3, "director holds 3 connections from port 40000"},
		{"protocol: udp, count: 1", ipvs.Service{}, "", "", 1, "director holds 1 UDP connections"},
		{"state: ESTABLISHED, count: 2", ipvs.Service{}, "", "", 2, "director holds 2 connections in state ESTABLISHED"},
		{"state: [FIN_WAIT, UDP], count: 2", ipvs.Service{}, "", "", 2, "director holds 2 connections in state FIN_WAIT or UDP"},
	} {
		decoded, err := decode(t, "connections: {node: director, "+c.check+"}")
		if err != nil {
			t.Errorf("%s: %v", c.check, err)
			continue
		}
		check := decoded.(*connections)
		var clients, servers []netip.Addr
		if c.clients != "" {
			clients = append(clients, netip.MustParseAddr(c.clients))
		}
		if c.server != "" {
			servers = append(servers, netip.MustParseAddr(c.server))
		}
		got := 0
		for _, e := range conns() {
			if check.about(e, c.service, clients, servers) && (len(check.State) == 0 || slices.Contains(check.State, e.State)) {
				got++
			}
		}
		if got != c.want || !check.count.holds(uint64(got)) || check.wanted() != c.wanted {
			t.Errorf("%s: %d, want %d\n%s\n%s", c.check, got, c.want, check.wanted(), c.wanted)
		}
	}
}

func TestFormatConnections(t *testing.T) {
	const want = `IPVS connection entries
pro expire state       source             virtual            destination
IP  01:00  NONE        10.0.0.252:0       0.0.0.1:0          10.0.0.3:0
TCP 01:59  FIN_WAIT    10.0.0.250:40000   10.0.0.100:80      10.0.0.2:80
TCP 15:00  ESTABLISHED 10.0.0.250:40001   10.0.0.100:80      10.0.0.2:80
TCP 06:00  ASSURED     10.0.0.251:0       10.0.0.100:80      10.0.0.3:80
TCP 15:00  ESTABLISHED 10.0.0.251:40000   10.0.0.100:80      10.0.0.3:80
UDP 05:00  UDP         [fd00::250]:40000  [fd00::100]:53     [fd00::2]:53
`
	if got := formatConnections(conns()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := seenStates(map[string]int{"FIN_WAIT": 1, "ESTABLISHED": 2}); got != "1 FIN_WAIT, 2 ESTABLISHED" {
		t.Error(got)
	}
}

func TestDestination(t *testing.T) {
	table, err := ipvs.ParseRules("", `-A -t 10.0.0.100:80 -s rr
-a -t 10.0.0.100:80 -r 10.0.0.2 -g -w 3
-a -t 10.0.0.100:80 -r 10.0.0.3 -m -w 1
-a -t 10.0.0.100:80 -r 10.0.0.3:81 -m -w 1
-A -u 10.0.0.100:53 -s rr
-a -u 10.0.0.100:53 -r 10.0.0.2:53 -g -w 1
`)
	if err != nil {
		t.Fatal(err)
	}
	table[0].Destinations[0].Active, table[0].Destinations[0].Inactive = 2, 5
	web := table[0].Service
	for _, c := range []struct {
		check   string
		service ipvs.Service
		server  string
		pass    bool
		seen    string
	}{
		{"weight: 3, active: 2, inactive: 5", web, "10.0.0.2", true, "10.0.0.2:80 with weight 3, active 2, inactive 5"},
		{"active: 3", web, "10.0.0.2", false, "10.0.0.2:80 with weight 3, active 2, inactive 5"},
		{"inactive: \">5\"", web, "10.0.0.2", false, "10.0.0.2:80 with weight 3, active 2, inactive 5"},
		{"weight: \"<3\"", web, "10.0.0.2", false, "10.0.0.2:80 with weight 3, active 2, inactive 5"},
		{"active: 0", web, "10.0.0.3", false, "2 real servers fit; name the service and the server so that one is left"},
		{"active: 0", web, "10.0.0.4", false, "web1 is no real server of it"},
		{"active: 0", ipvs.Service{Protocol: ipvs.TCP, Addr: netip.MustParseAddrPort("10.0.0.100:81")}, "10.0.0.2", false, "no such service"},
		{"active: 0", ipvs.Service{Addr: netip.MustParseAddrPort("10.0.0.100:0")}, "10.0.0.2", false, "2 real servers fit; name the service and the server so that one is left"},
	} {
		decoded, err := decode(t, "destination: {node: director, service: web, server: web1, "+c.check+"}")
		if err != nil {
			t.Errorf("%s: %v", c.check, err)
			continue
		}
		seen, pass := decoded.(*destination).look(table, c.service, []netip.Addr{netip.MustParseAddr(c.server)})
		if seen != c.seen || pass != c.pass {
			t.Errorf("%s of %s: %v %q, want %q", c.check, c.server, pass, seen, c.seen)
		}
	}
}
