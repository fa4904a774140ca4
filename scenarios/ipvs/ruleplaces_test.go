package ipvs

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/topology/source"
)

// at reads "LINE:COL" in the file f.
func at(t *testing.T, text string) source.Pos {
	t.Helper()
	p := source.Pos{File: "f"}
	if _, err := fmt.Sscanf(text, "%d:%d", &p.Line, &p.Col); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadRulesPlaces(t *testing.T) {
	f, err := ReadRules("f", `# saved
ipvsadm -A -t 10.0.0.1:80 -s rr -p 60
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -g -w 2 -x 9 -y 3
-a -t 10.0.0.1:80 -r 10.0.0.3 -m
--set 900 120 300
-A -f 1
-A -u 10.0.0.9:53
-E -t 10.0.0.1:80 -s wrr
-e -t 10.0.0.1:80 -r 10.0.0.3 -m -w 5
-D -u 10.0.0.9:53
-Z -f 1
--start-daemon master --mcast-interface eth0
-L -n
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []EntryPlaces{{
		Pos:   at(t, "8:1"),
		Parts: map[string]source.Pos{"protocol": at(t, "8:7"), "scheduler": at(t, "8:22")},
		Servers: []ServerPlaces{{
			Pos:   at(t, "3:1"),
			Parts: map[string]source.Pos{"forwarding": at(t, "3:36"), "weight": at(t, "3:42"), "thresholds": at(t, "3:47")},
			Named: netip.MustParseAddrPort("10.0.0.2:8080"),
		}, {
			Pos:   at(t, "9:1"),
			Parts: map[string]source.Pos{"forwarding": at(t, "9:31"), "weight": at(t, "9:37")},
			Named: netip.MustParseAddrPort("10.0.0.3:80"),
		}},
	}, {
		Pos: at(t, "6:1"), Parts: map[string]source.Pos{"protocol": at(t, "6:7")},
	}}
	opts := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, f.Places, opts); diff != "" {
		t.Errorf("places, -wanted +found:\n%s", diff)
	}
	others := []OtherRule{
		{at(t, "5:1"), "--set 900 120 300", "sets the timeouts of all connections"},
		{at(t, "11:1"), "-Z -f 1", "sets counters to zero"},
		{at(t, "12:1"), "--start-daemon master --mcast-interface eth0", "starts a synchronisation daemon"},
		{at(t, "13:1"), "-L -n", "lists the table"},
	}
	if diff := cmp.Diff(others, f.Others); diff != "" {
		t.Errorf("others, -wanted +found:\n%s", diff)
	}
	if len(f.Table) != 2 || f.Table[0].Scheduler != "wrr" || f.Table[0].Destinations[1].Weight != 5 {
		t.Errorf("table %+v", f.Table)
	}
}

func TestReadRulesMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"-A -f 1\n-A -f 1 -s rr":                              "f:2:7: there is a virtual service fwmark 1 already, added at f:1",
		"-A -f 1\n-a -f 1 -r 10.0.0.1\n\n-a -f 1 -r 10.0.0.1": "f:4:12: fwmark 1 has a real server 10.0.0.1:0 already, added at f:2",
		"-A -t $VIP:80":                                       `f:1:7: "$VIP:80": rules are no shell script, and nothing in them is expanded; run the script, and save what it made with ipvsadm -S -n`,
		"-A -t `cat vip`:80":                                  "f:1:7: \"`cat\": rules are no shell script, and nothing in them is expanded; run the script, and save what it made with ipvsadm -S -n",
		"/usr/sbin/ipvsadm -C":                                `f:1:1: "/usr/sbin/ipvsadm": ipvsadm -R takes the word ipvsadm before a rule, and no path`,
		"--set 900 120":                                       "f:1:1: timeouts are three numbers of seconds, of TCP, of TCP after a FIN, and of UDP; found 2",
		"-Z -f 2":                                             "f:1:7: there is no virtual service fwmark 2",
		"-Z -s rr":                                            "f:1:4: -s does not go with the command -Z",
		"-R":                                                  "f:1:1: -R restores; it is no part of a table, leave it out",
		"--start-daemon primary":                              "master or backup",
		"-A -t 10.0.0.1:80 # here":                            "f:1:19: a comment must be a line of its own that begins with #; ipvsadm takes one at the end of a rule for an argument",
		"-A -t lb.example.net:http":                           "f:1:7: \"lb.example.net\" is no IP address; names are not looked up, so save with `ipvsadm -S -n`",
		"-A -t 10.0.0.1:80 -s rr\n-":                          `f:2:1: a rule begins with its command, one of -A -E -D -C -a -e -d; found "-"`,
	} {
		_, err := ReadRules("f", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v\nwanted\n%s", text, err, want)
		}
	}
}

// TestIndexFinds: a table that is made by an index is the one made by searching,
// and each of its parts has a place.
func TestIndexFinds(t *testing.T) {
	searched := &builder{}
	placed := &placer{builder: builder{index: newIndex()}}
	g := &lineGen{Rand: rand.New(rand.NewPCG(1, 5)), model: searched}
	taken := 0
	for n := range 20000 {
		words := split(g.line())
		if len(words) > 0 && words[0].text == "ipvsadm" {
			words = words[1:]
		}
		if len(words) == 0 || strings.HasPrefix(words[0].text, "#") || strings.Contains(words[0].text, "C") && !g.one(10) {
			continue
		}
		r, err := parseRule(words)
		if err == nil {
			err = searched.apply(r)
		}
		perr := placed.rule(words, source.Pos{File: "f", Line: n + 1})
		if (err == nil) != (perr == nil) {
			t.Fatalf("line %d, %v: %v by searching, %v by the index", n+1, words, err, perr)
		}
		if err != nil {
			if !strings.HasPrefix(perr.msg, err.msg) {
				t.Fatalf("line %d: %q by searching, %q by the index", n+1, err.msg, perr.msg)
			}
			continue
		}
		taken++
		if a, b := FormatRules(searched.table), FormatRules(placed.table); a != b {
			t.Fatalf("line %d, %v:\n%s\nby searching, by the index\n%s", n+1, words, a, b)
		}
		if len(placed.places) != len(placed.table) {
			t.Fatalf("line %d: %d entries and %d places", n+1, len(placed.table), len(placed.places))
		}
		for i, e := range placed.table {
			if len(e.Destinations) != len(placed.places[i].Servers) {
				t.Fatalf("line %d: %s has %d real servers and %d places", n+1, e.Name(), len(e.Destinations), len(placed.places[i].Servers))
			}
		}
	}
	if taken < 2000 {
		t.Errorf("only %d lines were taken", taken)
	}
}

// A container may have no list of services.
func TestUsualPort(t *testing.T) {
	for name, want := range map[string]int{"tcp/http": 80, "udp/domain": 53, "tcp/mysql": 3306, "udp/mysql": 0, "sctp/amqp": 5672, "tcp/": 0} {
		network, service, _ := strings.Cut(name, "/")
		if got := usualPort(network, service); got != want {
			t.Errorf("%s: %d, wanted %d", name, got, want)
		}
	}
}
