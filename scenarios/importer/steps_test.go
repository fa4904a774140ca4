package importer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// stepsFor are the steps for ipvsadm rules, or a keepalived.conf.
func stepsFor(t *testing.T, text, managedBy string) []step {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Read(path, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := survey(c, DraftOptions{ManagedBy: managedBy})
	if err != nil {
		t.Fatal(err)
	}
	return w.steps()
}

// texts are a step's entries in one line, each with the line that it comes from;
// rules of a table only by their number.
func (s step) texts() string {
	var out []string
	for _, a := range slices.Concat(s.do, s.expect) {
		text := a.text
		if a.kind == "table" {
			text = fmt.Sprintf("table of %d", strings.Count(text, "\n  - "))
		}
		if a.from.IsValid() {
			text += fmt.Sprintf(" (%d)", a.from.Line)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestSteps holds against what each scheduler and setting asks for: who must
// answer, and which line says so.
func TestSteps(t *testing.T) {
	servers := func(weights ...int) string {
		var b strings.Builder
		for i, w := range weights {
			fmt.Fprintf(&b, "-a -t 10.0.0.100:80 -r 10.0.0.1%d:80 -g -w %d\n", i+1, w)
		}
		return b.String()
	}
	service := "-A -t 10.0.0.100:80 -s "
	for name, c := range map[string]struct{ rules, want string }{
		"rr":                {service + "rr\n" + servers(1, 2, 0), "request: {to: web, count: 4, timeout: 2s}; result: ok (1); rotation: [web2, web1] (1); path: dr (2); table of 4 (1)"},
		"one server":        {service + "rr\n" + servers(1), "request: {to: web, count: 4, timeout: 2s}; result: ok (1); only: web1 (1); path: dr (2); table of 2 (1)"},
		"wrr":               {service + "wrr\n" + servers(30, 10), "request: {to: web, count: 24, timeout: 2s}; result: ok (1); answers: {web1: 18, web2: 6} (1); path: dr (2); table of 3 (1)"},
		"wrr, a long round": {service + "wrr\n" + servers(101, 100), "request: {to: web, count: 20, timeout: 2s}; result: ok (1); answers: {web1: 9..12, web2: 8..11} (1); path: dr (2); table of 3 (1)"},
		"wlc":               {service + "wlc\n" + servers(2, 1), "request: {to: web, count: 15, timeout: 2s}; result: ok (1); answers: {web1: 10, web2: 5} (1); path: dr (2); table of 3 (1)"},
		"lc":                {service + "lc\n" + servers(2, 1), "request: {to: web, count: 4, timeout: 2s}; result: ok (1); answers: {web1: 2, web2: 2} (1); path: dr (2); table of 3 (1)"},
		"sed":               {service + "sed\n" + servers(2, 1), "request: {to: web, count: 3, hold: true, name: all-of-web, timeout: 2s}; release: all-of-web; result: ok (1); answers: {web1: 2, web2: 1} (1); path: dr (2); table of 3 (1)"},
		"fo":                {service + "fo\n" + servers(2, 5, 5), "request: {to: web, count: 3, timeout: 2s}; result: ok (1); only: web3 (4); path: dr (2); table of 4 (1)"},
		"dh":                {service + "dh\n" + servers(2, 1), "request: {to: web, count: 4, timeout: 2s}; result: ok (1); sticky: {by: service, servers: 1} (1); path: dr (2); table of 3 (1)"},
		"dh with weight 0":  {service + "dh\n" + servers(2, 0), `request: {to: web, count: 2, timeout: 2s}; results: {ok: ">=0", refused: ">=0"} (1); table of 3 (1)`},
		"mh-port":           {service + "mh -b mh-port\n" + servers(2, 1), "request: {to: web, count: 4, timeout: 2s}; result: ok (1); path: dr (2); table of 3 (1)"},
		"weight 0":          {service + "rr\n" + servers(0, 0), "request: {to: web, count: 2, timeout: 2s}; result: refused (1); table of 3 (1)"},
		"no server":         {service + "rr\n", "request: {to: web, count: 2, timeout: 2s}; result: refused (1); table of 1 (1)"},
		"a threshold": {
			service + "rr\n" + strings.TrimSpace(servers(1, 1)) + " -x 3\n",
			"request: {to: web, count: 2, timeout: 2s}; result: ok (1); answers: {web1: 1, web2: 1} (1); path: dr (2); table of 3 (1)",
		},
		"engine": {strings.NewReplacer("-t", "-u").Replace(service + "rr -p 5 --pe sip\n" + servers(1, 1)), "table of 3 (1)"},
		"one-packet": {
			strings.NewReplacer("-t", "-u").Replace(service + "rr -o\n" + servers(1, 1)),
			"request: {to: web, count: 4, same_socket: true, timeout: 2s}; result: ok (1); rotation: [web2, web1] (1); path: dr (2); table of 3 (1)",
		},
	} {
		got := stepsFor(t, c.rules, "")[0].texts()
		if got != c.want {
			t.Errorf("%s:\n  %s\nwant\n  %s", name, got, c.want)
		}
	}
}

// TestStepsOfManyServices keeps the number of requests within its bound.
func TestStepsOfManyServices(t *testing.T) {
	for _, n := range []int{1, 13, 100, 500} {
		var b strings.Builder
		for i := range n {
			vip := fmt.Sprintf("10.0.%d.%d:80", i/200, i%200+1)
			fmt.Fprintf(&b, "-A -t %s -s wrr\n", vip)
			for k := range 10 {
				fmt.Fprintf(&b, "-a -t %s -r 10.1.0.%d:8080 -m -w %d\n", vip, k+1, k+1)
			}
		}
		requests, tables, paths := 0, 0, 0
		for _, s := range stepsFor(t, b.String(), "") {
			for _, a := range s.do {
				var count int
				if _, rest, ok := strings.Cut(a.text, "count: "); ok {
					fmt.Sscan(strings.Trim(strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == '}' })[0], " "), &count)
				}
				requests += max(1, count)
			}
			for _, a := range s.expect {
				switch a.kind {
				case "table":
					tables++
				case "path":
					paths++
				}
			}
		}
		if tables != n || paths != min(n, mostFollowed) {
			t.Errorf("%d services: %d tables and %d paths", n, tables, paths)
		}
		if requests > max(mostRequests, 2*allRequests) {
			t.Errorf("%d services: %d requests", n, requests)
		}
	}
}

const sorryConf = `virtual_server 10.0.0.100 80 {
    delay_loop 2
    lb_algo rr
    lb_kind DR
    protocol TCP
    sorry_server 10.0.0.20 80
    real_server 10.0.0.11 80 {
        weight 2
        TCP_CHECK {
        }
    }
    real_server 10.0.0.12 80 {
        inhibit_on_failure
        TCP_CHECK {
        }
    }
}
`

// TestStepsOfSorryServer: with nobody there to find the pool gone, the lab changes
// the service itself; where the real keepalived is, it stops the servers.
func TestStepsOfSorryServer(t *testing.T) {
	for managedBy, want := range map[string][]string{
		"": {
			"change: {virtual_services: {web: {real_servers: [sorry1]}}} (6); request: {to: web, count: 2, timeout: 2s}; only: sorry1 (6); table of 2 (1)",
			`change: {virtual_services: {web: {real_servers: [{node: web1, weight: 2}, web2]}}}; request: {to: web, count: 2, timeout: 2s}; result: ok (1); answers: {web1: ">=0", web2: ">=0"} (1); table of 3 (1)`,
		},
		managedByKeepalived: {
			"stop: {node: web1, service: http} (7); stop: {node: web2, service: http} (12); table of 3 (1)",
			"request: {to: web, count: 2, timeout: 2s}; only: sorry1 (6)",
			"start: {node: web1, service: http}; start: {node: web2, service: http}; table of 3 (1)",
			`request: {to: web, count: 2, timeout: 2s}; result: ok (1); answers: {web1: ">=0", web2: ">=0"} (1); table of 3 (1)`,
		},
	} {
		steps := stepsFor(t, sorryConf, managedBy)[1:]
		if managedBy != "" {
			steps = steps[1:] // the wait for keepalived
		}
		var got []string
		for _, s := range steps {
			got = append(got, s.texts())
		}
		if !slices.Equal(got, want) {
			t.Errorf("managed by %q:\n  %s\nwant\n  %s", managedBy, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	slow := strings.Replace(sorryConf, "delay_loop 2", "delay_loop 60", 1)
	if list := stepsFor(t, slow, managedByKeepalived); len(list) != 2 || !strings.Contains(list[1].comment, "since it looks at them every 1m0s only") {
		t.Errorf("a minute between two checks: %d steps, the last is %+v", len(list), list[len(list)-1])
	}
	blind := strings.Replace(sorryConf, "TCP_CHECK {", "PING_CHECK {", 1)
	if list := stepsFor(t, blind, managedByKeepalived); len(list) != 2 || !strings.Contains(list[1].comment, "no checker of 10.0.0.11:80 looks at what the lab can stop") {
		t.Errorf("a check that a stopped server passes: %d steps, the last is %+v", len(list), list[len(list)-1])
	}
}

// wrrModel is the kernel's wrr: net/netfilter/ipvs/ip_vs_wrr.c.
type wrrModel struct {
	weights []int64
	at      int
	level   int64
}

func (m *wrrModel) next() int {
	for {
		for m.at++; m.at < len(m.weights); m.at++ {
			if m.weights[m.at] >= m.level {
				return m.at
			}
		}
		m.at = -1
		if m.level--; m.level <= 0 {
			m.level = slices.Max(m.weights)
		}
	}
}

// least asks the server with the least load for its weight, the first of equal
// ones. more is what the next connection adds before it is compared.
func least(weights, count []int64, more int64) int {
	best := 0
	for i := range weights {
		if (count[i]+more)*weights[best] < (count[best]+more)*weights[i] {
			best = i
		}
	}
	return best
}

// TestBounds compares the bounds with models of the kernel's schedulers, for
// random weights and any number of requests, wherever wrr's round stands.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(what string, weights []int64, n int, got []int64, want []bounds) {
		t.Helper()
		for i, c := range got {
			if int(c) < want[i].least || int(c) > want[i].most {
				t.Fatalf("%s of %v, %d requests: %v, which is not within %v", what, weights, n, got, want)
			}
		}
	}
	for range 3000 {
		weights := make([]int64, 1+r.IntN(6))
		for i := range weights {
			weights[i] = 1 + r.Int64N(1+r.Int64N(30))
		}
		n := 1 + r.IntN(40)
		m := &wrrModel{weights: weights, at: -1, level: slices.Max(weights)}
		for range r.IntN(100) {
			m.next()
		}
		wrr, wlc, sed := make([]int64, len(weights)), make([]int64, len(weights)), make([]int64, len(weights))
		for range n {
			wrr[m.next()]++
			wlc[least(weights, wlc, 0)]++
			sed[least(weights, sed, 1)]++
		}
		check("wrr", weights, n, wrr, windows(weights, n))
		check("wlc", weights, n, wlc, greedy(weights, n))
		check("sed in another order", weights, n, sed, expectedDelay(weights, n, false, false))
		each, count := rounds(weights, 1000, greedy)
		whole := make([]int64, len(weights))
		for range count {
			whole[least(weights, whole, 0)]++
		}
		check("whole rounds", weights, count, whole, each)
	}
}

// TestReduced: a round has as many turns as the weights have without what they
// have in common.
func TestReduced(t *testing.T) {
	var list []server
	for _, w := range []int{30, 20, 10} {
		s := &config.Server{}
		s.Weight = w
		list = append(list, server{Server: s})
	}
	if got := reduced(list); !slices.Equal(got, []int64{3, 2, 1}) {
		t.Error(got)
	}
}

// TestTelling: with as many requests no server's weight can be one more or less,
// and the answers be the same.
func TestTelling(t *testing.T) {
	for _, scheduler := range []string{"wrr", "wlc"} {
		for _, weights := range [][]int64{{2, 1}, {1, 1}, {1, 1, 1}} {
			rules := "-A -t 10.0.0.100:80 -s " + scheduler + "\n"
			for i, w := range weights {
				rules += fmt.Sprintf("-a -t 10.0.0.100:80 -r 10.0.0.1%d:80 -g -w %d\n", i+1, 10*w)
			}
			var n int
			if _, err := fmt.Sscanf(stepsFor(t, rules, "")[0].do[0].text, "request: {to: web, count: %d", &n); err != nil || n > tellingRequests {
				t.Fatalf("%s of %v: %d requests, %v", scheduler, weights, n, err)
			}
			partly := map[string]func([]int64, int) []bounds{"wrr": windows, "wlc": greedy}[scheduler]
			for i := range weights {
				other := slices.Clone(weights)
				if other[i]++; !differs(weights, int64(n)/sum(weights), partly(other, n)) {
					t.Errorf("%s: %d requests for %v may be answered by %v as well", scheduler, n, weights, other)
				}
			}
		}
	}
}
