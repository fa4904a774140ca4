package engine_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// liveLab brings a lab up for the length of a test.
func liveLab(t *testing.T, text string) *engine.Live {
	t.Helper()
	needRoot(t)
	l, err := engine.Up(t.Context(), anything, wire.Job{
		Version: wire.Version, Labs: []string{"lab"},
		Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(text)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func inspect(t *testing.T, l *engine.Live) (*live.Inspection, map[string]live.Node) {
	t.Helper()
	in, err := l.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nodes := make(map[string]live.Node)
	for _, n := range in.Nodes {
		nodes[n.Name] = n
	}
	return in, nodes
}

// dev is a device of a node.
func dev(t *testing.T, n live.Node, name string) live.Device {
	t.Helper()
	for _, d := range n.Devices {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("%s has no device %s: %+v", n.Name, name, n.Devices)
	return live.Device{}
}

const twoNetworks = `
title: Two networks and a router
about: Nothing to balance.
networks: {lan: 10.5.0.0/24, far: [10.6.0.0/24, "fd06::/64"]}
sysctls: {net.ipv4.conf.all.arp_ignore: 1}
nodes:
  client: {links: {eth0: lan 10.5.0.2/24}, routes: [default via 10.5.0.1]}
  router:
    links: {eth0: lan 10.5.0.1/24, eth1: far 10.6.0.1/24 fd06::1/64}
    sysctls: {net.ipv4.ip_forward: 1, net.ipv4.conf.eth1.rp_filter: 1}
  web:
    links: {eth0: {network: far, addresses: [10.6.0.2/24], mtu: 1400}, eth1: {network: lan, down: true}}
    devices: {lo: {addresses: [10.9.9.9/32]}}
    routes: [default via 10.6.0.1, 10.7.0.0/16 via 10.6.0.1 metric 50]
    serve: [http]
`

func TestInspect(t *testing.T) {
	l := liveLab(t, twoNetworks)
	in, nodes := inspect(t, l)
	if in.Lab != "lab" || in.Title != "Two networks and a router" || in.About == "" {
		t.Errorf("%q %q %q", in.Lab, in.Title, in.About)
	}
	wantNets := []live.Network{{Name: "lan", Prefixes: []string{"10.5.0.0/24"}}, {Name: "far", Prefixes: []string{"10.6.0.0/24", "fd06::/64"}}}
	if d := cmp.Diff(wantNets, in.Networks); d != "" {
		t.Error(d)
	}
	for name, role := range map[string][]string{"client": {"client"}, "router": {"router"}, "web": nil} {
		if !slices.Equal(nodes[name].Roles, role) {
			t.Errorf("%s is %v, want %v", name, nodes[name].Roles, role)
		}
	}
	eth0, eth1 := dev(t, nodes["web"], "eth0"), dev(t, nodes["web"], "eth1")
	if eth0.MTU != 1400 || eth0.State != "up" || eth0.Network != "far" || eth0.Kind != "veth" {
		t.Errorf("%+v", eth0)
	}
	if eth1.State == "up" {
		t.Errorf("a link whose cable is pulled is %s", eth1.State)
	}
	if lo := dev(t, nodes["web"], "lo"); !slices.Contains(lo.Addresses, "10.9.9.9/32") {
		t.Errorf("%+v", lo)
	}
	for _, d := range nodes["client"].Devices {
		if d.Name == "lo" {
			t.Errorf("a loopback with nothing of its own is told of: %+v", d)
		}
	}
	if d := cmp.Diff([]live.Daemon{{Name: "http:80", Port: 80, State: "listens"}}, nodes["web"].Daemons); d != "" {
		t.Error(d)
	}
	sysctls := make(map[string]string)
	for _, s := range nodes["router"].Sysctls {
		sysctls[s.Key] = s.Value
		if s.Value == s.Default {
			t.Errorf("%+v differs in nothing", s)
		}
	}
	for key, value := range map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.eth1.rp_filter": "1"} {
		if sysctls[key] != value {
			t.Errorf("%s is %q, want %s; all: %v", key, sysctls[key], value, sysctls)
		}
	}
	for key := range sysctls {
		if strings.HasSuffix(key, ".forwarding") && strings.HasPrefix(key, "net.ipv4") {
			t.Errorf("%s only follows ip_forward", key)
		}
	}
}

// What is told of a node is what ip(8) tells there.
func TestInspectAsIP(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	l := liveLab(t, twoNetworks)
	// So that there is a neighbour.
	if out, err := l.InNode(t, "client", "ping", "-c1", "-W20", "10.6.0.2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, nodes := inspect(t, l)
	for name, n := range nodes {
		var addrs []struct {
			Name  string `json:"ifname"`
			MAC   string `json:"address"`
			MTU   int    `json:"mtu"`
			Flags []string
			Addr  []struct {
				Local string
				Len   int `json:"prefixlen"`
			} `json:"addr_info"`
		}
		out, err := l.InNode(t, name, "ip", "-j", "addr")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := json.Unmarshal(out, &addrs); err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if a.Name == "lo" && !slices.ContainsFunc(n.Devices, func(d live.Device) bool { return d.Name == "lo" }) {
				continue
			}
			d := dev(t, n, a.Name)
			var want []string
			for _, i := range a.Addr {
				want = append(want, i.Local+"/"+jsonNumber(i.Len))
			}
			if !slices.Equal(d.Addresses, want) || d.MTU != a.MTU {
				t.Errorf("%s: %+v, ip has %+v", name, d, a)
			}
			if d.Kind == "veth" && d.MAC != a.MAC {
				t.Errorf("%s %s: MAC %s, ip has %s", name, a.Name, d.MAC, a.MAC)
			}
			if down := slices.Contains(a.Flags, "NO-CARRIER"); down != (d.State == "no carrier") {
				t.Errorf("%s %s is %s, ip has the flags %v", name, a.Name, d.State, a.Flags)
			}
		}
		for what, got := range map[string][]string{"route": n.Routes, "neigh": n.Neighbours} {
			var want []string
			for _, family := range []string{"-4", "-6"} {
				out, err := l.InNode(t, name, "ip", family, what)
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				for line := range strings.Lines(string(out)) {
					line = strings.TrimSuffix(strings.TrimSpace(line), " pref medium")
					want = append(want, strings.Join(strings.Fields(line), " "))
				}
			}
			if !reflect.DeepEqual(unaged(got), unaged(want)) {
				t.Errorf("%s: ip %s:\n%q, ip has\n%q", name, what, got, want)
			}
		}
	}
}

// unaged leaves out what may change between two looks.
func unaged(lines []string) []string {
	var out []string
	for _, l := range lines {
		for _, state := range []string{"REACHABLE", "DELAY", "PROBE"} {
			l = strings.ReplaceAll(l, state, "STALE")
		}
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

func jsonNumber(n int) string {
	data, _ := json.Marshal(n)
	return string(data)
}

// A node that goes while it is looked at is stopped, and no error.
func TestInspectWhileNodesGo(t *testing.T) {
	l := liveLab(t, twoNetworks)
	done := make(chan error, 1)
	go func() { done <- l.RemoveNode("web") }()
	for range 10 {
		_, nodes := inspect(t, l)
		if n := nodes["web"]; n.Stopped && (len(n.Devices) > 0 || len(n.Sysctls) > 0) {
			t.Errorf("%+v", n)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, nodes := inspect(t, l); !nodes["web"].Stopped || nodes["client"].Stopped {
		t.Errorf("%+v", nodes)
	}
}

const balanced = `
title: Direct routing
networks: {lan: 10.5.0.0/24}
nodes:
  client:   {links: {eth0: {network: lan, addresses: [10.5.0.250/24], delay: 5ms}}}
  director: {links: {eth0: lan 10.5.0.1/24}}
  web1:     {links: {eth0: lan 10.5.0.2/24}, serve: [http]}
  web2:     {links: {eth0: lan 10.5.0.3/24}, serve: [http], iptables: [-A INPUT -p tcp --dport 81 -j DROP]}
virtual_services:
  web:
    address: tcp 10.5.0.100:80
    directors: [director]
    scheduler: wrr
    persistence: 360s
    forwarding: dr
    vip: {directors: eth0/24, real_servers: lo/32}
    arp_suppression: arptables
    real_servers: [web1, {node: web2, weight: 3}]
`

// TestInspectInside looks at what a kernel with IPVS alone has: package inside
// runs it there.
func TestInspectInside(t *testing.T) {
	if os.Getenv("LVSLAB_INSIDE") == "" {
		t.Skip("needs a kernel with IPVS and the legacy tables; package inside runs it in a guest")
	}
	l := liveLab(t, balanced)
	_, nodes := inspect(t, l)
	for name, roles := range map[string][]string{"client": {"client"}, "director": {"director"}, "web1": {"real server"}, "web2": {"real server"}} {
		if !slices.Equal(nodes[name].Roles, roles) {
			t.Errorf("%s is %v, want %v", name, nodes[name].Roles, roles)
		}
	}
	want := []live.Service{{
		Protocol: "TCP", Address: "10.5.0.100:80", Scheduler: "wrr", Flags: "persistent 360",
		Destinations: []live.Destination{
			{Address: "10.5.0.2:80", Node: "web1", Forward: "Route", Weight: 1},
			{Address: "10.5.0.3:80", Node: "web2", Forward: "Route", Weight: 3},
		},
	}}
	if d := cmp.Diff(want, nodes["director"].IPVS); d != "" {
		t.Error(d)
	}
	if d := dev(t, nodes["director"], "eth0"); !slices.Equal(d.VIPs, []string{"10.5.0.100/24"}) {
		t.Errorf("%+v", d)
	}
	if d := dev(t, nodes["web1"], "lo"); !slices.Equal(d.VIPs, []string{"10.5.0.100/32"}) {
		t.Errorf("%+v", d)
	}
	if d := dev(t, nodes["client"], "eth0"); d.Qdisc != "delay 5ms" {
		t.Errorf("the client's queue: %q", d.Qdisc)
	}
	wantARP := []string{"-A INPUT -d 10.5.0.100 -j DROP", "-A OUTPUT -s 10.5.0.100 -j mangle --mangle-ip-s 10.5.0.2"}
	if d := cmp.Diff(wantARP, nodes["web1"].ARPRules); d != "" {
		t.Error(d)
	}
	if rules := nodes["web2"].IPTables; !slices.ContainsFunc(rules, func(r string) bool { return strings.Contains(r, "--dport 81 -j DROP") }) {
		t.Errorf("%q", rules)
	}
	for _, name := range []string{"client", "director"} {
		if n := nodes[name]; len(n.ARPRules)+len(n.IPTables) > 0 {
			t.Errorf("%s: %q %q", name, n.ARPRules, n.IPTables)
		}
		// Looking makes no tables.
		for _, table := range []string{"arp_tables_names", "ip_tables_names"} {
			if text := l.ProcNet(t, name, table); strings.TrimSpace(text) != "" {
				t.Errorf("%s has the tables %q", name, text)
			}
		}
	}
	begin := time.Now()
	for range 10 {
		inspect(t, l)
	}
	t.Logf("a look takes %s", time.Since(begin)/10)
}
