package importer

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// carrying is a keepalived.conf with these lines in virtual_ipaddress, of an
// instance on eth0, and a service of 10.5.0.100.
func carrying(lines ...string) string {
	return "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n" + strings.Join(lines, "\n") + "\n}\n}\n" +
		"virtual_server 10.5.0.100 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.5.0.11 80 {\n}\n}\n"
}

// The director has the devices that the file names, on the networks that their
// addresses are on, by names that a lab can have.
func TestDirectorDevices(t *testing.T) {
	for lines, want := range map[string]string{
		"10.5.0.100":                          "eth0: lan 10.5.0.1/24",
		"10.5.0.100/24":                       "eth0: lan 10.5.0.1/24",
		"10.5.0.100/32 dev ens1\n10.9.0.1":    "ens1: lan 10.5.0.1/24, eth0: lan",
		"10.5.0.100/24 dev lo":                "eth0: lan 10.5.0.1/24",
		"10.5.0.100 dev tunl0":                "eth0: lan 10.5.0.1/24; device tunl0 is called eth0 in the lab, since every node has a tunl0 by itself",
		"10.5.0.100/24 dev bond0.7":           "bond0.7: lan 10.5.0.1/24",
		"10.5.0.100/24 dev 0eth:1":            "eth-1: lan 10.5.0.1/24; device 0eth:1 is called eth-1 in the lab, since a lab's devices have letters, digits, -, _ and dots in their names, at most 15 in all, and begin with a letter",
		"10.5.0.100 dev ETH0\n10.9.0.1/24":    "ETH0: lan 10.5.0.1/24, eth0: front 10.9.0.2/24 10.9.0.1/24",
		"10.5.0.100/24\n10.5.0.101/24 dev s1": "eth0: lan 10.5.0.1/24, s1: lan",
	} {
		got, lab := loaded(t, readString(t, carrying(strings.Split(lines, "\n")...)), DraftOptions{})
		var links []string
		director, _ := lab.Nodes.Get("director")
		for _, l := range director.Links {
			text := l.Name + ": " + l.Value.Network
			for _, a := range l.Value.Addresses {
				text += " " + a.Prefix.String()
			}
			links = append(links, text)
		}
		have := strings.Join(links, ", ")
		for _, n := range got.Notes {
			if strings.HasPrefix(n.Msg, "device ") {
				have += "; " + n.Msg
			}
		}
		if have != want {
			t.Errorf("%q: %s\nwanted %s", lines, have, want)
		}
	}
}

// A service on a loopback address, as Kubernetes has them, is none that a client
// can ask.
func TestLoopbackService(t *testing.T) {
	const note = "stdin:3:1: ignored: virtual service tcp 127.0.0.1:80 is for the director itself alone (a loopback address); the lab leaves it out, since no client can ask it"
	lab, _ := loaded(t, readString(t, "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.1.1 -m\n-A -t 127.0.0.1:80\n-a -t 127.0.0.1:80 -r 10.0.1.1 -m\n"), DraftOptions{})
	if strings.Contains(string(lab.Text), "127.") || !slices.ContainsFunc(lab.Notes, func(n config.Note) bool { return n.String() == note }) {
		t.Errorf("%v\n%s", lab.Notes, lab.Text)
	}
	_, err := Draft(readString(t, "-A -t 127.0.0.1:80\n-a -t 127.0.0.1:80 -r 10.0.1.1 -m\n"), DraftOptions{})
	if want := "stdin:1: no virtual service is in it that a client can ask, so that there is nothing to try"; err == nil || err.Error() != want {
		t.Errorf("%v, wanted %s", err, want)
	}
}

// The port of a firewall mark's real server is kept by the kernel, and no lab can
// have it.
func TestPortsOfMarks(t *testing.T) {
	lab, _ := loaded(t, readString(t, "-A -f 1 -s rr\n-a -f 1 -r 10.0.1.1:80 -g\n-a -f 1 -r 10.0.1.2:80 -i\n-a -f 1 -r 10.0.2.3:80 -m\n"), DraftOptions{})
	for _, want := range []string{"-a -f 1 -r 10.0.1.1:0 -g", "-a -f 1 -r 10.0.1.2:0 -i", "-a -f 1 -r 10.0.2.3:80 -m"} {
		if !strings.Contains(string(lab.Text), want) {
			t.Errorf("wanted %s in\n%s", want, lab.Text)
		}
	}
	const note = "stdin:2:1: warning: port 80 of real server 10.0.1.1 counts for nothing: direct routing leaves the port of a packet as it is, so the lab's table has none for fwmark 1"
	if !slices.ContainsFunc(lab.Notes, func(n config.Note) bool { return n.String() == note }) {
		t.Errorf("%v", lab.Notes)
	}
}

// The kernel remembers the clients of a persistent FTP service for the service of
// all ports too, and the other way round: nobody asks both.
func TestPersistentFTP(t *testing.T) {
	const rules = "-A -t 10.0.0.1:21 -s wlc -p 300\n-a -t 10.0.0.1:21 -r 10.0.0.2\n" +
		"-A -t 10.0.0.1:0 -s lc -p 300\n-a -t 10.0.0.1:0 -r 10.0.0.2\n-a -t 10.0.0.1:0 -r 10.0.0.3\n"
	steps := stepsFor(t, rules, "")
	asked := make(map[string]string)
	for _, s := range steps {
		for _, a := range s.do {
			_, source, _ := strings.Cut(a.text, "source: ")
			source, _, _ = strings.Cut(source, ",")
			if other, twice := asked[source]; twice && other != s.service.name {
				t.Errorf("%s and %s are both asked from %s", other, s.service.name, source)
			}
			asked[source] = s.service.name
		}
	}
	if len(asked) < 4 {
		t.Errorf("asked from %v", asked)
	}
}
