package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/topology/source"
)

const toBreak = `
title: Something to break
networks: {lan: 10.5.0.0/24}
nodes:
  client: {links: {eth0: lan 10.5.0.250/24}}
  web1:
    links: {eth0: lan 10.5.0.2/24}
    devices: {lo: {addresses: [10.9.9.9/32]}}
    routes: [10.7.0.0/16 via 10.5.0.250 metric 50]
    sysctls: {net.ipv4.conf.all.arp_announce: 2}
    arp_rules: [-A INPUT -d 10.5.0.77 -j DROP]
    serve: [http, udp, dns]
  web2:
    links: {eth0: lan 10.5.0.3/24}
    serve: [{service: real, port: 8080, command: busybox httpd -f -p 8080 -h /etc}]
`

// numbers are those that the kernel counts up from device to device.
var numbers = regexp.MustCompile(`"(ifindex|link_index|link_netnsid|new_ifindex)":-?\d+,?`)

// looks is how a node stands, in the words of the machine's own tools.
func looks(t *testing.T, l *engine.Live, node string) []string {
	t.Helper()
	var all []string
	for _, line := range []string{"ip -j addr", "ip -j route show table all", "ip -j rule", "tc qdisc show", "sysctl -a -r ^net.ipv4.conf"} {
		out, err := l.InNode(t, node, strings.Fields(line)...)
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		all = append(all, line, numbers.ReplaceAllString(string(out), ""))
	}
	_, nodes := inspect(t, l)
	return append(all, nodes[node].ARPRules...)
}

// get is what answers the client, which may take its time, and curl's exit
// status.
func get(t *testing.T, l *engine.Live, url string) (answer string, status int) {
	t.Helper()
	return getWithin(t, l, url, 20*time.Second)
}

// inVain is how long somebody waits who shall get no answer.
const inVain = 500 * time.Millisecond

