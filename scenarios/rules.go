package scenarios

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Rules are IPVS rules as text, as `ipvsadm -S -n` prints them. They are taken
// as a whole or not at all.
type Rules struct {
	Pos   source.Pos
	Table ipvs.Table
}

// UnmarshalSource reads the rules; an error is told at its own line and column.
func (r *Rules) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	r.Pos = d.Pos(n)
	text, ok := d.Scalar(n, "rules as ipvsadm -S -n prints them")
	if !ok {
		return
	}
	if strings.TrimSpace(text) == "" {
		d.Fail(n, "rules are empty; leave the key out for an empty table")
		return
	}
	table, err := ipvs.ParseRules("", text)
	var list source.List
	if errors.As(err, &list) {
		for _, e := range list {
			d.Errs.Add(d.Within(n, e.Pos.Line, e.Pos.Col), "%s", e.Msg)
		}
		return
	}
	if err != nil {
		d.Fail(n, "%v", err)
		return
	}
	r.Table = table
	failUnknownNames(d, n, text, table)
}

// failUnknownNames finds schedulers and persistence engines that Linux has not.
// ipvsadm takes any name, and the kernel refuses it.
func failUnknownNames(d *source.Decoder, n *yaml.Node, text string, table ipvs.Table) {
	engines := []string{"sip"}
	for _, e := range table {
		if !slices.Contains(schedulers(), e.Scheduler) {
			failWord(d, n, text, e.Scheduler, source.Unknown("scheduler", e.Scheduler, schedulers()))
		}
		if e.PE != "" && !slices.Contains(engines, e.PE) {
			failWord(d, n, text, e.PE, source.Unknown("persistence engine", e.PE, engines))
		}
	}
}

// failWord tells an error where a rule has an argument: alone, or behind its
// option (-sNAME, --scheduler=NAME).
func failWord(d *source.Decoder, n *yaml.Node, text, argument, msg string) {
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for col := 0; col < len(line); {
			end := strings.IndexAny(line[col:]+" ", " \t\r\v\f")
			if word := line[col : col+end]; strings.HasSuffix(word, argument) && (len(word) == len(argument) || word[0] == '-') {
				d.Errs.Add(d.Within(n, i+1, col+end-len(argument)+1), "%s", msg)
				return
			}
			col += end + 1
		}
	}
	d.Fail(n, "%s", msg)
}

// ruleOps are the tables that nodes are given as text, after those of the
// virtual services.
func (l *Lab) ruleOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		r := e.Value.Rules
		if r == nil {
			continue
		}
		for _, entry := range r.Table {
			ops = append(ops, ipvs.NewServiceOp(e.Name, entry.Service,
				fmt.Sprintf("%s's own rules: %s, scheduled by %s", e.Name, entry.Name(), entry.Scheduler), r.Pos))
			for _, d := range entry.Destinations {
				ops = append(ops, ipvs.NewDestinationOp(e.Name, entry.Service, d,
					fmt.Sprintf("%s's own rules: %s is a real server of %s", e.Name, d.Addr, entry.Name()), r.Pos))
			}
		}
	}
	return ops
}

// checkRules finds rules for a service that the lab has otherwise, too.
func (l *Lab) checkRules(errs *source.List) {
	for _, e := range l.Nodes {
		if e.Value.Rules == nil {
			continue
		}
		for _, v := range l.VirtualServices {
			if !slices.Contains(v.Value.Directors, e.Name) || v.Value.ManagedBy == ManagedByRules {
				continue
			}
			if _, twice := e.Value.Rules.Table.Find(v.Value.service()); twice {
				errs.Add(e.Value.Rules.Pos, "the rules of %s have %s, which is the virtual service %s at %s; say managed_by: rules there if the rules shall write it", e.Name, v.Value.service().Name(), v.Name, v.Pos)
			}
		}
	}
}
