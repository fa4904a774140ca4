package scenarios_test

import (
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

const setLab = `title: A lab
networks: {lan: 10.0.0.0/24}
nodes:
  client: {links: {eth0: lan 10.0.0.250/24}}
  director:
    links: {eth0: lan 10.0.0.1/24}
    sysctls: {net.ipv4.ip_forward: 0}
  web1: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
  web2: {links: {eth0: lan 10.0.0.3/24}, serve: [http, http 8080], files: {/srv/a.html: "a"}}
virtual_services:
  web:
    address: tcp 10.0.0.100:80
    directors: [director]
    scheduler: rr
    persistence: 300s
    forwarding: dr
    arp_suppression: sysctl
    real_servers: [web1, {node: web2, weight: 2}]
steps:
- {name: one, do: [request: {to: web}], expect: [result: ok]}
`

// TestSet compares labs with something set to the same labs written by hand, by
// all that would be done to a kernel.
func TestSet(t *testing.T) {
	for _, c := range []struct{ name, set, old, new string }{
		{"a value", "virtual_services.web.scheduler=wrr", "scheduler: rr", "scheduler: wrr"},
		{"a value with colons", "virtual_services.web.address=tcp 10.0.0.101:80", "tcp 10.0.0.100:80", "tcp 10.0.0.101:80"},
		{"taken out", "virtual_services.web.persistence=null", "    persistence: 300s\n", ""},
		{"in a short form", "virtual_services.web.real_servers.web1.weight=5", "[web1,", "[{node: web1, weight: 5},"},
		{"in a long form", "virtual_services.web.real_servers.web2.weight=5", "weight: 2", "weight: 5"},
		{"an entry taken out", "virtual_services.web.real_servers.web2=null", "[web1, {node: web2, weight: 2}]", "[web1]"},
		{"an entry replaced", "nodes.web2.serve.http 8080=http 8081", "[http, http 8080]", "[http, http 8081]"},
		{"an entry with a blank taken out", "nodes.web2.serve.http 8080=null", "[http, http 8080]", "[http]"},
		{"a key with dots", "nodes.director.sysctls.net.ipv4.ip_forward=1", "ip_forward: 0", "ip_forward: 1"},
		{"a new key with dots", "nodes.client.sysctls.net.ipv4.tcp_syncookies=0", "{links: {eth0: lan 10.0.0.250/24}}", "{links: {eth0: lan 10.0.0.250/24}, sysctls: {net.ipv4.tcp_syncookies: 0}}"},
		{"a path of a file", "nodes.web2.files./srv/a.html=b", `/srv/a.html: "a"`, `/srv/a.html: "b"`},
		{"in a short link", "nodes.web1.links.eth0.mtu=1400", "eth0: lan 10.0.0.2/24", "eth0: {network: lan, addresses: [10.0.0.2/24], mtu: 1400}"},
		{"a mapping", "virtual_services.web.persistence={timeout: 300s, netmask: 24}", "persistence: 300s", "persistence: {timeout: 300s, netmask: 24}"},
		{"a whole node", "nodes.web3={links: {eth0: lan 10.0.0.4/24}, serve: [http]}", "virtual_services:", "  web3: {links: {eth0: lan 10.0.0.4/24}, serve: [http]}\nvirtual_services:"},
		{"below what is not there", "nodes.web1.devices.lo.addresses=[10.0.0.9/32]", "10.0.0.2/24}, serve", "10.0.0.2/24}, devices: {lo: {addresses: [10.0.0.9/32]}}, serve"},
		{"for all nodes", "sysctls.net.ipv4.conf.all.rp_filter=1", "nodes:\n", "sysctls: {net.ipv4.conf.all.rp_filter: 1}\nnodes:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Count(setLab, c.old) != 1 {
				t.Fatalf("%q is not there once", c.old)
			}
			got, want := script(t, setLab, c.set), script(t, strings.Replace(setLab, c.old, c.new, 1))
			if got != want {
				t.Errorf("with %s:\n%s\nwanted\n%s", c.set, got, want)
			}
			if got == script(t, setLab) {
				t.Error("nothing has changed")
			}
		})
	}
}

