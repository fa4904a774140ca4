package assert

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// fakeEnv has outcomes and names, and no kernel.
type fakeEnv struct {
	Env
	out   Outcomes
	files map[string]string
}

func (e fakeEnv) Outcomes() Outcomes { return e.out }
func (e fakeEnv) Resolve(name string) (netip.Addr, error) {
	if name == "client" {
		return netip.MustParseAddr("10.0.0.250"), nil
	}
	return netip.ParseAddr(name)
}

func (e fakeEnv) Owner(net.HardwareAddr) (topology.NetAddr, bool) { return topology.NetAddr{}, false }

func (e fakeEnv) ReadFile(node, path string) ([]byte, error) {
	text, ok := e.files[path]
	if !ok {
		return nil, &net.AddrError{Err: "unused"}
	}
	return []byte(text), nil
}

func decode(t testing.TB, text string) (Check, error) {
	t.Helper()
	docs, err := source.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &source.Decoder{File: "f"}
	c := Decode(d, docs[0])
	if (c == nil) != (len(d.Errs) > 0) {
		t.Errorf("%q: check %v with errors %v", text, c, d.Errs)
	}
	return c, d.Errs.Err()
}

func TestDecodeErrors(t *testing.T) {
	kinds := strings.Join(Kinds(), ", ")
	for text, want := range map[string]string{
		"[a]":                                    "f:1:1: wanted one expectation (name: value), found a list",
		"rotation":                               `f:1:1: expectation "rotation" needs a value`,
		"{only: a, result: ok}":                  `f:1:11: one expectation a list item: "result" is a second one; begin it with a dash`,
		"rotate: [a, b]":                         `f:1:1: unknown expectation "rotate", did you mean "route"? Allowed: ` + kinds,
		"rotation: a":                            "f:1:11: rotation needs at least two servers; for one there is only:",
		"only: [a, b]":                           "f:1:7: wanted the name of a node, found a list",
		"result: okay":                           `f:1:9: unknown result "okay", did you mean "ok"? Allowed: ok, timeout, refused, reset, unreachable`,
		"status: 99":                             "f:1:9: an HTTP status is from 100 to 599",
		"status: twohundred":                     "f:1:9: wanted a whole number, found \"twohundred\"\nf:1:9: an HTTP status is from 100 to 599",
		"body: \"(\"":                            "f:1:7: body: error parsing regexp: missing closing ): `(`",
		"shares: {a: 50, b: 50}":                 "f:1:9: shares needs a tolerance, in percentage points",
		"shares: {a: 50, b: 40, tolerance: 5}":   "f:1:9: shares add up to 90 percent, not 100",
		"shares: {a: 150, b: -50, tolerance: 5}": "f:1:13: a share is from 0 to 100 percent; found 150\nf:1:21: a share is from 0 to 100 percent; found -50",
		"shares: {a: .nan, b: 100, tolerance: 5}":                  `f:1:13: wanted a number, found ".nan"`,
		"shares: {a: 50, b: 50, tolerance: NaN}":                   `f:1:35: wanted a number, found "NaN"`,
		"shares: {a: 50, b: 50, tolerance: 50}":                    "f:1:35: tolerance is in percentage points, from 0 to below 50; found 50",
		"arp_owner: {address: a, is: b}":                           `f:1:12: key "at" is missing`,
		"arp_requests: {from: [], sender: own, at: a}":             "f:1:15: arp_requests needs a node in from:",
		"neighbour: {node: a, address: b}":                         "f:1:12: neighbour needs one of is: (the node whose MAC address the entry holds) and state:",
		"neighbour: {node: a, address: b, is: c, state: stale}":    "f:1:12: neighbour needs one of is: (the node whose MAC address the entry holds) and state:",
		"neighbour: {node: a, address: b, state: stael}":           `f:1:12: unknown neighbour state "stael", did you mean "stale"? Allowed: failed, incomplete, none, permanent, reachable, stale, unresolved`,
		"addresses: {node: a}":                                     "f:1:12: addresses needs has: or lacks:",
		"table: {node: a}":                                         `f:1:8: key "rules" is missing`,
		"table: {node: a, rules: \"-a -t 1.2.3.4:80 -r 1.2.3.5\"}": "f:1:8: rules, line 1: there is no virtual service tcp 1.2.3.4:80; add it before with -A",
		"table: {rules: \"\"}":                                     `f:1:8: key "node" is missing`,
		"counter: {IpInReceives: 1}":                               "f:1:10: counter needs nodes:",
		"counter: {node: a}":                                       "f:1:10: counter names no counter, as in IPReversePathFilter: \">0\"",
		"counter: {node: a, X: many}":                              `f:1:23: wanted a condition such as ">0", "=4" or "<2", found "many"`,
		"counter: {node: a, ipvs.conn: 1}":                         `f:1:20: unknown counter "ipvs.conn", did you mean "ipvs.conns"? Allowed: ipvs.conns, ipvs.inpkts, ipvs.outpkts, ipvs.inbytes, ipvs.outbytes`,
		"route: {node: a, get: b}":                                 "f:1:8: route needs dev:, via: or src:, or else unreachable: true",
		"route: {node: a, get: b, dev: c, unreachable: true}":      "f:1:8: route needs dev:, via: or src:, or else unreachable: true",
		"routes: {node: a, to: 10.0.0.0, dev: eth0}":               `f:1:23: wanted an address with its prefix length such as 10.0.0.1/24, found "10.0.0.0"`,
		"routes: {node: a, to: \"fd00::/8\", dev: eth0}":           "f:1:9: to: fd00::/8: only IPv4 routes are known yet",
		"output: {}":                                         "f:1:9: output needs exit:, matches: or lacks:",
		"output: {matches: \"[\"}":                           "f:1:9: matches: error parsing regexp: missing closing ]: `[`",
		"file: {node: a, path: /x}":                          "f:1:7: file needs lines:, is: or matches:, or else missing: true",
		"file: {node: a, path: x, missing: true}":            `f:1:7: path: "x" does not begin with /`,
		"file: {node: a, path: /x, missing: true, lines: 1}": "f:1:7: file needs lines:, is: or matches:, or else missing: true",
	} {
		if _, err := decode(t, text); err == nil || err.Error() != want {
			t.Errorf("%s:\n  %v\nwant\n  %s", text, err, want)
		}
	}
}

