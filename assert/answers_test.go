package assert

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology/capture"
)

func TestAnswerErrors(t *testing.T) {
	for text, want := range map[string]string{
		"sequence: []":                                "f:1:11: sequence needs from 1 to 10000 answers, found 0",
		"sequence: [[a]]":                             "f:1:12: wanted text, found a list",
		"sequence: ×3":                                `f:1:11: sequence: "×3" names no server; wanted names such as "web2 web1 ×3"`,
		"sequence: a ×0":                              `f:1:11: sequence: "×0": wanted how often after the sign, from 1 to 10000, as in "web1 web2 ×3"`,
		"sequence: a ×many":                           `f:1:11: sequence: "×many": wanted how often after the sign, from 1 to 10000, as in "web1 web2 ×3"`,
		"sequence: a ×2 b":                            `f:1:11: sequence: "×2" stands at the end of a phrase; make a list of several, as in ["web1 ×3", "web2 ×2"]`,
		"sequence: a b c ×5000":                       `f:1:11: sequence: "a b c ×5000" is more than 10000 answers`,
		"sequence: [a ×9000, b ×9000]":                "f:1:11: sequence needs from 1 to 10000 answers, found 18000",
		"distribution: {a: 1}":                        "f:1:15: distribution needs at least two servers with a weight above 0; for one there is only:",
		"distribution: {a: 1, b: 0}":                  "f:1:15: distribution needs at least two servers with a weight above 0; for one there is only:",
		"distribution: {a: 1, b: -1}":                 "f:1:15: distribution needs at least two servers with a weight above 0; for one there is only:\nf:1:25: a weight is from 0 to 65535; found -1",
		"distribution: {a: 1, b: 1, significance: 0}": "f:1:42: significance is how often a kernel that does right may fail, from 1e-9 to 0.1; found 0",
		"distribution: {a: 1, b: 1, significance: 1}": "f:1:42: significance is how often a kernel that does right may fail, from 1e-9 to 0.1; found 1",
		"results: {}":                                 "f:1:10: results names no result, as in {ok: 4, refused: 2}",
		"results: {okay: 1}":                          "f:1:10: results names no result, as in {ok: 4, refused: 2}\nf:1:11: unknown result \"okay\", did you mean \"ok\"? Allowed: ok, timeout, refused, reset, unreachable",
		"results: {ok: some}":                         `f:1:15: wanted a condition such as ">0", "=4" or "<2", found "some"`,
		"order: any":                                  `f:1:8: unknown order "any"; Allowed: random`,
		"bodies: alike":                               `f:1:9: unknown word "alike"; Allowed: same`,
		"sticky: {servers: 2}":                        `f:1:9: key "by" is missing`,
		"sticky: {by: clients}":                       `f:1:9: unknown grouping "clients", did you mean "client"? Allowed: client, source, connection, service`,
		"sticky: {by: client, servers: two}":          `f:1:9: servers: wanted a condition such as ">0", "=4" or "<2", found "two"`,
	} {
		if _, err := decode(t, text); err == nil || err.Error() != want {
			t.Errorf("%s:\n  %v\nwant\n  %s", text, err, want)
		}
	}
}

// from are answers to several sources: "10.0.0.1:1001=a".
func from(words string) fakeEnv {
	var e fakeEnv
	for w := range strings.FieldsSeq(words) {
		local, server, _ := strings.Cut(w, "=")
		ap, err := netip.ParseAddrPort(local)
		if err != nil {
			panic(err)
		}
		e.out.Replies = append(e.out.Replies, Reply{
			From: "client" + ap.Addr().String()[7:], To: "10.0.0.100:80", Result: OK, Server: server, Local: ap, Protocol: "tcp",
		})
	}
	return e
}

