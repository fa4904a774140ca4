package assert

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

const listOfRules = `table:
  node: director
  service: web
  rules:
  - -A -t 10.0.0.100:80 -s rr -p 300
  - -a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 1 -x 10
  - ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.3:80 -i -w 2`

// TestTableNamesTheRule changes one thing of a table after the other: what is
// said names the thing, and the place is the rule's.
func TestTableNamesTheRule(t *testing.T) {
	decoded, err := decode(t, listOfRules)
	if err != nil {
		t.Fatal(err)
	}
	check := decoded.(*table)
	addr := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		change func(e *ipvs.Entry)
		line   int
		want   []string
	}{
		"nothing":   {func(*ipvs.Entry) {}, 0, nil},
		"weight":    {func(e *ipvs.Entry) { e.Destinations[0].Weight = 3 }, 6, []string{"the weight of 10.0.0.2:80 is 3, wanted 1"}},
		"method":    {func(e *ipvs.Entry) { e.Destinations[1].Forward = ipvs.DR }, 7, []string{"the method of 10.0.0.3:80 is dr, wanted tun"}},
		"tunnel":    {func(e *ipvs.Entry) { e.Destinations[1].TunType = ipvs.GRE }, 7, []string{"the tunnel of 10.0.0.3:80 is --tun-type gre --tun-nocsum, wanted --tun-type ipip"}},
		"threshold": {func(e *ipvs.Entry) { e.Destinations[0].Upper = 0 }, 6, []string{"the upper threshold of 10.0.0.2:80 is none, wanted 10"}},
		"lower":     {func(e *ipvs.Entry) { e.Destinations[0].Lower = 5 }, 6, []string{"the lower threshold of 10.0.0.2:80 is 5, wanted none"}},
		"removed":   {func(e *ipvs.Entry) { e.Destinations = e.Destinations[:1] }, 7, []string{"10.0.0.3:80 is not among its real servers"}},
		"added": {func(e *ipvs.Entry) {
			e.Destinations = append(e.Destinations, ipvs.Destination{Addr: addr("10.0.0.4:80"), Weight: 1})
		}, 5, []string{"there is 10.0.0.4:80 -g -w 1, which is not wanted"}},
		"address":      {func(e *ipvs.Entry) { e.Destinations[1].Addr = addr("10.0.0.9:80") }, 7, []string{"10.0.0.3:80 is not among its real servers", "there is 10.0.0.9:80 -i -w 2, which is not wanted"}},
		"scheduler":    {func(e *ipvs.Entry) { e.Scheduler = "wrr" }, 5, []string{"the scheduler is wrr, wanted rr"}},
		"flags":        {func(e *ipvs.Entry) { e.Flags = []string{"flag-1"} }, 5, []string{"the scheduler's flags are flag-1, wanted none"}},
		"persistence":  {func(e *ipvs.Entry) { e.Timeout = 0 }, 5, []string{"the persistence is none, wanted 300 s"}},
		"netmask":      {func(e *ipvs.Entry) { e.Netmask = 24 }, 5, []string{"the netmask of persistence is /24, wanted /32"}},
		"one packet":   {func(e *ipvs.Entry) { e.OnePacket = true }, 5, []string{"one-packet scheduling is on, wanted off"}},
		"engine":       {func(e *ipvs.Entry) { e.PE = "sip" }, 5, []string{"the persistence engine is sip, wanted none"}},
		"service gone": {func(e *ipvs.Entry) { e.Addr = addr("10.0.0.101:80") }, 5, []string{"there is no service tcp 10.0.0.100:80"}},
	} {
		have := check.rules.Clone()
		c.change(&have[0])
		list := check.differences(have)
		var seen []string
		for _, x := range list {
			seen = append(seen, x.seen)
		}
		if strings.Join(seen, "; ") != strings.Join(c.want, "; ") {
			t.Errorf("%s: seen %q, want %q", name, seen, c.want)
		} else if len(list) > 0 && list[0].at.Line != c.line {
			t.Errorf("%s: at line %d, want %d", name, list[0].at.Line, c.line)
		}
	}
}

