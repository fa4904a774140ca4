package draw_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/draw"
	"github.com/lvslab/lvslab/runner/live"
)

var update = flag.Bool("update", false, "write testdata anew")

func device(name, network, mac string, addrs ...string) live.Device {
	return live.Device{Name: name, Kind: "veth", Network: network, MAC: "02:6c:76:00:00:" + mac, MTU: 1500, State: "up", Addresses: addrs}
}

func vip(d live.Device, addr string) live.Device {
	d.Addresses, d.VIPs = append(d.Addresses, addr), []string{addr}
	return d
}

func to(node, addr, forward string, weight int) live.Destination {
	return live.Destination{Node: node, Address: addr, Forward: forward, Weight: weight, ActiveConn: 1, InactConn: 2}
}

// directRouting is the classic lab.
func directRouting() *live.Inspection {
	tunnel := live.Device{Name: "tunl0", Kind: "ipip", MTU: 1480, State: "down"}
	return &live.Inspection{
		Lab: "dr/arptables", Title: "Direct routing, with the real servers' ARP silenced by arptables",
		Networks: []live.Network{{Name: "lan", Prefixes: []string{"172.25.12.0/24"}}},
		Nodes: []live.Node{
			{Name: "client", Roles: []string{"client"}, Devices: []live.Device{device("eth0", "lan", "fa", "172.25.12.250/24"), tunnel}},
			{
				Name: "director", Roles: []string{"director"}, Devices: []live.Device{vip(device("eth0", "lan", "01", "172.25.12.1/24"), "172.25.12.100/24")},
				IPVS: []live.Service{{Protocol: "TCP", Address: "172.25.12.100:80", Scheduler: "wrr", Destinations: []live.Destination{
					to("web1", "172.25.12.2:80", "Route", 1), to("web2", "172.25.12.3:80", "Route", 3),
				}}},
			},
			{Name: "web1", Roles: []string{"real server"}, Devices: []live.Device{vip(device("eth0", "lan", "02", "172.25.12.2/24"), "172.25.12.100/24")}},
			{Name: "web2", Roles: []string{"real server"}, Devices: []live.Device{vip(device("eth0", "lan", "03", "172.25.12.3/24"), "172.25.12.100/24")}},
		},
	}
}

// translation has two networks, and much that is broken.
func translation() *live.Inspection {
	cut := device("eth0", "inside", "12", "192.168.9.2/24")
	cut.State = "no carrier"
	slow := device("eth0", "outside", "fa", "10.0.0.250/24")
	slow.Qdisc = "delay 50ms 5ms"
	return &live.Inspection{
		Lab: "nat", Title: "Address translation between two networks",
		Networks: []live.Network{{Name: "outside", Prefixes: []string{"10.0.0.0/24", "fd00::/64"}}, {Name: "inside", Prefixes: []string{"192.168.9.0/24"}}},
		Nodes: []live.Node{
			{Name: "client", Roles: []string{"client"}, Devices: []live.Device{slow}},
			{
				Name: "director", Roles: []string{"director"},
				Devices: []live.Device{vip(device("eth0", "outside", "01", "10.0.0.1/24"), "10.0.0.100/32"), device("eth1", "inside", "11", "192.168.9.1/24")},
				IPVS: []live.Service{
					{Protocol: "TCP", Address: "10.0.0.100:80", Scheduler: "rr", Flags: "persistent 360", Destinations: []live.Destination{
						to("web1", "192.168.9.2:80", "Masq", 1), to("web2", "192.168.9.3:80", "Masq", 0), to("web3", "192.168.9.4:8080", "Masq", 2),
					}},
					{Protocol: "FWM", Address: "7", Scheduler: "wlc", Destinations: []live.Destination{to("", "192.168.9.77:0", "Masq", 1)}},
				},
			},
			{Name: "web1", Roles: []string{"real server"}, Devices: []live.Device{cut}},
			{Name: "web2", Roles: []string{"real server"}, Stopped: true},
			{Name: "web3", Roles: []string{"real server"}, Devices: []live.Device{device("eth0", "inside", "14", "192.168.9.4/24")}, Daemons: []live.Daemon{{Name: "http:8080", Port: 8080, State: "hangs"}}},
		},
		Faults: []live.Broken{
			{ID: "cut web1:eth0", Fault: live.Fault{Kind: live.Cut, Node: "web1", Device: "eth0"}},
			{ID: "stop web2", Fault: live.Fault{Kind: live.Stop, Node: "web2"}},
			{ID: "hang web3 http:8080", Fault: live.Fault{Kind: live.Hang, Node: "web3", Daemon: "http:8080"}},
			{ID: "delay client:eth0", Fault: live.Fault{Kind: live.Delay, Node: "client", Device: "eth0", Delay: 50 * time.Millisecond, Jitter: 5 * time.Millisecond}},
		},
	}
}

