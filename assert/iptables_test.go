package assert

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

func TestDecodeIptables(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`iptables: {node: director, rule: "-t nat -A POSTROUTING -j MASQUERADE", packets: 0}`, ""},
		{`ip6tables: {node: director, rule: "-A INPUT -s fd00::/64 -j DROP", bytes: ">0"}`, ""},
		{`iptables: {node: director, rule: "-A INPUT -s fd00::/64 -j DROP", packets: 1}`, "fd00::"},
		{`iptables: {node: director, rule: "-A INPUT -j DORP", packets: 1}`, "DROP"},
		{`iptables: {node: director, rule: "-A INPUT", packets: some}`, "some"},
		{`iptables: {node: director, rule: "-A INPUT"}`, "needs"},
		{`iptables: {rule: "-A INPUT", packets: 1}`, "needs node:"},
		{`iptables: {node: director, rule: "-A INPUT", pakets: 1}`, "packets"},
	} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(c.text), &doc); err != nil {
			t.Fatal(err)
		}
		d := &source.Decoder{File: "lab.yaml"}
		check := Decode(d, doc.Content[0])
		err := d.Errs.Err()
		switch {
		case c.want == "" && (err != nil || check == nil || len(check.Refs()) != 1):
			t.Errorf("%s: %v, %v", c.text, check, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, wanted %q", c.text, err, c.want)
		}
	}
}

func TestGrew(t *testing.T) {
	some, none := condition{">", 0}, condition{"=", 0}
	for _, c := range []struct {
		cond          *condition
		before, after uint64
		want          bool
	}{
		{nil, 5, 0, true},
		{&some, 1, 2, true},
		{&some, 2, 2, false},
		{&none, 2, 2, true},
		{&none, 2, 1, false},
	} {
		if got := c.cond.grew(c.before, c.after); got != c.want {
			t.Errorf("%v from %d to %d: %v", c.cond, c.before, c.after, got)
		}
	}
}
