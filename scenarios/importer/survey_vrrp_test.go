package importer

import (
	"strings"
	"testing"
)

// speaking is a keepalived.conf whose vrrp_instance has these lines besides, and
// 10.5.0.100, a service of DR.
func speaking(lines, vip string) string {
	return "vrrp_instance V {\ninterface eth7\nvirtual_router_id 1\n" + lines + "\nvirtual_ipaddress {\n" + vip + "\n}\n}\n" +
		"virtual_server 10.5.0.100 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.5.0.11 80 {\n}\n}\n"
}

// The director carries the address that its VRRP speaks from, and no machine of
// the lab has one of its peers'.
func TestSpeakers(t *testing.T) {
	for _, c := range []struct{ name, lines, vip, director, note string }{
		{"none", "", "10.5.0.100", "eth7: lan 10.5.0.1/24", ""},
		{"its own network", "unicast_src_ip 10.5.0.9", "10.5.0.100/24", "eth7: lan 10.5.0.9/24", ""},
		{"that of the real servers", "mcast_src_ip 10.5.0.9", "10.5.0.100", "eth7: lan 10.5.0.9/24", ""},
		{"peers", "unicast_src_ip 10.5.0.9\nunicast_peer {\n10.5.0.254\n10.5.0.253\n}", "10.5.0.100", "eth7: lan 10.5.0.9/24", ""},
		{"another device's", "unicast_src_ip 10.5.0.9", "10.5.0.100/24 dev s1\n10.6.0.1/24", "s1: lan 10.5.0.9/24, eth7: front 10.6.0.2/24 10.6.0.1/24", "speaks from 10.5.0.9, which the director has on s1 in the lab"},
		{
			"one more network", "unicast_src_ip 192.168.9.9", "10.5.0.100/24", "eth7: lan 10.5.0.1/24 192.168.9.9/24",
			"network lan has 192.168.9.0/24 as well, from the address that vrrp_instance V speaks from (192.168.9.9)",
		},
		{
			"a network of its own", "unicast_src_ip 192.168.9.9", "10.5.0.100/24 dev s1", "s1: lan 10.5.0.1/24, eth7: front 192.168.9.9/24",
			"network front is 192.168.9.0/24, from the address that vrrp_instance V speaks from (192.168.9.9)",
		},
		{"link-local", "mcast_src_ip fe80::9", "10.5.0.100/24\n2001:db8::1/64", "eth7: lan 10.5.0.1/24 2001:db8::2/64 fe80::9/64 2001:db8::1/64", ""},
		{"the virtual IP", "unicast_src_ip 10.5.0.100", "10.5.0.100/24", "eth7: lan 10.5.0.1/24", ""},
		{"a real server", "unicast_src_ip 10.5.0.11", "10.5.0.100/24", "eth7: lan 10.5.0.1/24", "real_server 10.5.0.11 is the director itself"},
	} {
		got, lab := loaded(t, readString(t, speaking(c.lines, c.vip)), DraftOptions{})
		var links, notes []string
		for _, n := range lab.Nodes {
			for _, l := range n.Value.Links {
				text := l.Name + ": " + l.Value.Network
				for _, a := range l.Value.Addresses {
					text += " " + a.Prefix.String()
					if a := a.Prefix.Addr().String(); a == "10.5.0.254" || a == "10.5.0.253" {
						if c.name == "peers" {
							t.Errorf("%s: %s has the peer's address %s", c.name, n.Name, a)
						}
					}
				}
				if n.Name == "director" {
					links = append(links, text)
				}
			}
		}
		for _, n := range got.Notes {
			notes = append(notes, n.Msg)
		}
		if have := strings.Join(links, ", "); have != c.director {
			t.Errorf("%s: the director has %s, wanted %s", c.name, have, c.director)
		}
		if all := strings.Join(notes, "\n"); !strings.Contains(all, c.note) {
			t.Errorf("%s: wanted a note with %q, found\n%s", c.name, c.note, all)
		}
	}
}

// A device that the real keepalived looks for is in the lab by its very name, or
// the lab is refused.
func TestManagedDevices(t *testing.T) {
	const and = ": give it another name here, or leave the flag out"
	for lines, want := range map[string]string{
		"interface bond0.7":                   "bond0.7",
		"interface ETH0":                      "ETH0",
		"interface eth-0_x.":                  "eth-0_x.",
		"track_interface {\neth9 weight 3\n}": "eth9",
		"interface tunl0":                     "stdin:4:1: --with-keepalived: device tunl0 would be called eth0 in the lab, since every node has a tunl0 by itself; the real keepalived looks for tunl0 and would not run" + and,
		"interface gre0":                      "stdin:4:1: --with-keepalived: device gre0 would be called eth0",
		"interface lo":                        "stdin:4:1: --with-keepalived: vrrp_instance V is on lo, on which keepalived speaks no VRRP",
		"interface far-too-long-name":         "stdin:4:1: --with-keepalived: device far-too-long-name would be called far-too-long-na",
		"unicast_src_ip 10.5.0.11":            "stdin:4:1: --with-keepalived: vrrp_instance V speaks from 10.5.0.11, which is a real server (stdin:13:1) and so another machine of the lab",
	} {
		c := readString(t, speaking(lines, "10.5.0.100/24"))
		if strings.HasPrefix(want, "stdin") {
			if _, err := Draft(c, DraftOptions{ManagedBy: managedByKeepalived}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v\nwanted %s", lines, err, want)
			}
			if _, err := Draft(c, DraftOptions{}); err != nil {
				t.Errorf("%q, without keepalived: %v", lines, err)
			}
			continue
		}
		_, lab := loaded(t, c, DraftOptions{ManagedBy: managedByKeepalived})
		director, _ := lab.Nodes.Get("director")
		if _, ok := director.Links.Get(want); !ok {
			t.Errorf("%q: the director has %q, wanted %s", lines, director.Links.Names(), want)
		}
	}
}
