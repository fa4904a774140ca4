package stay

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// again is a lab each of whose steps leaves something behind in its nodes, that
// no change of the lab's file tells of, and is refused or sees it the next time.
const again = `title: steps that leave something
networks: {lan: 172.25.12.0/24}
nodes:
  client:   {links: {eth0: lan 172.25.12.250/24}}
  director: {links: {eth0: lan 172.25.12.1/24}}
  web1:     {links: {eth0: lan 172.25.12.2/24}, serve: [http]}
  web2:     {links: {eth0: lan 172.25.12.3/24}, serve: [http]}
virtual_services:
  web:
    address: tcp 172.25.12.100:80
    directors: [director]
    scheduler: rr
    forwarding: dr
    persistence: {timeout: 360s, netmask: 32}
    vip: {directors: eth0/32, real_servers: lo/32}
    arp_suppression: sysctl
    real_servers: [web1, web2]
steps:
- name: nobody knows anybody yet
  do: [request: {to: web, count: 3}]
  expect:
  - sequence: web2 ×3
  - arp_owner: {address: web, at: client, is: director}
  - connections: {node: director, state: FIN_WAIT, count: 3}
- name: a server leaves, and comes back as the last
  do:
  - change: {virtual_services: {web: {real_servers: [web2]}}}
  - change: {virtual_services: {web: {real_servers: [web1, web2]}}}
  - systemctl: {node: director, command: start ipvsadm}
  expect: [output: {exit: 1}]
- name: a file, and the table
  do:
  - write: {node: director, file: /etc/sysconfig/ipvsadm}
  - systemctl: {node: director, command: restart ipvsadm}
  - request: {to: web}
  expect: [result: refused, table: {node: director, rules: ""}]
- name: rules
  do: [run: {node: director, command: ip rule add fwmark 1 lookup 100 && ip route add 10.9.0.0/24 via 172.25.12.2 table 100 && arptables -A INPUT -d 172.25.12.9 -j DROP && ipvsadm -A -t 172.25.12.1:81 -s rr}]
  expect: [output: {exit: 0}]
`

// steps runs steps and says how they went.
func steps(t *testing.T, l live.Lab, text string) wire.Verdict {
	t.Helper()
	r := live.Run{}
	if text != "" {
		r.Steps = &wire.File{Path: "steps.yaml", Name: "steps", Data: []byte(text)}
	}
	events := make(chan wire.Event, 100)
	if err := l.Run(t.Context(), r, func(e wire.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	close(events)
	verdict := wire.Broken
	for e := range events {
		if e.Kind == wire.StepFinished && e.Verdict != wire.Pass {
			t.Logf("%+v", *e.Step)
		}
		if e.Kind == wire.LabFinished {
			if verdict = e.Verdict; e.Message != "" {
				t.Log(e.Message)
			}
		}
	}
	return verdict
}

// TestStepsAgain has a lab's steps do the same as often as they are run, whatever
// they and others have done before, and leave the lab as it was.
func TestStepsAgain(t *testing.T) {
	s := boot(t)
	l, err := s.Up(t.Context(), jobOf(again))
	if err != nil {
		t.Fatal(err)
	}
	// What stands, without what traffic taught.
	stands := func() []live.Node {
		t.Helper()
		in, err := l.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range in.Nodes {
			in.Nodes[i].Neighbours = nil
			for _, service := range in.Nodes[i].IPVS {
				for j := range service.Destinations {
					d := &service.Destinations[j]
					d.ActiveConn, d.InactConn, d.Connections = 0, 0, 0
				}
			}
		}
		return in.Nodes
	}
	run := func(node, line string) string {
		t.Helper()
		var out strings.Builder
		exit, err := l.Exec(t.Context(), live.Exec{Node: node, Args: []string{"sh", "-c", line}}, live.Streams{Stdout: &out, Stderr: t.Output()})
		if err != nil || exit.Code != 0 {
			t.Fatalf("%s: %+v, %v", line, exit, err)
		}
		return out.String()
	}
	// Nothing has crossed the wire of a lab that has just come up.
	for _, node := range []string{"client", "director", "web1", "web2"} {
		if known := run(node, "ip neigh show nud all"); known != "" {
			t.Errorf("%s knows, though nobody has asked:\n%s", node, known)
		}
	}
	ports := regexp.MustCompile(`(?m)^ *[\w-]+-eth0: *(\d+) +(\d+)(?: +\d+){6} +(\d+)`).FindAllStringSubmatch(run("lan", "cat /proc/net/dev"), -1)
	for _, port := range ports {
		if port[1] != "0" || port[3] != "0" {
			t.Errorf("the network has carried something already: %s", port[0])
		}
	}
	if len(ports) != 4 {
		t.Errorf("found %d ports of the network, wanted 4", len(ports))
	}

	run("client", "curl -s -m 20 172.25.12.100")
	before, routing := stands(), run("director", "ip rule; ip route show table all")
	for range 3 {
		if v := steps(t, l, ""); v != wire.Pass {
			t.Errorf("its own steps: %s", v)
		}
		if d := cmp.Diff(before, stands()); d != "" {
			t.Errorf("they have left:\n%s", d)
		}
		if d := cmp.Diff(routing, run("director", "ip rule; ip route show table all")); d != "" {
			t.Errorf("of routing they have left:\n%s", d)
		}
		run("director", "test ! -e /etc/sysconfig/ipvsadm")
	}
	// Steps of another file meet the lab as it is: the client is known by now.
	run("client", "curl -s -m 20 172.25.12.100")
	if v := steps(t, l, "- name: known\n  do: [request: {to: web}]\n  expect: [arp_requests: {from: client, at: client, sender: own}]\n"); v != wire.Fail {
		t.Errorf("a client that has asked already: %s", v)
	}
	// A tunnel that nobody spoke of when the lab came up.
	gre := `
- name: by GRE
  do:
  - change: {virtual_services: {web: {forwarding: tun gre, persistence: null, vip: {directors: eth0/32, real_servers: gre0/32}}}}
  - request: {to: web, count: 4}
  expect: [rotation: [web1, web2], path: {encapsulation: gre}]
`
	for range 2 {
		if v := steps(t, l, gre); v != wire.Pass {
			t.Errorf("by GRE: %s", v)
		}
	}
}