// judgeOnce is what a check says of outcomes.
func judgeOnce(t *testing.T, text string, env Env) Result {
	t.Helper()
	c, err := decode(t, text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Begin(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, _ := p.Judge(context.Background())
	if !r.Pass && len(r.Evidence) == 0 && r.Untold == nil && r.Seen != errNoStimulus.Error() && !strings.Contains(r.Seen, "no command") {
		t.Errorf("%s: failed without evidence", text)
	}
	if r.Wanted == "" || r.Seen == "" || strings.HasSuffix(r.Wanted, ".") || strings.HasSuffix(r.Seen, ".") {
		t.Errorf("%s: wanted %q, seen %q", text, r.Wanted, r.Seen)
	}
	return r
}

// answers are replies by the servers, or with the results, that are named.
func answers(words string) fakeEnv {
	var e fakeEnv
	for w := range strings.FieldsSeq(words) {
		r := Reply{From: "client", To: "10.0.0.100:80", Result: OK, Server: w, Peer: netip.MustParseAddr("10.0.0.250"), Status: 200, Body: w, Elapsed: time.Millisecond}
		switch w {
		case Timeout, Refused, Reset, Unreachable:
			r = Reply{From: "client", To: "10.0.0.100:80", Result: w, Elapsed: time.Second}
		case "ping":
			r = Reply{From: "client", To: "10.0.0.2", Result: OK}
		}
		e.out.Replies = append(e.out.Replies, r)
	}
	return e
}

func TestRequestChecks(t *testing.T) {
	for _, c := range []struct {
		check, answers string
		pass           bool
		wanted, seen   string
	}{
		{"rotation: [a, b]", "a b a b", true, "the servers answer in turn: a, b", "a b a b"},
		{"rotation: [a, b]", "b a b a", true, "the servers answer in turn: a, b", "b a b a"},
		{"rotation: [a, b]", "a b b a", false, "the servers answer in turn: a, b", "a b b a"},
		{"rotation: [a, b]", "a a a a", false, "the servers answer in turn: a, b", "4× a"},
		{"rotation: [a, b]", "a b timeout b", false, "the servers answer in turn: a, b", "a b timeout b"},
		{"rotation: [a, b]", "a b", false, "the servers answer in turn: a, b", "only 2 requests; a rotation of 2 shows after 4"},
		{"rotation: [a, b]", "", false, "the servers answer in turn: a, b", errNoStimulus.Error()},
		{"rotation: [a, a, b]", "a b a a b a", true, "the servers answer in turn: a, a, b", "a b a a b a"},
		{"rotation: [a, b]", "ping ping ping ping", false, "the servers answer in turn: a, b", "4× ok"},
		{"only: a", "a a", true, "every answer is a's", "2× a"},
		{"only: a", "a b", false, "every answer is a's", "a b"},
		{"only: a", "refused", false, "every answer is a's", "1× refused"},
		{"shares: {a: 75, b: 25, tolerance: 5}", "a a a b", true, "shares of a 75 %, b 25 %, each within 5 points", "a a a b"},
		{"shares: {a: 75, b: 25, tolerance: 5}", "a a b b", false, "shares of a 75 %, b 25 %, each within 5 points", "a a b b"},
		{"shares: {a: 75, b: 25, tolerance: 5}", "a a a c", false, "shares of a 75 %, b 25 %, each within 5 points", "a a a c"},
		{"shares: {a: 100, b: 0, tolerance: 0}", "a a", true, "shares of a 100 %, b 0 %, each within 0 points", "2× a"},
		{"shares: {a: 50, b: 50, tolerance: 10}", strings.Repeat("a b ", 10), true, "shares of a 50 %, b 50 %, each within 10 points", "10× a, 10× b"},
		{"result: ok", "a b ping", true, "every request ends as: ok", "a b ok"},
		{"result: ok", "a timeout", false, "every request ends as: ok", "a timeout"},
		{"result: timeout", "timeout timeout", true, "every request ends as: timeout", "2× timeout"},
		{"result: refused", "reset", false, "every request ends as: refused", "1× reset"},
		{"status: 200", "a", true, "HTTP status 200", "1× a"},
		{"status: 404", "a", false, "HTTP status 404", "HTTP status 200"},
		{"status: 200", "timeout", false, "HTTP status 200", "1× timeout"},
		{"body: ^a$", "a", true, `a body that matches /^a$/`, "1× a"},
		{"body: ^a$", "a b", false, `a body that matches /^a$/`, `body "b"`},
		{"peer: client", "a b", true, "the servers see client as their peer (10.0.0.250)", "a b"},
		{"peer: 10.0.0.1", "a b", false, "the servers see 10.0.0.1 as their peer", "a saw 10.0.0.250"},
	} {
		r := judgeOnce(t, c.check, answers(c.answers))
		if r.Pass != c.pass || r.Wanted != c.wanted || r.Seen != c.seen {
			t.Errorf("%s of %q: %t, wanted %q, seen %q; want %t, %q, %q", c.check, c.answers, r.Pass, r.Wanted, r.Seen, c.pass, c.wanted, c.seen)
		}
	}
}

func TestOutputCheck(t *testing.T) {
	out := func(text string, exit int, note string) fakeEnv {
		return fakeEnv{out: Outcomes{Outputs: []Output{{Node: "a", Command: "true", Text: "old"}, {Node: "a", Command: "ls", Text: text, Exit: exit, Note: note}}}}
	}
	for _, c := range []struct {
		check        string
		env          fakeEnv
		pass         bool
		wanted, seen string
	}{
		{"output: {exit: 0}", out("x\ny", 0, ""), true, "the command exits with 0", "exit 0: x"},
		{"output: {exit: 0}", out("", 2, ""), false, "the command exits with 0", "exit 2"},
		{"output: {exit: 0}", out("", 0, "stopped after 1s"), false, "the command exits with 0", "exit 0 (stopped after 1s)"},
		{"output: {matches: y, lacks: z}", out("x\ny", 1, ""), true, `its output matches /y/, its output does not match /z/`, "exit 1: x"},
		{"output: {matches: old}", out("x", 0, ""), false, `its output matches /old/`, "exit 0: x"},
		{"output: {lacks: x}", out("x", 0, ""), false, `its output does not match /x/`, "exit 0: x"},
		{"output: {exit: 0}", fakeEnv{}, false, "the command exits with 0", "no command ran in this step before this expectation"},
	} {
		if r := judgeOnce(t, c.check, c.env); r.Pass != c.pass || r.Wanted != c.wanted || r.Seen != c.seen {
			t.Errorf("%s: %t, wanted %q, seen %q; want %t, %q, %q", c.check, r.Pass, r.Wanted, r.Seen, c.pass, c.wanted, c.seen)
		}
	}
}

func TestFileCheck(t *testing.T) {
	env := fakeEnv{files: map[string]string{"/empty": "", "/three": "a\nb\nc\n", "/one": "a"}}
	for _, c := range []struct {
		check        string
		pass         bool
		wanted, seen string
	}{
		{"file: {node: n, path: /empty, lines: 0}", true, "n:/empty holds nothing", "nothing"},
		{"file: {node: n, path: /three, lines: 0}", false, "n:/three holds nothing", "3 lines"},
		{"file: {node: n, path: /three, lines: 3, is: \"a\\nb\\nc\\n\"}", true, `n:/three holds 3 lines and holds "a\nb\nc\n"`, `3 lines: "a\nb\nc\n"`},
		{"file: {node: n, path: /three, is: \"a\"}", false, `n:/three holds "a"`, `3 lines: "a\nb\nc\n"`},
		{"file: {node: n, path: /one, lines: 1, matches: b}", false, `n:/one holds 1 line and matches /b/`, `1 line: "a"`},
		{"file: {node: n, path: /one, missing: true}", false, "n:/one does not exist", "it is there and holds 1 line"},
	} {
		if r := judgeOnce(t, c.check, env); r.Pass != c.pass || r.Wanted != c.wanted || r.Seen != c.seen {
			t.Errorf("%s: %t, wanted %q, seen %q; want %t, %q, %q", c.check, r.Pass, r.Wanted, r.Seen, c.pass, c.wanted, c.seen)
		}
	}
}

func TestCondition(t *testing.T) {
	for text, holds := range map[string][3]bool{ // of 3, 4 and 5
		"4": {false, true, false}, "=4": {false, true, false}, "!=4": {true, false, true}, ">4": {false, false, true},
		">=4": {false, true, true}, "<4": {true, false, false}, "<=4": {true, true, false}, "> 4": {false, false, true},
	} {
		c, err := parseCondition(text)
		if err != nil {
			t.Error(err)
		}
		for i, want := range holds {
			if c.holds(uint64(3+i)) != want {
				t.Errorf("%s of %d is %t", text, 3+i, !want)
			}
		}
		if again, err := parseCondition(c.String()); err != nil || again != c {
			t.Errorf("%s is written %s", text, c)
		}
	}
	for _, text := range []string{"", ">", "=>4", "-1", "4.5", "4x", ">>4", "18446744073709551616"} {
		if c, err := parseCondition(text); err == nil {
			t.Errorf("%q is the condition %s", text, c)
		}
	}
}

const (
	snmp = `Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors
Ip: 2 64 41 0 3
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens
Tcp: 1 200 120000 -1 7
`
	netstat = `TcpExt: SyncookiesSent IPReversePathFilter
TcpExt: 0 6
IpExt: InNoRoutes InOctets
IpExt: 1 18446744073709551615
`
)

func TestParseCounters(t *testing.T) {
	all := make(map[string]uint64)
	for _, text := range []string{snmp, netstat} {
		if err := parseCounters(text, all); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]uint64{
		"IpInReceives": 41, "IpInAddrErrors": 3, "TcpActiveOpens": 7, "TcpExtIPReversePathFilter": 6, "IPReversePathFilter": 6, "InNoRoutes": 1, "IpExtInOctets": 1<<64 - 1,
	} {
		if got, err := lookupCounter(all, name); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"IPReversePathFiltre": `this kernel has no counter "IPReversePathFiltre"; the nearest is "IPReversePathFilter" (nstat -az lists them)`,
		"TcpMaxConn":          `this kernel has no counter "TcpMaxConn"; nstat -az lists those that it has`,
		"ipvs.conns":          "no counter ipvs.conns: IPVS is not loaded in this kernel",
	} {
		if _, err := lookupCounter(all, name); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	for _, bad := range []string{"Ip: A\n", "Ip: A B\nIp: 1\n", "Ip: A\nTcp: 1\n", "\n\n"} {
		if err := parseCounters(bad, all); err == nil {
			t.Errorf("%q are counters", bad)
		}
	}
}

func TestGrowth(t *testing.T) {
	for want, c := range map[string][2]uint64{"+0": {4, 4}, "+3": {1, 4}, "-1": {3, 2}, "+18446744073709551615": {0, 1<<64 - 1}} {
		if got := growth(c[0], c[1]); got != want {
			t.Errorf("from %d to %d: %s, want %s", c[0], c[1], got, want)
		}
	}
}

func FuzzParseCounters(f *testing.F) {
	f.Add(snmp)
	f.Add(netstat)
	f.Add("Ip: A\nIp: -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		all := make(map[string]uint64)
		if parseCounters(text, all) != nil {
			return
		}
		for name := range all {
			if _, err := lookupCounter(all, name); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"rotation: [a, b]", "shares: {a: 50, b: 50, tolerance: 5}", "counter: {nodes: [a], ipvs.conns: \">4\"}", "route: {node: a, get: b, dev: c}",
		"table: {node: a, rules: \"-A -t 1.2.3.4:80\"}", "arp_rules: {node: a, rules: [-A INPUT -j DROP]}", "file: {node: a, path: /x, is: \"\"}", "arp_requests: {from: [], sender: own, at: a}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := source.Parse("f", []byte(text))
		if err != nil {
			return
		}
		d := &source.Decoder{File: "f"}
		c := Decode(d, docs[0])
		if (c == nil) != (len(d.Errs) > 0) {
			t.Errorf("check %v with errors %v", c, d.Errs)
		}
		if c == nil {
			return
		}
		_ = c.Refs()
		if c.Kind() == "" || !c.Pos().IsValid() {
			t.Errorf("kind %q at %s", c.Kind(), c.Pos())
		}
		if r, ok := c.(*replies); ok {
			for _, words := range []string{"", "a b a b", "timeout"} {
				p, err := r.Begin(t.Context(), answers(words))
				if err != nil {
					t.Fatal(err)
				}
				if r, _ := p.Judge(t.Context()); r.Wanted == "" || r.Seen == "" {
					t.Errorf("wanted %q, seen %q", r.Wanted, r.Seen)
				}
			}
		}
	})
}