func getWithin(t *testing.T, l *engine.Live, url string, most time.Duration) (answer string, status int) {
	t.Helper()
	out, err := l.InNode(t, "client", "curl", "-s", "-m", fmt.Sprint(most.Seconds()), url)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func fault(t *testing.T, l *engine.Live, f live.Fault) *live.Change {
	t.Helper()
	c, err := l.Fault(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Commands); n == 0 || c.Done != n {
		t.Errorf("%s: %d of %d commands", f, c.Done, n)
	}
	return c
}

func heal(t *testing.T, l *engine.Live, words ...string) *live.Change {
	t.Helper()
	c, err := l.Heal(t.Context(), live.Heal{IDs: words})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Exit statuses of curl(1).
const (
	curlRefused   = 7
	curlNoAnswer  = 28
	curlNoRoute   = 7 // as soon as nobody answers ARP
	firstWeb      = "http://10.5.0.2/"
	machinesOwn   = "http://10.5.0.3:8080/hostname"
	answerOfFirst = "web1 10.5.0.250\n"
)

// TestFaultAndHeal breaks a lab in every way that this kernel can, and finds it
// as it was afterwards.
func TestFaultAndHeal(t *testing.T) {
	l := liveLab(t, toBreak)
	before := looks(t, l, "web1")
	works := func() {
		t.Helper()
		if got, status := get(t, l, firstWeb); got != answerOfFirst {
			t.Errorf("web1 answers %q, curl ended with %d", got, status)
		}
	}
	works()
	for _, c := range []struct {
		fault  live.Fault
		status []int
	}{
		{live.Fault{Kind: live.Cut, Node: "web1"}, []int{curlNoAnswer, curlNoRoute}},
		{live.Fault{Kind: live.Kill, Node: "web1", Daemon: "http"}, []int{curlRefused}},
		{live.Fault{Kind: live.Hang, Node: "web1", Daemon: "http"}, []int{curlNoAnswer}},
		{live.Fault{Kind: live.Stop, Node: "web1"}, []int{curlNoAnswer, curlNoRoute}},
		{live.Fault{Kind: live.DropARP, Node: "web1"}, []int{curlNoAnswer, curlNoRoute}},
	} {
		other := looks(t, l, "web2")
		fault(t, l, c.fault)
		if out, err := l.InNode(t, "client", "ip", "neigh", "flush", "all"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		most := 20 * time.Second
		if slices.Contains(c.status, curlNoAnswer) {
			most = inVain
		}
		if got, status := getWithin(t, l, firstWeb, most); !slices.Contains(c.status, status) {
			t.Errorf("%s: %q, curl ended with %d, wanted %v", c.fault, got, status, c.status)
		}
		if s, err := l.Status(t.Context()); err != nil || len(s.Faults) != 1 || s.Faults[0].Kind != c.fault.Kind ||
			slices.Contains(s.Nodes, "web1") != (c.fault.Kind != live.Stop) {
			t.Errorf("%s: the status is %+v, %v", c.fault, s, err)
		}
		heal(t, l)
		if out, err := l.InNode(t, "client", "ip", "neigh", "flush", "all"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		works()
		if d := cmp.Diff(before, looks(t, l, "web1")); d != "" {
			t.Errorf("%s has left:\n%s", c.fault, d)
		}
		if d := cmp.Diff(other, looks(t, l, "web2")); d != "" {
			t.Errorf("%s changed another node:\n%s", c.fault, d)
		}
	}
}

// What hangs takes connections, and goes on with them where it was.
func TestHang(t *testing.T) {
	l := liveLab(t, toBreak)
	if got, status := get(t, l, machinesOwn); got == "" {
		t.Fatalf("curl ended with %d", status)
	}
	ask := func(most time.Duration) string {
		t.Helper()
		out, _ := l.InNode(t, "client", "bash", "-c", fmt.Sprintf("exec 3<>/dev/udp/10.5.0.2/7000; echo hello >&3; timeout %g head -n 1 <&3", most.Seconds()))
		return strings.TrimSpace(string(out))
	}
	fault(t, l, live.Fault{Kind: live.Hang, Node: "web1", Daemon: "http"})
	if out, err := l.InNode(t, "client", "timeout", "20", "bash", "-c", "exec 3<>/dev/tcp/10.5.0.2/80"); err != nil {
		t.Errorf("no connection to what hangs: %v\n%s", err, out)
	}
	if got, status := getWithin(t, l, firstWeb, inVain); status != curlNoAnswer {
		t.Errorf("the page of what hangs is %q, curl ended with %d", got, status)
	}
	fault(t, l, live.Fault{Kind: live.Hang, Node: "web1", Daemon: "udp"})
	if got := ask(inVain); got != "" {
		t.Errorf("UDP is answered %q", got)
	}
	fault(t, l, live.Fault{Kind: live.Hang, Node: "web2"})
	if got, status := getWithin(t, l, machinesOwn, inVain); status != curlNoAnswer {
		t.Errorf("the machine's daemon answers %q, curl ended with %d", got, status)
	}
	in, nodes := inspect(t, l)
	if len(in.Faults) != 3 || nodes["web2"].Daemons[0].State != "hangs" {
		t.Errorf("%+v, %+v", in.Faults, nodes["web2"].Daemons)
	}
	// One that is killed comes back as it was, and one that hangs can be killed.
	fault(t, l, live.Fault{Kind: live.Kill, Node: "web2"})
	if got, status := get(t, l, machinesOwn); status != curlRefused {
		t.Errorf("killed, it answers %q, curl ended with %d", got, status)
	}
	heal(t, l, "kill web2")
	if got, status := getWithin(t, l, machinesOwn, inVain); status != curlNoAnswer {
		t.Errorf("killed and back, it answers %q, curl ended with %d", got, status)
	}
	// Without an answer, one who waits gets it in the end.
	late := make(chan string, 1)
	go func() {
		out, _ := l.InNode(t, "client", "curl", "-s", "-m", "60", firstWeb)
		late <- string(out)
	}()
	heal(t, l)
	if got := <-late; got != answerOfFirst {
		t.Errorf("who waited got %q", got)
	}
	if got, status := get(t, l, machinesOwn); got == "" {
		t.Errorf("healed, curl ended with %d", status)
	}
	if got := ask(20 * time.Second); !strings.HasPrefix(got, answerOfFirst[:4]) {
		t.Errorf("healed, UDP is answered %q", got)
	}
	var log strings.Builder
	if err := l.Logs(t.Context(), live.Logs{Node: "web1"}, &log); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"broken on purpose: hang web1/http:80", "healed: hang web1/udp:7000", " GET /\n", " datagram hello", "10.5.0.250:"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log.String())
		}
	}
}

// A node that is switched off keeps its disk, and nothing that ran on it.
func TestStopKeepsFiles(t *testing.T) {
	l := liveLab(t, toBreak)
	do := func(line string) string {
		t.Helper()
		var out strings.Builder
		exit, err := l.Exec(t.Context(), live.Exec{Node: "web1", Args: []string{"sh", "-c", line}}, live.Streams{Stdout: &out, Stderr: &out})
		if err != nil || exit.Code != 0 {
			t.Fatalf("%s: %v, %+v: %s", line, err, exit, out.String())
		}
		return out.String()
	}
	do("echo mine >/etc/motd; ip addr add 10.5.0.88/24 dev eth0")
	host, _ := os.ReadFile("/etc/motd")
	if strings.Contains(string(host), "mine") {
		t.Fatal("the machine's own file was written")
	}
	running := make(chan live.Exit, 1)
	started := make(chan struct{})
	go func() {
		exit, _ := l.Exec(t.Context(), live.Exec{Node: "web1", Args: []string{"sh", "-c", "echo here; sleep 1000"}}, live.Streams{Stdout: says(func() { close(started) })})
		running <- exit
	}()
	<-started
	fault(t, l, live.Fault{Kind: live.Stop, Node: "web1"})
	select {
	case <-running:
	case <-time.After(time.Minute):
		t.Fatal("a program outlives its node")
	}
	if _, err := l.Exec(t.Context(), live.Exec{Node: "web1", Args: []string{"true"}}, live.Streams{}); err == nil {
		t.Error("a program runs in a node that is switched off")
	}
	if _, err := l.Fault(t.Context(), live.Fault{Kind: live.Cut, Node: "web1"}); err == nil || !strings.Contains(err.Error(), "switched off") {
		t.Error(err)
	}
	heal(t, l, "web1")
	if got := do("cat /etc/motd; hostname; ip -o addr show dev eth0; ls /sys/class/net"); !strings.Contains(got, "mine\nweb1\n") || !strings.Contains(got, "10.5.0.2/24") ||
		strings.Contains(got, "10.5.0.88") || !strings.Contains(got, "eth0\nlo\n") {
		t.Errorf("switched on again, the node has\n%s", got)
	}
	if got, status := get(t, l, firstWeb); got != answerOfFirst {
		t.Errorf("web1 answers %q, curl ended with %d", got, status)
	}
}

// says calls first when something is written for the first time.
type says func()

func (s says) Write(p []byte) (int, error) { s(); return len(p), nil }

// A fault that cannot be is told as a mistake of whoever asked, and a heal of
// nothing, too.
func TestFaultMisuse(t *testing.T) {
	l := liveLab(t, toBreak)
	var mistake *source.Error
	if _, err := l.Fault(t.Context(), live.Fault{Kind: live.Cut, Node: "web3"}); !errors.As(err, &mistake) {
		t.Errorf("an unknown node: %v", err)
	}
	if _, err := l.Heal(t.Context(), live.Heal{}); !errors.As(err, &mistake) {
		t.Errorf("nothing to heal: %v", err)
	}
	fault(t, l, live.Fault{Kind: live.Cut, Node: "web1"})
	data, err := json.Marshal(heal(t, l, "cut web1"))
	if err != nil || !strings.Contains(string(data), `"commands":["ip -n lan link set web1-eth0 up"]`) {
		t.Errorf("%s, %v", data, err)
	}
}