// script is what a lab does to a kernel, as text.
func script(t *testing.T, text string, set ...string) string {
	t.Helper()
	list, err := scenarios.Load("f.yaml", "f", []byte(text), set...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := list[0].Plan()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range p.Setup {
		fmt.Fprintf(&b, "%v %q\n", o.About().Key, o.Shell(legacy))
	}
	return b.String()
}

func TestSetErrors(t *testing.T) {
	for set, want := range map[string]string{
		"virtual_services.web.schedular=rr":               `unknown key "schedular", did you mean "scheduler"?`,
		"virtual_services.web.scheduler=wrrr":             `unknown scheduler "wrrr", did you mean "wrr"?`,
		"virtual_services.wbe.scheduler=rr":               `f.yaml:11:3: virtual_services.wbe.scheduler=rr: unknown entry of virtual_services "wbe", did you mean "web"?`,
		"virtual_services.web.real_servers.web3.weight=":  "wanted one value after the =; null takes a thing out",
		"virtual_services.web.real_servers.wb1.weight=2":  `unknown entry of real_servers "wb1", did you mean "web1"?`,
		"virtual_services.web.real_servers.web1.weight=x": `f.yaml:18:20: wanted a whole number, found "x" (as set by virtual_services.web.real_servers.web1.weight=x)`,
		"virtual_services.web.scheduler.x=1":              `scheduler is "rr" alone, which has no x`,
		"virtual_services.web.one_packet=null":            `unknown key "one_packet"; Allowed: address, directors,`,
		"node.web1.serve=[http]":                          `unknown key "node", did you mean "nodes"?`,
		"steps=[]":                                        `unknown key "steps"; Allowed: networks, sysctls, nodes, virtual_services`,
		"virtual_services.web.scheduler":                  "wanted PATH=VALUE, such as virtual_services.web.scheduler=wrr",
		"=rr":                                             "wanted PATH=VALUE",
		"networks.lan=[":                                  "networks.lan=[: the value: ",
		"networks.lan=10.0.0.0/24\nb: c":                  "wanted one value after the =",
		"nodes.web1.links.eth0=lan 10.9.0.2/24":           "10.9.0.2",
		"nodes.web1=null":                                 "web1",
	} {
		list, err := scenarios.Load("f.yaml", "f", []byte(setLab), set)
		if set == "nodes.web1.links.eth0=lan 10.9.0.2/24" {
			// A mistake that check would tell is made on purpose here.
			if err != nil || len(list[0].Findings) == 0 {
				t.Errorf("%s: %v, wanted a finding that is allowed", set, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n  got    %v\n  wanted %s", set, err, want)
		}
	}
	if _, err := scenarios.Load("f.yaml", "f", []byte(setLab), "networks.lan="+strings.Repeat("x", 5<<20)); err == nil || len(err.Error()) > 1<<10 || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Errorf("a huge value: %v", err)
	}
}

func TestOmitOfLab(t *testing.T) {
	list, err := scenarios.Load("f.yaml", "f", []byte(setLab))
	if err != nil {
		t.Fatal(err)
	}
	list[0].Omit = []topology.Role{"arp-announce"}
	p, err := list[0].Plan("virtual-service")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range p.Setup {
		if r := o.About().Role; r == "arp-announce" || r == "virtual-service" {
			t.Errorf("the plan has %s", r)
		}
	}
}

// TestSetOfMatrix lays a value over every lab of a matrix.
func TestSetOfMatrix(t *testing.T) {
	const text = "matrix: {scheduler: [rr, wrr]}\n"
	list, err := scenarios.Load("f.yaml", "f", []byte(text+strings.Replace(setLab, "scheduler: rr", "scheduler: ${scheduler}", 1)), "virtual_services.web.forwarding=tun")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if web, _ := l.VirtualServices.Get("web"); !strings.Contains(yamlOf(t, web.Forwarding), "tun") {
			t.Errorf("%s forwards by %v", l.Name, web.Forwarding)
		}
	}
}

func yamlOf(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzSet: nothing that is set makes Load or Plan panic, and every error tells
// the file.
func FuzzSet(f *testing.F) {
	f.Add("virtual_services.web.scheduler=wrr")
	f.Add("nodes.web1.links.eth0.delay=1ms")
	f.Add("virtual_services.web.real_servers.web1.weight=0")
	f.Add("nodes.web2.serve.http 8080=null")
	f.Add("sysctls.net.ipv4.ip_forward=&a [*a]")
	f.Add("nodes.web1={links: {<<: {eth0: lan}}}")
	f.Fuzz(func(t *testing.T, set string) {
		list, err := scenarios.Load("f.yaml", "f", []byte(setLab), set)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("an error without its file: %q", err)
			}
			return
		}
		if _, err := list[0].Plan(); err != nil && !strings.Contains(err.Error(), "f.yaml:") {
			t.Errorf("an error without its file: %q", err)
		}
	})
}

// TestSetKeepsLabs: an assignment of what a lab has already changes nothing of
// it.
func TestSetKeepsLabs(t *testing.T) {
	for _, f := range labs.Find("dr") {
		before, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		after, err := scenarios.Load(f.Path, f.Name, f.Data, "virtual_services.web.directors=[director]")
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		one, err := before[0].Plan()
		if err != nil {
			t.Fatal(err)
		}
		two, err := after[0].Plan()
		if err != nil {
			t.Fatal(err)
		}
		if len(one.Setup) != len(two.Setup) || len(one.Roles) != len(two.Roles) {
			t.Errorf("%s: %d ops, with what it has already set %d", f.Name, len(one.Setup), len(two.Setup))
		}
	}
}
