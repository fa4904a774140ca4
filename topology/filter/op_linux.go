package filter

import (
	"context"
	"fmt"
	"slices"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

const (
	// Kind is the kind of a rule's key.
	Kind = "arp-rule"
	// Group is the ordered chain that a node's rules are members of.
	Group = "arp-rules"
	// Feature is what a kernel must have for a rule: one of the backends
	// (see Detect).
	Feature topology.Feature = "arp-rules"
)

// The roles that ARP rules play where they hide a virtual IP.
const (
	// RoleInputDrop keeps a real server from answering ARP for the VIP.
	RoleInputDrop topology.Role = "arp-input-drop"
	// RoleOutputMangle keeps a real server from asking with the VIP as its
	// own address.
	RoleOutputMangle topology.Role = "arp-output-mangle"
)

// Rule is the op that appends one rule to a node's ARP filter, or takes it
// away again.
type Rule struct {
	node   string
	index  int
	rule   ArpRule
	role   topology.Role
	why    string
	pos    source.Pos
	remove bool
}

var _ topology.Op = Rule{}

// NewRule is the op that appends rule to the ARP filter of a node. index is
// the rule's place among the node's rules, from 1; it keeps the keys of equal
// rules apart.
func NewRule(node string, index int, rule ArpRule, role topology.Role, why string, pos source.Pos) Rule {
	return Rule{node: node, index: index, rule: rule.canonical(), role: role, why: why, pos: pos}
}

// ArpRule is the rule that the op is about.
func (o Rule) ArpRule() ArpRule { return o.rule }

// About implements topology.Op.
func (o Rule) About() topology.Meta {
	return topology.Meta{
		Key:   topology.Key{Node: o.node, Kind: Kind, ID: fmt.Sprintf("%d %s", o.index, o.rule)},
		Role:  o.role,
		Why:   o.why,
		Pos:   o.pos,
		Needs: []topology.Feature{Feature},
		Group: Group,
	}
}

// Shell implements topology.Op.
func (o Rule) Shell(d topology.Dialect) []string {
	command := "-A"
	if o.remove {
		command = "-D"
	}
	return []string{fmt.Sprintf("ip netns exec %s %s %s %s %s", o.node, d.Arptables, command, o.rule.Chain, o.rule.spec())}
}

// Apply appends the rule to the node's ARP filter, or removes the first one
// that equals it. A rule that is there is not added again, and one that is not
// there is not missed. The counters of the node's rules start again.
func (o Rule) Apply(ctx context.Context, w topology.World) error {
	return o.ApplyAll(ctx, w, []topology.Op{o})
}

// ApplyAll implements topology.Batch: the kernel is asked for its rules and
// given new ones once.
func (o Rule) ApplyAll(ctx context.Context, w topology.World, ops []topology.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	node, err := w.Node(o.node)
	if err != nil {
		return err
	}
	if err := node.Do(func() error { return applyAll(ops) }); err != nil {
		return fmt.Errorf("node %s: ARP rule %s: %w", o.node, o.rule, err)
	}
	return nil
}

func applyAll(ops []topology.Op) error {
	backend, err := Detect()
	if err != nil {
		return err
	}
	rules, err := backend.List()
	if err != nil {
		return err
	}
	before := slices.Clone(rules)
	for _, op := range ops {
		o, ok := op.(Rule)
		if !ok {
			return fmt.Errorf("%s is no ARP rule", op.About().Key)
		}
		i := slices.Index(rules, o.rule)
		switch {
		case (i >= 0) != o.remove:
		case o.remove:
			rules = slices.Delete(rules, i, i+1)
		default:
			rules = append(rules, o.rule)
		}
	}
	if slices.Equal(rules, before) {
		return nil
	}
	return backend.Replace(rules)
}

// Undo implements topology.Op; the undoing of an undoing is the rule itself.
func (o Rule) Undo() (topology.Op, bool) {
	o.remove = !o.remove
	return o, true
}