// many has more nodes than fit side by side.
func many() *live.Inspection {
	in := &live.Inspection{Lab: "many", Title: "Many", Networks: []live.Network{{Name: "lan", Prefixes: []string{"10.0.0.0/16"}}}}
	director := live.Node{Name: "director", Roles: []string{"director"}, Devices: []live.Device{vip(device("eth0", "lan", "01", "10.0.0.1/16"), "10.0.0.100/16")}}
	s := live.Service{Protocol: "TCP", Address: "10.0.0.100:80", Scheduler: "sh"}
	var servers []live.Node
	for i := range 18 {
		name, addr := fmt.Sprintf("web%d", i+1), fmt.Sprintf("10.0.1.%d", i+1)
		servers = append(servers, live.Node{Name: name, Roles: []string{"real server"}, Devices: []live.Device{device("eth0", "lan", "02", addr+"/16")}})
		s.Destinations = append(s.Destinations, to(name, addr+":80", "Tunnel", i))
	}
	director.IPVS = []live.Service{s}
	in.Nodes = append([]live.Node{{Name: "client", Roles: []string{"client"}, Devices: []live.Device{device("eth0", "lan", "fa", "10.0.0.250/16")}}, director}, servers...)
	return in
}

// hostile has all that means something to somebody in its words.
func hostile() *live.Inspection {
	in := directRouting()
	in.Title = "\x1b[31m</text><script>alert(1)</script> \"quoted\" \\N %%{init: {}}%% ; # & &amp; --- \n]] end"
	in.Nodes[0].Daemons = []live.Daemon{{Name: "x\"]\nclick", State: "</svg> \\ \" & | ` <b>"}}
	return in
}

func drawn(t *testing.T, in *live.Inspection, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := draw.Draw(&b, in, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var labs = map[string]func() *live.Inspection{"dr": directRouting, "nat": translation, "many": many, "hostile": hostile}

func TestGolden(t *testing.T) {
	for name, in := range labs {
		for _, format := range draw.Formats() {
			file := filepath.Join("testdata", name+"."+format)
			got := drawn(t, in(), format)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-update writes it anew):\n%s", file, d)
			}
			for line := range strings.Lines(got) {
				if format == "text" && utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
					t.Errorf("%s: wider than 80 columns: %s", file, line)
				}
			}
			if strings.ContainsAny(got, "\x1b\x00") || (format == "svg" || format == "mermaid") && strings.Contains(got, "<script") {
				t.Errorf("%s: something of the title got through", file)
			}
		}
	}
}

// The SVG is XML, asks for nothing from elsewhere, and has all its boxes inside.
func TestSVG(t *testing.T) {
	for name, in := range labs {
		svg := drawn(t, in(), "svg")
		d := xml.NewDecoder(strings.NewReader(svg))
		var size struct{ w, h float64 }
		for {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			el, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			attr := make(map[string]float64)
			for _, a := range el.Attr {
				var v float64
				if _, err := fmt.Sscanf(a.Value, "%g", &v); err == nil {
					attr[a.Name.Local] = v
				}
				if strings.Contains(a.Value, "//") && a.Name.Local != "xmlns" {
					t.Errorf("%s: %s asks for %s", name, el.Name.Local, a.Value)
				}
			}
			switch el.Name.Local {
			case "svg":
				size.w, size.h = attr["width"], attr["height"]
			case "rect":
				if attr["x"] < 0 || attr["x"]+attr["width"] > size.w || attr["y"]+attr["height"] > size.h {
					t.Errorf("%s: a box lies outside of %v: %v", name, size, attr)
				}
			case "script", "image", "use", "foreignObject":
				t.Errorf("%s: it has a %s", name, el.Name.Local)
			}
		}
	}
}

// Graphviz, where it is installed, reads the DOT.
func TestDot(t *testing.T) {
	dot, err := exec.LookPath("dot")
	if err != nil {
		t.Skip(err)
	}
	for name, in := range labs {
		cmd := exec.Command(dot, "-Tplain")
		cmd.Stdin = strings.NewReader(drawn(t, in(), "dot"))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 {
			t.Errorf("%s: %v %s", name, err, errs.String())
		}
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := draw.Draw(io.Discard, directRouting(), "png"); err == nil || !strings.Contains(err.Error(), "svg") {
		t.Error(err)
	}
}
