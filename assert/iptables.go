package assert

import (
	"context"
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// iptables checks by how much the counters of a packet filter rule grew during
// the step.
type iptables struct {
	head
	node           string
	rule           filter.IPRule
	packets, bytes *condition
}

// decodeIptables reads {node: director, rule: "-t nat -A POSTROUTING -j
// MASQUERADE", packets: ">0"}, with bytes beside or instead of packets. Its word
// says the family.
func decodeIptables(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &iptables{head: h}
	family := filter.IPv4
	if h.kind == filter.IPv6.Tool() {
		family = filter.IPv6
	}
	before := len(d.Errs)
	for k, v := range d.Pairs(n) {
		s, ok := d.Scalar(v, "a word, a rule or a condition")
		if !ok {
			continue
		}
		var err error
		switch k.Value {
		case "node":
			c.node = s
		case "rule":
			c.rule, err = filter.ParseIPRule(family, s)
		case "packets":
			c.packets, err = newCondition(s)
		case "bytes":
			c.bytes, err = newCondition(s)
		default:
			d.Fail(k, "%s", source.Unknown("key", k.Value, []string{"node", "rule", "packets", "bytes"}))
		}
		if err != nil {
			d.Fail(v, "%s: %v", k.Value, err)
		}
	}
	if len(d.Errs) > before {
		return c
	}
	if c.node == "" || c.rule == (filter.IPRule{}) || c.packets == nil && c.bytes == nil {
		d.Fail(n, "%s needs node:, rule: and packets: or bytes:, as in {node: director, rule: \"-A INPUT -j DROP\", packets: \">0\"}", h.kind)
	}
	return c
}

func newCondition(s string) (*condition, error) {
	c, err := parseCondition(s)
	return &c, err
}

func (c *iptables) Refs() []Ref { return nodeRefs(c.pos, c.node) }

// countedRule is what the rule, with all that equal it, has counted.
type countedRule struct {
	packets, bytes uint64
	found          bool
	all            []filter.CountedIP
}

func (c *iptables) read(n topology.Node) (countedRule, error) {
	var r countedRule
	err := n.Do(func() (err error) {
		r.all, err = filter.CountIP(c.rule.Family)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("node %s: %w", n.Name(), err)
	}
	for _, counted := range r.all {
		if counted.Rule == c.rule {
			r.packets += counted.Packets
			r.bytes += counted.Bytes
			r.found = true
		}
	}
	return r, nil
}

func (c *iptables) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.node)
	if err != nil {
		return nil, err
	}
	// A rule that the step itself brings begins with nothing counted.
	base, err := c.read(n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.pos, err)
	}
	wanted := fmt.Sprintf("on %s the rule %s %s counts", c.node, c.kind, c.rule)
	if c.packets != nil {
		wanted += fmt.Sprintf(" %s packets", c.packets)
	}
	if c.bytes != nil {
		wanted += fmt.Sprintf(" %s bytes", c.bytes)
	}
	return judge(func(context.Context) (Result, bool) {
		n, err := env.Node(c.node)
		if err != nil {
			return noAnswer(wanted, err)
		}
		now, err := c.read(n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		r := Result{Wanted: wanted, Seen: "there is no such rule"}
		if now.found {
			r.Seen = fmt.Sprintf("%s packets, %s bytes", growth(base.packets, now.packets), growth(base.bytes, now.bytes))
			// What went back (a rule made anew) did not grow.
			r.Pass = c.packets.grew(base.packets, now.packets) && c.bytes.grew(base.bytes, now.bytes)
		}
		if !r.Pass {
			text := filter.FormatIPCounted(now.all)
			if text == "" {
				text = "no rules\n"
			}
			r.Evidence = []Evidence{{c.kind + " rules of " + c.node + ", with what they have counted in all", text}}
		}
		return r, true
	}), nil
}

// grew reports whether a counter grew as the condition says; without one, always.
func (c *condition) grew(before, after uint64) bool {
	return c == nil || after >= before && c.holds(after-before)
}
