package engine_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/live"
)

// TestFaultInside has the faults that a kernel with IPVS, netem and the legacy
// tables alone can have, and compares with what the machine's own tools say.
func TestFaultInside(t *testing.T) {
	if os.Getenv("LVSLAB_INSIDE") == "" {
		t.Skip("needs a kernel with IPVS, netem and the legacy tables; package inside runs it in a guest")
	}
	l := liveLab(t, balanced)
	say := func(node, line string) string {
		t.Helper()
		out, err := l.InNode(t, node, strings.Fields(line)...)
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return numbers.ReplaceAllString(string(out), "")
	}
	look := func(node string) []string {
		return []string{
			say(node, "ip -j addr"), say(node, "ip -j route show table all"), say(node, "tc qdisc show"), say(node, "sysctl -a -r ^net.ipv4.(conf|vs)"),
			say(node, "ipvsadm -Sn"), say(node, "arptables-legacy -nL"), say(node, "iptables-legacy -S"),
		}
	}
	for _, c := range []struct {
		fault      live.Fault
		line, want string
	}{
		{live.Fault{Kind: live.Delay, Node: "web1", Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond}, "tc qdisc show dev eth0", "delay 50"},
		{live.Fault{Kind: live.Delay, Node: "client", Delay: 50 * time.Millisecond}, "tc qdisc show dev eth0", "delay 55"},
		{live.Fault{Kind: live.Lose, Node: "director", Percent: 100}, "tc qdisc show dev eth0", "loss 100%"},
		{live.Fault{Kind: live.Corrupt, Node: "client", Percent: 5}, "tc qdisc show dev eth0", "corrupt 5%"},
		{live.Fault{Kind: live.DropARP, Node: "web1", Address: "10.5.0.2"}, "arptables-legacy -nL INPUT", "10.5.0.2"},
		{live.Fault{Kind: live.DropARP, Node: "director"}, "arptables-legacy -nL INPUT", "10.5.0.100"},
		{live.Fault{Kind: live.Stop, Node: "web2"}, "", ""},
		{live.Fault{Kind: live.Stop, Node: "director"}, "", ""},
	} {
		node := c.fault.Node
		before := look(node)
		fault(t, l, c.fault)
		if c.line != "" {
			if got := say(node, c.line); !strings.Contains(got, c.want) {
				t.Errorf("%s: %s says %q", c.fault, c.line, got)
			}
		}
		heal(t, l, node)
		if d := cmp.Diff(before, look(node)); d != "" {
			t.Errorf("%s has left:\n%s", c.fault, d)
		}
	}
	if got, status := get(t, l, "http://10.5.0.100/"); !strings.HasPrefix(got, "web") {
		t.Errorf("in the end the service answers %q, curl ended with %d", got, status)
	}
}