func TestAnswerChecks(t *testing.T) {
	const (
		seq  = "the answers come from c, b, a ×2, in this order"
		dist = "answers distributed as the weights a 3, b 1 (chi-square test; one run in 1000 fails by chance)"
		src  = "each source address is answered by one server alone, and all of them by >1 servers"
	)
	for _, c := range []struct {
		check        string
		env          fakeEnv
		pass         bool
		wanted, seen string
	}{
		{"sequence: c b a a", answers("c b a a"), true, seq, "c b a a"},
		{"sequence: [c, b, a *2]", answers("c b a a"), true, seq, "c b a a"},
		{"sequence: c b a a", answers("b a a c"), false, seq, "b, a ×2, c: number 1 is b, not c"},
		{"sequence: c b a a", answers("c b a"), false, seq, "c, b, a: 3 answers, not 4"},
		{"sequence: c b a a", answers("c b a timeout"), false, seq, "c, b, a, timeout: number 4 is timeout, not a"},
		{"sequence: b a ×2", answers("b a b a"), true, "the answers come from b, a, b, a, in this order", "b a b a"},
		{"sequence: [a ×2, refused]", answers("a a refused"), true, "the answers come from a ×2, refused, in this order", "a a refused"},
		{"sequence: [a ×2, refused]", answers("a a a"), false, "the answers come from a ×2, refused, in this order", "a ×3: number 3 is a, not refused"},
		{"sequence: a", fakeEnv{}, false, "the answers come from a, in this order", errNoStimulus.Error()},
		{"sequence: a b ×20", answers(strings.Repeat("b a ", 20)), false, "the answers come from " + strings.Repeat("a, b, ", 12) + "… (40 in all), in this order", strings.Repeat("b, a, ", 12) + "… (40 in all): number 1 is b, not a"},

		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a a b a ", 10)), true, dist, "30× a where 30 are expected, 10× b where 10 are expected: χ² = 0.00, 1 degree of freedom, p = 1.000"},
		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a b ", 10)), true, dist, "10× a where 15 are expected, 10× b where 5 are expected: χ² = 6.67, 1 degree of freedom, p = 0.010"},
		{"distribution: {a: 3, b: 1, significance: 0.05}", answers(strings.Repeat("a b ", 10)), false, "answers distributed as the weights a 3, b 1 (chi-square test; one run in 20 fails by chance)", "10× a where 15 are expected, 10× b where 5 are expected: χ² = 6.67, 1 degree of freedom, p = 0.010"},
		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a b ", 30)), false, dist, "30× a where 45 are expected, 30× b where 15 are expected: χ² = 20.00, 1 degree of freedom, p = 8e-06"},
		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a ", 60)), false, dist, "60× a where 45 are expected, 0× b where 15 are expected: χ² = 20.00, 1 degree of freedom, p = 8e-06"},
		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a a a b ", 4) + "a a a"), false, dist, "19 answers are too few to tell: the test needs 20, so that each server is expected 5 times"},
		{"distribution: {a: 1, b: 1, c: 0}", answers(strings.Repeat("a b ", 5)), true, "answers distributed as the weights a 1, b 1, c 0 (chi-square test; one run in 1000 fails by chance)", "5× a where 5 are expected, 5× b where 5 are expected: χ² = 0.00, 1 degree of freedom, p = 1.000"},
		{"distribution: {a: 1, b: 1, c: 0}", answers(strings.Repeat("a b ", 5) + "c"), false, "answers distributed as the weights a 1, b 1, c 0 (chi-square test; one run in 1000 fails by chance)", "a b a b a b a b a b c: c answered, whose weight is 0"},
		{"distribution: {a: 3, b: 1}", answers(strings.Repeat("a d ", 9)), false, dist, "9× a, 9× d: d answered, which is not among the servers"},
		{"distribution: {a: 3, b: 1}", answers("a b timeout"), false, dist, "a b timeout"},
		{"distribution: {a: 3, b: 1}", fakeEnv{}, false, dist, errNoStimulus.Error()},

		{"order: random", answers(strings.Repeat("a a b a ", 15)), false, "the answers come in a random order, which follows no period", "a ×2, b, a, again and again"},
		{"order: random", answers(strings.Repeat("a ", 60)), false, "the answers come in a random order, which follows no period", "a, again and again"},
		{"order: random", answers(strings.Repeat("a b ", 29) + "a a"), true, "the answers come in a random order, which follows no period", "31× a, 29× b"},
		{"order: random", answers(strings.Repeat("a b ", 29)), false, "the answers come in a random order, which follows no period", "58 answers are too few to tell; it takes 60"},
		{"order: random", answers("a timeout"), false, "the answers come in a random order, which follows no period", "a timeout"},

		{"results: {ok: 2, refused: 1}", answers("a refused b"), true, "the requests end as: ok 2, refused 1, and in no other way", "a refused b"},
		{"results: {ok: 2, refused: 1}", answers("a refused b refused"), false, "the requests end as: ok 2, refused 1, and in no other way", "ok 2, refused 2"},
		{"results: {ok: 2}", answers("a b timeout"), false, "the requests end as: ok 2, and in no other way", "ok 2, timeout 1"},
		{`results: {ok: ">0", reset: ">0"}`, answers("a b reset"), true, "the requests end as: ok >0, reset >0, and in no other way", "a b reset"},

		{"bodies: same", answers("a a"), true, "all bodies are the same, byte for byte", "2× a"},
		{"bodies: same", answers("a b"), false, "all bodies are the same, byte for byte", `a sent "a", b sent "b"`},
		{"bodies: same", answers("a"), false, "all bodies are the same, byte for byte", "only one request; it takes two bodies to compare"},
		{"bodies: same", answers("a timeout"), false, "all bodies are the same, byte for byte", "a timeout"},
		{"bodies: same", from("10.0.0.1:1=a 10.0.0.1:2=a"), false, "all bodies are the same, byte for byte", "answer 1 of a has no body"},

		{`sticky: {by: source, servers: ">1"}`, from("10.0.0.1:1=a 10.0.0.2:1=b 10.0.0.1:2=a"), true, src, "a b a"},
		{`sticky: {by: source, servers: ">1"}`, from("10.0.0.1:1=a 10.0.0.2:1=b 10.0.0.1:2=b"), false, src, "10.0.0.1 by a, b (of 2)"},
		{`sticky: {by: source, servers: ">1"}`, from("10.0.0.1:1=a 10.0.0.2:1=a 10.0.0.1:2=a"), false, src, "2 in all, by a"},
		{`sticky: {by: source, servers: ">1"}`, from("10.0.0.1:1=a 10.0.0.2:1=b"), false, src, "no source address asked twice, so nothing is known"},
		{`sticky: {by: source, servers: ">1"}`, answers("a a"), false, src, "the source address of request 1 is not known"},
		{`sticky: {by: source, servers: ">1"}`, answers("a timeout"), false, src, "a timeout"},
		{"sticky: {by: connection}", from("10.0.0.1:1=a 10.0.0.1:2=b 10.0.0.1:1=a"), true, "each source address and port is answered by one server alone", "a b a"},
		{"sticky: {by: connection}", from("10.0.0.1:1=a 10.0.0.1:2=b 10.0.0.1:1=b"), false, "each source address and port is answered by one server alone", "10.0.0.1:1 by a, b (of 2)"},
		{"sticky: {by: client, servers: 2}", from("10.0.0.1:1=a 10.0.0.2:2=b 10.0.0.2:1=b"), true, "each client is answered by one server alone, and all of them by 2 servers", "a b b"},
		{"sticky: {by: client, servers: 1}", from("10.0.0.1:1=a 10.0.0.2:2=b 10.0.0.2:1=b"), false, "each client is answered by one server alone, and all of them by 1 servers", "2 in all, by a, b"},
		{"sticky: {by: service}", from("10.0.0.1:1=a 10.0.0.2:2=b"), false, "each service is answered by one server alone", "10.0.0.100:80 by a, b (of 1)"},
	} {
		r := judgeOnce(t, c.check, c.env)
		if r.Pass != c.pass || r.Wanted != c.wanted || r.Seen != c.seen {
			t.Errorf("%s of %d answers: pass %v\n  wanted %q\n  want   %q\n  seen %q\n  want %q", c.check, len(c.env.out.Replies), r.Pass, r.Wanted, c.wanted, r.Seen, c.seen)
		}
	}
}

