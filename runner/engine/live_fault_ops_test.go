package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

const breakable = `
title: Something to break
networks: {lan: 10.5.0.0/24, far: 10.6.0.0/24}
nodes:
  client:   {links: {eth0: {network: lan, addresses: [10.5.0.250/24], delay: 5ms}}}
  director: {links: {eth0: lan 10.5.0.1/24, eth1: far 10.6.0.1/24}}
  web1:     {links: {eth0: lan 10.5.0.2/24}, serve: [http]}
  web2:     {links: {eth0: lan 10.5.0.3/24}, serve: [http, "http 8080", udp]}
virtual_services:
  web:
    address: tcp 10.5.0.100:80
    directors: [director]
    scheduler: rr
    forwarding: dr
    vip: {directors: eth0/24, real_servers: lo/32}
    arp_suppression: arptables
    real_servers: [web1, web2]
`

func breakablePlan(t *testing.T) *scenarios.Plan {
	t.Helper()
	lab, err := scenarios.Load("lab.yaml", "lab", []byte(breakable))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := lab[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// broke is a fault as check completes it.
func broke(t *testing.T, plan *scenarios.Plan, had []live.Broken, f live.Fault) live.Broken {
	t.Helper()
	f, err := breaking{lab: plan.Lab, ops: plan.Setup, faults: had}.check(f)
	if err != nil {
		t.Fatal(err)
	}
	return live.Broken{ID: f.ID(), Fault: f, Since: time.Now()}
}

func shell(ops []topology.Op) []string {
	var lines []string
	for _, o := range ops {
		lines = append(lines, o.Shell(topology.Dialect{Arptables: "arptables"})...)
	}
	return lines
}

// TestFaultsAreOps has faults come one upon the other, and go in another order,
// each by the commands that it is about and no others.
func TestFaultsAreOps(t *testing.T) {
	plan := breakablePlan(t)
	const ms = time.Millisecond
	var faults []live.Broken
	lines := func(next []live.Broken) []string {
		t.Helper()
		ops, err := difference(plan, faults, plan, next)
		if err != nil {
			t.Fatal(err)
		}
		faults = next
		return shell(ops)
	}
	for _, c := range []struct {
		fault live.Fault
		id    string
		want  []string
	}{
		{live.Fault{Kind: live.Cut, Node: "web1"}, "cut web1:eth0", []string{"ip -n lan link set web1-eth0 down"}},
		{
			live.Fault{Kind: live.Delay, Node: "client", Delay: 50 * ms, Jitter: 10 * ms},
			"delay client:eth0",
			[]string{"tc -n client qdisc replace dev eth0 root handle 1: netem delay 55000us 10000us"},
		},
		{
			live.Fault{Kind: live.Corrupt, Node: "client", Percent: 5},
			"corrupt client:eth0",
			[]string{"tc -n client qdisc replace dev eth0 root handle 1: netem delay 55000us 10000us corrupt 5%"},
		},
		{
			live.Fault{Kind: live.Reorder, Node: "director", Device: "eth1", Percent: 25},
			"reorder director:eth1",
			[]string{"tc -n director qdisc replace dev eth1 root handle 1: netem delay 10000us reorder 25%"},
		},
		{
			live.Fault{Kind: live.Lose, Node: "director", Device: "eth1", Percent: 30},
			"lose director:eth1",
			[]string{"tc -n director qdisc replace dev eth1 root handle 1: netem delay 10000us loss 30% reorder 25%"},
		},
		{live.Fault{Kind: live.Kill, Node: "web1"}, "kill web1/http:80", []string{"stop_http web1 80"}},
		{live.Fault{Kind: live.Hang, Node: "web2", Daemon: "8080"}, "hang web2/http:8080", []string{"pause_daemon web2 http:8080"}},
		{live.Fault{Kind: live.Kill, Node: "web2", Daemon: "http:8080"}, "kill web2/http:8080", []string{"stop_http web2 8080"}},
		{
			live.Fault{Kind: live.DropARP, Node: "director"},
			"drop-arp director 10.5.0.100",
			[]string{"ip netns exec director arptables -A INPUT -d 10.5.0.100 -j DROP"},
		},
		{live.Fault{Kind: live.DropARP, Node: "web1", Address: "10.5.0.2"}, "drop-arp web1 10.5.0.2", []string{
			"ip netns exec web1 arptables -D OUTPUT -s 10.5.0.100 -j mangle --mangle-ip-s 10.5.0.2",
			"ip netns exec web1 arptables -D INPUT -d 10.5.0.100 -j DROP",
			"ip netns exec web1 arptables -A INPUT -d 10.5.0.2 -j DROP",
			"ip netns exec web1 arptables -A INPUT -d 10.5.0.100 -j DROP",
			"ip netns exec web1 arptables -A OUTPUT -s 10.5.0.100 -j mangle --mangle-ip-s 10.5.0.2",
		}},
		{live.Fault{Kind: live.Stop, Node: "web2"}, "stop web2", []string{"ip -n web2 link del eth0", "ip netns del web2"}},
	} {
		b := broke(t, plan, faults, c.fault)
		if b.ID != c.id {
			t.Errorf("%+v is called %q, wanted %q", c.fault, b.ID, c.id)
		}
		if d := cmp.Diff(c.want, lines(append(slices.Clone(faults), b))); d != "" {
			t.Errorf("%s:\n%s", b.ID, d)
		}
	}
	for _, c := range []struct {
		heal string
		want []string
	}{
		{"corrupt", []string{"tc -n client qdisc del dev eth0 root", "tc -n client qdisc replace dev eth0 root handle 1: netem delay 55000us 10000us"}},
		{"delay client", []string{"tc -n client qdisc replace dev eth0 root handle 1: netem delay 5000us"}},
		{"director", []string{"tc -n director qdisc del dev eth1 root", "ip netns exec director arptables -D INPUT -d 10.5.0.100 -j DROP"}},
		{"cut web1", []string{"ip -n lan link set web1-eth0 up"}},
		{"kill web1/http", []string{"serve_http web1 80"}},
	} {
		_, left, err := chosen(plan.Lab, faults, []string{c.heal})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, lines(left)); d != "" {
			t.Errorf("heal %s:\n%s", c.heal, d)
		}
	}
	// A node that is switched on gets all that the plan has for it, and the
	// faults that were not healed.
	_, left, err := chosen(plan.Lab, faults, []string{"stop"})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, o := range plan.Setup {
		k := o.About().Key
		if k.Node == "web2" && k.ID == "udp:7000" {
			want = append(want, "pause_daemon web2 http:8080") // which stays killed
		}
		if k.Node == "web2" && k.ID != "http:8080" {
			want = append(want, o.Shell(topology.Dialect{Arptables: "arptables"})...)
		}
	}
	if d := cmp.Diff(want, lines(left)); d != "" {
		t.Error(d)
	}
	lines(nil)
	if ops, err := faulty(plan, nil); err != nil || !slices.Equal(shell(ops), shell(plan.Setup)) {
		t.Errorf("healed of all, the lab is not its plan: %v", err)
	}
}

// Any two faults can be there at once, whatever they are, and go one by one.
func TestFaultsInPairs(t *testing.T) {
	plan := breakablePlan(t)
	all := []live.Fault{
		{Kind: live.Cut, Node: "web2"},
		{Kind: live.Delay, Node: "web2", Delay: time.Second},
		{Kind: live.Lose, Node: "web2", Percent: 100},
		{Kind: live.Duplicate, Node: "web2", Percent: 1},
		{Kind: live.Hang, Node: "web2", Daemon: "udp"},
		{Kind: live.Kill, Node: "web2", Daemon: "udp"},
		{Kind: live.DropARP, Node: "web2", Address: "10.5.0.3"},
		{Kind: live.Stop, Node: "web2"},
		{Kind: live.Stop, Node: "director"},
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			one := []live.Broken{broke(t, plan, nil, a)}
			both := append(slices.Clone(one), broke(t, plan, one, b))
			for _, way := range [][]live.Broken{one, both[1:]} {
				for _, c := range [][2][]live.Broken{{nil, way}, {way, both}, {both, way}, {way, nil}, {both, nil}} {
					if _, err := difference(plan, c[0], plan, c[1]); err != nil {
						t.Errorf("%v to %v: %v", c[0], c[1], err)
					}
				}
			}
			ops, err := faulty(plan, both)
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[topology.Key]bool)
			for _, o := range ops {
				if seen[o.About().Key] {
					t.Errorf("%s and %s: two ops for %s", a, b, o.About().Key)
				}
				seen[o.About().Key] = true
			}
		}
	}
}

