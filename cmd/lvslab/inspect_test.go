package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/live"
)

func TestPrintInspection(t *testing.T) {
	since := time.Date(2030, 1, 2, 3, 4, 5, 0, time.Local)
	cut := live.Fault{Kind: live.Cut, Node: "web1", Device: "eth0"}
	in := &live.Inspection{
		Lab: "lab", Title: "A title\x1b[2J",
		Networks: []live.Network{{Name: "lan", Prefixes: []string{"10.0.0.0/24", "fd00::/64"}}},
		Faults:   []live.Broken{{ID: cut.ID(), Fault: cut, Since: since}},
		Nodes: []live.Node{
			{
				Name: "director", Roles: []string{"director"},
				Devices: []live.Device{
					{Name: "eth0", Kind: "veth", Network: "lan", MAC: "02:00:00:00:00:01", MTU: 1500, State: "up", Addresses: []string{"10.0.0.1/24", "10.0.0.100/24"}, VIPs: []string{"10.0.0.100/24"}, Qdisc: "delay 5ms"},
					{Name: "tunl0", Kind: "ipip", MTU: 1480, State: "down"},
				},
				Routes: []string{"10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1"},
				IPVS: []live.Service{{Protocol: "TCP", Address: "10.0.0.100:80", Scheduler: "rr", Flags: "persistent 360", Destinations: []live.Destination{
					{Address: "10.0.0.2:80", Node: "web1", Forward: "Route", Weight: 1, ActiveConn: 12, Connections: 40},
				}}},
				Sysctls: []live.Sysctl{
					{Key: "net.ipv4.conf.all.rp_filter", Value: "1", Default: "0"},
					{Key: "net.ipv4.conf.eth0.rp_filter", Value: "1", Default: "0"},
					{Key: "net.ipv4.ip_forward", Value: "1", Default: "0"},
				},
			},
			{Name: "web1", Roles: []string{"real server"}, Stopped: true},
		},
	}
	var b bytes.Buffer
	printInspection(&b, in, false)
	want := `lab: A title\x1b[2J
broken on purpose (lvslab heal takes it back):
  cut web1:eth0, since 03:04:05

network lan  10.0.0.0/24, fd00::/64

director
    eth0  on lan  up  mtu 1500  02:00:00:00:00:01
        10.0.0.1/24
        10.0.0.100/24  virtual IP
        netem delay 5ms
  routes
    10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1
  ipvs
      -> RemoteAddress:Port  Node  Forward  Weight  ActiveConn  InActConn  Conns
    TCP 10.0.0.100:80 rr persistent 360
      -> 10.0.0.2:80         web1  Route    1       12          0          40
  sysctls, and what they are by default
    net.ipv4.conf.{all,eth0}.rp_filter = 1  (0)
    net.ipv4.ip_forward = 1                 (0)

web1 (real server): switched off
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	nodes, err := onlyNode(in.Nodes, "director")
	if err != nil || len(nodes) != 1 {
		t.Fatal(nodes, err)
	}
	in.Nodes = nodes
	b.Reset()
	printInspection(&b, in, true)
	if !strings.HasPrefix(b.String(), "director\n") || strings.Contains(b.String(), "web1:eth0") {
		t.Errorf("%s", b.String())
	}
	if _, err := onlyNode(in.Nodes, "directr"); err == nil || !strings.Contains(err.Error(), `did you mean "director"`) {
		t.Error(err)
	}
}