func TestTableErrors(t *testing.T) {
	for text, want := range map[string]string{
		"table: {node: a, rules: [-A -t 1.2.3.4:80, -a -t 1.2.3.4:80 -r 1.2.3.5 -w x]}":              `f:1:44: weight "x" is not a number`,
		"table: {node: a, rules: [-A -t 1.2.3.4:80, -A -t 1.2.3.4:81, -a -t 1.2.3.4:80 -r 1.2.3.5]}": "f:1:8: rules: in a list, each service (-A) is followed by its real servers (-a), and nothing else stands there",
		"table: {node: a, rules: [-A -t 1.2.3.4:80, -E -t 1.2.3.4:80 -s rr]}":                        "f:1:8: rules: in a list, each service (-A) is followed by its real servers (-a), and nothing else stands there",
		"table: {node: a, service: web, rules: [-A -t 1.2.3.4:80, -A -t 1.2.3.4:81]}":                "f:1:8: the rules are those of one service, web, so they add one service (-A); found 2",
		"table: {node: a, service: web, rules: []}":                                                  "f:1:8: the rules are those of one service, web, so they add one service (-A); found 0",
		"table: {node: a, rules: [\"-A -t 1.2.3.4:80\\n-A -t 1.2.3.4:81\"]}":                         "f:1:26: wanted one rule, found several lines",
		"answers: {}":                        "f:1:10: answers names no server, as in {web1: 3, web2: 1}",
		"answers: {a: some}":                 `f:1:14: wanted a condition such as ">0", "=4" or "<2", found "some"`,
		"answers: {a: 4..2}":                 `f:1:14: wanted a range such as "10..14", found "4..2"`,
		"sticky: {by: client, netmask: 24}":  "f:1:9: netmask: networks are those of source addresses, so it goes with by: source",
		"sticky: {by: source, netmask: 129}": "f:1:9: netmask is from 1 to 32, or to 128 for IPv6, found 129",
	} {
		if _, err := decode(t, text); err == nil || err.Error() != want {
			t.Errorf("%s:\n  %v\nwant\n  %s", text, err, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	replies := func(words string) Env {
		var out Outcomes
		for i, w := range strings.Fields(words) {
			r := Reply{Result: OK, Server: w, Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 2), byte(i)}), 1)}
			if w == "refused" {
				r.Result, r.Server = Refused, ""
			}
			out.Replies = append(out.Replies, r)
		}
		return fakeEnv{out: out}
	}
	for _, c := range []struct{ check, replies, seen string }{
		{"answers: {web1: 2, web2: 1}", "web1 web2 web1", ""},
		{"answers: {web1: 2, web2: 1}", "web1 web2 web2", "web1 1, web2 2"},
		{"answers: {web1: 2}", "web1 web1 web2", "web1 2, web2 1"},
		{"answers: {web1: 2, web2: 0}", "web1 web1", ""},
		{"answers: {web1: 2, web2: 1}", "web1 refused web1", "web1 refused web1"},
		{"answers: {web1: 1..2, web2: \">0\"}", "web1 web2 web1", ""},
		{"answers: {web1: 1..2, web2: \">0\"}", "web1 web1 web1 web2", "web1 3, web2 1"},
		{"sticky: {by: source, netmask: 24}", "web1 web2 web1 web2", ""},
		{"sticky: {by: source, netmask: 16}", "web1 web2 web1 web2", "10.0.0.0/16 by web1, web2 (of 1)"},
	} {
		r := judgeOnce(t, c.check, replies(c.replies))
		if r.Pass != (c.seen == "") || !r.Pass && r.Seen != c.seen {
			t.Errorf("%s of %s: pass %v, seen %q, want %q", c.check, c.replies, r.Pass, r.Seen, c.seen)
		}
	}
}
