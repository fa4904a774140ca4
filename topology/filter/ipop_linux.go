package filter

import (
	"context"
	"fmt"
	"slices"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// The roles that IP rules play, by what they do with a packet.
const (
	// RoleSNAT gives packets another source: FullNAT rests on it.
	RoleSNAT topology.Role = "snat"
	// RoleDNAT gives packets another destination.
	RoleDNAT topology.Role = "dnat"
	// RoleMark gives packets a firewall mark, which IPVS may balance by.
	RoleMark topology.Role = "mark"
	// RoleTCPMSS lowers the segment size that TCP agrees on.
	RoleTCPMSS topology.Role = "tcpmss"
	// RoleIPDrop loses packets, with or without an answer.
	RoleIPDrop topology.Role = "ip-drop"
	// RoleIPAccept lets packets through that a later rule would not.
	RoleIPAccept topology.Role = "ip-accept"
	// RoleCount only counts.
	RoleCount topology.Role = "count"
)

// IPRole is the role that a rule plays if nobody gives it another.
func IPRole(r IPRule) topology.Role {
	switch r.Target {
	case Masquerade, SNAT:
		return RoleSNAT
	case DNAT:
		return RoleDNAT
	case SetMark:
		return RoleMark
	case TCPMSS:
		return RoleTCPMSS
	case Drop, Reject:
		return RoleIPDrop
	case Accept, Return:
		return RoleIPAccept
	}
	return RoleCount
}

// IPRuleOp is the op that appends one rule to a chain of a node, or takes it
// away again.
type IPRuleOp struct {
	node   string
	index  int
	rule   IPRule
	role   topology.Role
	why    string
	pos    source.Pos
	remove bool
}

var _ topology.Batch = IPRuleOp{}

// NewIPRule is the op that appends rule to its chain on a node. index keeps the
// keys of equal rules apart: it should be 1 for the first of them and 2 for the
// second, since with a number that other rules shift, a change of these makes
// this one anew and its counters begin again. An empty role is IPRole's.
func NewIPRule(node string, index int, rule IPRule, role topology.Role, why string, pos source.Pos) IPRuleOp {
	if role == "" {
		role = IPRole(rule)
	}
	return IPRuleOp{node: node, index: index, rule: rule.canonicalIP(), role: role, why: why, pos: pos}
}

// IPRule is the rule that the op is about.
func (o IPRuleOp) IPRule() IPRule { return o.rule }

// About implements topology.Op. The kind is "iptables" or "ip6tables"; the group
// is one chain, so that a change in another leaves it and its counters alone.
func (o IPRuleOp) About() topology.Meta {
	tool := o.rule.Family.Tool()
	return topology.Meta{
		Key:   topology.Key{Node: o.node, Kind: tool, ID: fmt.Sprintf("%d %s", o.index, o.rule)},
		Role:  o.role,
		Why:   o.why,
		Pos:   o.pos,
		Needs: o.rule.Needs(),
		Group: fmt.Sprintf("%s %s %s", tool, o.rule.Table, o.rule.Chain),
	}
}

// Shell implements topology.Op.
func (o IPRuleOp) Shell(d topology.Dialect) []string {
	command := "-A"
	if o.remove {
		command = "-D"
	}
	line := fmt.Sprintf("ip netns exec %s %s %s%s %s", o.node, d.IptablesOf(o.rule.Family == IPv6), o.rule.tableWords(), command, o.rule.Chain)
	if spec := o.rule.ipSpec(); spec != "" {
		line += " " + spec
	}
	return []string{line}
}

// Apply appends the rule to its chain, or removes the first one that equals it.
// A rule that is there is not added again, and one that is not there is not
// missed. Rules before it keep their counters.
func (o IPRuleOp) Apply(ctx context.Context, w topology.World) error {
	return o.ApplyAll(ctx, w, []topology.Op{o})
}

// ApplyAll implements topology.Batch: the kernel is asked for its rules and
// given new ones once.
func (o IPRuleOp) ApplyAll(ctx context.Context, w topology.World, ops []topology.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	node, err := w.Node(o.node)
	if err != nil {
		return err
	}
	f := o.rule.Family
	if err := node.Do(func() error { return applyIP(f, ops) }); err != nil {
		return fmt.Errorf("node %s: %s %s: %w", o.node, f.Tool(), o.rule, err)
	}
	return nil
}

func applyIP(f Family, ops []topology.Op) error {
	var tables []Table
	for _, op := range ops {
		if o, ok := op.(IPRuleOp); ok {
			tables = append(tables, o.rule.Table)
		}
	}
	backend, err := detectIP(f, tables)
	if err != nil {
		return err
	}
	rules, err := backend.List(f)
	if err != nil {
		return err
	}
	before := slices.Clone(rules)
	for _, op := range ops {
		o, ok := op.(IPRuleOp)
		if !ok || o.rule.Family != f {
			return fmt.Errorf("%s is no rule of %s", op.About().Key, f.Tool())
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
	return backend.Replace(f, rules)
}

// Undo implements topology.Op; the undoing of an undoing is the rule itself.
func (o IPRuleOp) Undo() (topology.Op, bool) {
	o.remove = !o.remove
	return o, true
}
