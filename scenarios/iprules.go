package scenarios

import (
	"errors"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// IPTablesRule is a rule in iptables' words.
type IPTablesRule struct {
	Pos  source.Pos
	Rule filter.IPRule
}

// UnmarshalSource reads the words.
func (r *IPTablesRule) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	r.Pos, r.Rule = decodeIPRule(d, n, filter.IPv4)
}

// IP6TablesRule is a rule in ip6tables' words.
type IP6TablesRule struct {
	Pos  source.Pos
	Rule filter.IPRule
}

// UnmarshalSource reads the words.
func (r *IP6TablesRule) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	r.Pos, r.Rule = decodeIPRule(d, n, filter.IPv6)
}

func decodeIPRule(d *source.Decoder, n *yaml.Node, family filter.Family) (source.Pos, filter.IPRule) {
	s, ok := d.Scalar(n, "a rule in the words of "+family.Tool())
	if !ok {
		return d.Pos(n), filter.IPRule{}
	}
	rule, err := filter.ParseIPRule(family, s)
	if err != nil {
		d.Fail(n, "%v", err)
	}
	return d.Pos(n), rule
}

// snatRule is FullNAT's rule for one virtual IP: what IPVS has scheduled for it
// leaves with the director's own address (iptables-extensions(8), ipvs).
func snatRule(v *VirtualService) (filter.IPRule, error) {
	family := filter.IPv4
	if v.vip().Is6() {
		family = filter.IPv6
	}
	text := "-t nat -A POSTROUTING -m ipvs"
	if v.Address.FWMark == 0 {
		text += fmt.Sprintf(" --vaddr %s", v.vip())
		if p := v.Address.Addr.Port(); p != 0 {
			text += fmt.Sprintf(" --vport %d", p)
		}
	} else {
		text += " --ipvs"
	}
	return filter.ParseIPRule(family, text+" -j MASQUERADE")
}

// filterOps are the packet filter rules of the nodes: their own, then those of
// forwarding methods.
func (l *Lab) filterOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		var rules []filter.IPRule
		add := func(r filter.IPRule, role topology.Role, why string, pos source.Pos) {
			// Counted among its equals, so that a rule that goes away leaves
			// the others' keys, and their counters, as they are.
			index := 1
			for _, o := range rules {
				if o == r {
					index++
				}
			}
			rules = append(rules, r)
			ops = append(ops, filter.NewIPRule(e.Name, index, r, role, why, pos))
		}
		for _, r := range e.Value.IPTables {
			add(r.Rule, filter.IPRole(r.Rule), e.Name+"'s own rule", r.Pos)
		}
		for _, r := range e.Value.IP6Tables {
			add(r.Rule, filter.IPRole(r.Rule), e.Name+"'s own rule", r.Pos)
		}
		l.methodsOf(e.Name, func(service string, v *VirtualService, r RealServer, m forward.Method) {
			if !m.SNAT {
				return
			}
			rule, err := snatRule(v)
			if err != nil || slices.Contains(rules, rule) {
				return // checked with the service
			}
			add(rule, filter.RoleSNAT, fmt.Sprintf("real servers of %s see %s as their client, and answer it", service, e.Name), r.Pos)
		})
	}
	return ops
}

// checkSNAT finds what FullNAT cannot be reached for.
func checkSNAT(v *VirtualService, m forward.Method) error {
	if !m.SNAT {
		return nil
	}
	if v.Address.Protocol == ipvs.UDP && v.OnePacket {
		return errors.New("one-packet scheduling keeps no connection that FullNAT (NAT + conntrack + SNAT) could translate back")
	}
	_, err := snatRule(v)
	return err
}