// TestDistributionErrorRate draws from the wanted weights and from others: the
// first fail as rarely as the significance says, the second nearly always.
func TestDistributionErrorRate(t *testing.T) {
	c, err := decode(t, "distribution: {a: 3, b: 2, c: 1, significance: 0.05}")
	if err != nil {
		t.Fatal(err)
	}
	const runs, asked = 4000, 300
	random := rand.New(rand.NewPCG(1, 2))
	fails := func(weights []int) (n int) {
		var names []string
		for i, w := range weights {
			for range w {
				names = append(names, string(rune('a'+i)))
			}
		}
		for range runs {
			rs := make([]Reply, asked)
			for i := range rs {
				rs[i] = Reply{Result: OK, Server: names[random.IntN(len(names))]}
			}
			if _, pass := c.(*distribution).test(rs); !pass {
				n++
			}
		}
		return n
	}
	// Three standard deviations of a binomial about 5 percent; the seed is
	// fixed, so this is no matter of luck.
	if n, dev := fails([]int{3, 2, 1}), math.Sqrt(runs*0.05*0.95); math.Abs(float64(n)-runs*0.05) > 3*dev {
		t.Errorf("%d of %d runs with the wanted weights fail, wanted about %v", n, runs, runs*0.05)
	}
	if n := fails([]int{1, 1, 1}); n < runs*99/100 {
		t.Errorf("only %d of %d runs with equal weights fail", n, runs)
	}
}

func FuzzSequence(f *testing.F) {
	for _, s := range []string{"a", "a b ×3", "a *2", "×", "a ×9999999999999999999", " ", "a ×2 ×3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words, err := parseSequence(text)
		if (err == nil) != (len(words) > 0) || len(words) > maxSequence {
			t.Errorf("%q: %d words, %v", text, len(words), err)
		}
	})
}

// TestLocals: what an earlier step's connection still sends belongs to no
// request of this one.
func TestLocals(t *testing.T) {
	to := netip.MustParseAddrPort("10.0.0.100:80")
	reply := func(from, local string) Reply {
		r := Reply{From: from, To: to.String()}
		if local != "" {
			r.Local = netip.MustParseAddrPort(local)
		}
		return r
	}
	got := locals([]Reply{reply("c1", "10.0.0.1:1000"), reply("c1", "10.0.0.1:1001"), reply("c2", "10.0.0.2:1000"), reply("c2", "")})
	want := map[target]map[uint16]bool{{"c1", to}: {1000: true, 1001: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	packet := func(from string) chain {
		return chain{&sighting{node: "c1", out: true, h: capture.Headers{Tuple: capture.Tuple{
			Protocol: capture.ProtocolTCP, Src: netip.MustParseAddrPort(from), Dst: to,
		}}}}
	}
	list := flows([]chain{packet("10.0.0.1:999"), packet("10.0.0.1:1000"), packet("10.0.0.1:1000")}, []target{{"c1", to}}, got)
	if len(list) != 1 || list[0].tuple.Src.Port() != 1000 || len(list[0].request) != 2 {
		t.Errorf("%d flows, want that of port 1000 alone", len(list))
	}
}