// What cannot be broken is told in the words of the one who asked.
func TestNoSuchFault(t *testing.T) {
	plan := breakablePlan(t)
	had := []live.Broken{broke(t, plan, nil, live.Fault{Kind: live.Cut, Node: "web1"}), broke(t, plan, nil, live.Fault{Kind: live.Stop, Node: "web2"}), broke(t, plan, nil, live.Fault{Kind: live.Kill, Node: "web1"})}
	for _, c := range []struct {
		fault live.Fault
		want  string
	}{
		{live.Fault{Kind: "cutt", Node: "web1"}, `did you mean "cut"`},
		{live.Fault{Kind: live.Cut, Node: "web9"}, `unknown node "web9", did you mean "web1"`},
		{live.Fault{Kind: live.Cut, Node: "lan"}, `unknown node "lan"`},
		{live.Fault{Kind: live.Cut, Node: "director"}, "several links; say which: director:eth0, director:eth1"},
		{live.Fault{Kind: live.Cut, Node: "director", Device: "eth2"}, `unknown link of node director "eth2", did you mean "eth0"`},
		{live.Fault{Kind: live.Cut, Node: "web1"}, "web1:eth0 is cut already"},
		{live.Fault{Kind: live.Cut, Node: "web2"}, "switched off"},
		{live.Fault{Kind: live.Stop, Node: "web2"}, "web2 is switched off already"},
		{live.Fault{Kind: live.Lose, Node: "web1"}, "above 0"},
		{live.Fault{Kind: live.Lose, Node: "web1", Percent: 101}, "at most 100"},
		{live.Fault{Kind: live.Lose, Node: "web1", Percent: -1}, "above 0"},
		{live.Fault{Kind: live.Delay, Node: "web1"}, "wanted a delay"},
		{live.Fault{Kind: live.Delay, Node: "web1", Delay: time.Hour}, "1m0s"},
		{live.Fault{Kind: live.Delay, Node: "web1", Delay: 1, Jitter: 2}, "wanted a delay"},
		{live.Fault{Kind: live.Delay, Node: "web1", Delay: time.Second, Jitter: 2 * time.Second}, "wanted a jitter"},
		{live.Fault{Kind: live.Cut, Node: "client", Percent: 3}, "cut takes no percentage"},
		{live.Fault{Kind: live.Kill, Node: "client"}, "serves nothing"},
		{live.Fault{Kind: live.Kill, Node: "web1", Daemon: "htpp"}, `unknown daemon of node web1 "htpp"; Allowed: http:80`},
		{live.Fault{Kind: live.Hang, Node: "web1"}, "is killed"},
		{live.Fault{Kind: live.DropARP, Node: "client", Address: "fd00::1"}, "IPv4"},
		{live.Fault{Kind: live.DropARP, Node: "web1"}, "does not answer who has 10.5.0.100 anyway"},
	} {
		_, err := breaking{lab: plan.Lab, ops: plan.Setup, faults: had}.check(c.fault)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, wanted %q", c.fault, err, c.want)
		}
	}
	if _, err := (breaking{lab: plan.Lab, ops: plan.Setup}).check(live.Fault{Kind: live.Kill, Node: "web2", Daemon: "http"}); err == nil || !strings.Contains(err.Error(), "http:80, http:8080") {
		t.Errorf("of two daemons: %v", err)
	}
	for word, want := range map[string]string{
		"web3": `unknown fault "web3"`, "client": "broken are: cut web1:eth0, stop web2, kill web1/http:80", "delay": "broken are", "cut web2": `unknown fault "cut web2"`,
	} {
		if _, _, err := chosen(plan.Lab, had, []string{"web1", word}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("heal %s: %v, wanted %q", word, err, want)
		}
	}
	if _, _, err := chosen(plan.Lab, nil, nil); err == nil {
		t.Error("nothing was healed")
	}
}
