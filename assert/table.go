package assert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// table checks a node's IPVS table, or one service of it, against rules in
// ipvsadm's words.
type table struct {
	head
	node string
	// service is the one that is compared; "" for the whole table.
	service string
	rules   ipvs.Table
	// lines are where the rules stand, where they are a list; nil where they are
	// one text.
	lines []entryLines
}

// entryLines are where a service's rules stand.
type entryLines struct {
	service source.Pos
	servers []source.Pos // in the order of the entry's real servers
}

// tableForm is how a lab file says it.
type tableForm struct {
	Node string `yaml:"node,required"`
	// Service is the virtual service whose rules are compared; the whole table
	// is when it is not given.
	Service string    `yaml:"service"`
	Rules   ruleLines `yaml:"rules,required"`
}

func decodeTable(d *source.Decoder, n *yaml.Node, h head) Check {
	var c tableForm
	before := len(d.Errs)
	if d.Decode(n, &c); len(d.Errs) > before {
		return nil
	}
	t, err := ipvs.ParseRules("", c.Rules.text)
	var list source.List
	if errors.As(err, &list) {
		for _, e := range list {
			if at := e.Pos.Line - 1; at >= 0 && at < len(c.Rules.at) {
				d.Errs.Add(c.Rules.at[at], "%s", e.Msg)
			} else {
				d.Fail(n, "rules, line %d: %s", e.Pos.Line, e.Msg)
			}
		}
		return nil
	}
	if err != nil {
		d.Fail(n, "rules: %v", err)
		return nil
	}
	check := &table{head: h, node: c.Node, service: c.Service, rules: t}
	if len(c.Rules.at) > 0 {
		if check.lines, err = c.Rules.entries(t); err != nil {
			d.Fail(n, "rules: %v", err)
		}
	}
	if c.Service != "" && len(t) != 1 {
		d.Fail(n, "the rules are those of one service, %s, so they add one service (-A); found %d", c.Service, len(t))
	}
	return check
}

// ruleLines are rules as one text, or as a list of lines, which each have a place.
type ruleLines struct {
	text string
	at   []source.Pos
}

// UnmarshalSource reads either.
func (r *ruleLines) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.text, _ = d.Scalar(n, "rules as ipvsadm -S -n prints them, as one text or as a list of lines")
		return
	}
	for _, item := range n.Content {
		line, ok := d.Scalar(item, "a rule as ipvsadm -S -n prints it")
		if ok && strings.ContainsAny(line, "\r\n") {
			d.Fail(item, "wanted one rule, found several lines")
			line = "#"
		}
		r.text += strings.Join(strings.Fields(line), " ") + "\n"
		r.at = append(r.at, d.Pos(item))
	}
}

// errRuleOrder is what a list of rules does not keep to.
var errRuleOrder = errors.New("in a list, each service (-A) is followed by its real servers (-a), and nothing else stands there")

// entries are the places of the rules of t, which are in the order of the list.
func (r *ruleLines) entries(t ipvs.Table) ([]entryLines, error) {
	var out []entryLines
	for i, line := range strings.Split(strings.TrimSuffix(r.text, "\n"), "\n") {
		switch rule := strings.TrimPrefix(line, "ipvsadm "); {
		case strings.HasPrefix(rule, "-A"), strings.HasPrefix(rule, "--add-service"):
			out = append(out, entryLines{service: r.at[i]})
		case len(out) > 0 && (strings.HasPrefix(rule, "-a") || strings.HasPrefix(rule, "--add-server")):
			last := &out[len(out)-1]
			last.servers = append(last.servers, r.at[i])
		default:
			return nil, errRuleOrder
		}
	}
	if len(out) != len(t) {
		return nil, errRuleOrder
	}
	for i, e := range out {
		if len(e.servers) != len(t[i].Destinations) {
			return nil, errRuleOrder
		}
	}
	return out, nil
}

func (c *table) Refs() []Ref {
	refs := nodeRefs(c.pos, c.node)
	if c.service != "" {
		refs = append(refs, Ref{c.pos, AddressRef, c.service})
	}
	return refs
}

func (c *table) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.node)
	if err != nil {
		return nil, err
	}
	if c.service != "" {
		s, ok := env.Service(c.service)
		if !ok {
			return nil, fmt.Errorf("%s is no virtual service of the lab; leave service: out to compare the whole table", c.service)
		}
		if found := c.rules[0].Service; !found.Same(s) {
			return nil, fmt.Errorf("the rules are those of %s, but %s is %s", found.Name(), c.service, s.Name())
		}
		return judge(func(ctx context.Context) (Result, bool) { return c.judgeService(ctx, n, tablesRest(env)) }), nil
	}
	wanted := "the IPVS table of " + c.node + " is empty"
	if len(c.rules) > 0 {
		wanted = fmt.Sprintf("the IPVS table of %s holds %s", c.node, oneLine(c.rules))
	}
	return judge(func(ctx context.Context) (Result, bool) {
		t, err := readTable(ctx, n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		r := Result{Wanted: wanted, Pass: t.Equal(c.rules), Seen: "an empty table"}
		if len(t) > 0 {
			r.Seen = oneLine(t)
		}
		if !r.Pass {
			if list := c.differences(t); len(list) > 0 {
				r.At = list[0].at
				if r.Seen == oneLine(c.rules) { // which says nothing of thresholds
					r.Seen = list[0].seen
				}
			}
			r.Evidence = []Evidence{{"IPVS table of " + c.node, ipvs.FormatList(t)}}
		}
		return r, true
	}), nil
}

// judgeService compares one service with its rules. What is wrong in a table at
// rest is not looked at again.
func (c *table) judgeService(ctx context.Context, n topology.Node, rest bool) (Result, bool) {
	want := c.rules[0]
	servers := "no real server"
	if k := len(want.Destinations); k > 0 {
		servers = fmt.Sprintf("%d real servers", k)
		if k == 1 {
			servers = "1 real server"
		}
	}
	wanted := fmt.Sprintf("%s has %s as its rules say, with %s", c.node, c.service, servers)
	have, err := readService(ctx, n, want.Service)
	if err != nil {
		return noAnswer(wanted, err)
	}
	list := c.differences(have)
	if len(list) == 0 {
		return Result{Pass: true, Wanted: wanted, Seen: oneLine(have)}, false
	}
	r := Result{Wanted: wanted, At: list[0].at, Evidence: []Evidence{{"rules of " + c.service + " on " + c.node, none(ipvs.FormatCommands(have))}}}
	if list[0].wanted != "" {
		r.Wanted = fmt.Sprintf("%s has %s with %s", c.node, c.service, list[0].wanted)
	}
	const most = 4
	for i, x := range list {
		if i == most {
			r.Seen += fmt.Sprintf("; and %d more differences", len(list)-most)
			break
		}
		if i > 0 {
			r.Seen += "; "
		}
		r.Seen += x.seen
	}
	return r, !rest
}

func none(text string) string {
	if text == "" {
		return "no such service\n"
	}
	return text
}

// oneLine is a table as rules with semicolons between.
func oneLine(t ipvs.Table) string {
	return strings.ReplaceAll(strings.TrimSpace(ipvs.FormatRules(t)), "\n", "; ")
}

// difference is one thing that is not as a rule has it.
type difference struct {
	// at is the rule's place; the check's own where it has none.
	at source.Pos
	// wanted is the rule, and seen what is there instead, in words.
	wanted, seen string
}

// differences are what is otherwise in have, those at rules in their order
// first.
func (c *table) differences(have ipvs.Table) []difference {
	var out, more []difference
	for i, want := range c.rules {
		want = want.Normal()
		var at entryLines
		if c.lines != nil {
			at = c.lines[i]
		}
		e, ok := have.Find(want.Service)
		if !ok {
			out = append(out, difference{at.service, want.Name() + " in the table", "there is no service " + want.Name()})
			continue
		}
		got := e.Normal()
		if words := ipvs.DiffService(got.Service, want.Service); words != "" {
			out = append(out, difference{at.service, ipvs.FormatService(want.Service), words})
		}
		for j, w := range want.Destinations {
			var pos source.Pos
			if at.servers != nil {
				pos = at.servers[j]
			}
			rule := ipvs.FormatDestination(w)
			if g, ok := got.Find(w); !ok {
				out = append(out, difference{pos, rule, w.Addr.String() + " is not among its real servers"})
			} else if words := ipvs.DiffDestination(*g, w); words != "" {
				out = append(out, difference{pos, rule, words})
			}
		}
		for _, g := range got.Destinations {
			if _, ok := want.Find(g); !ok {
				more = append(more, difference{at.service, "no real server but those of its rules", "there is " + ipvs.FormatDestination(g) + ", which is not wanted"})
			}
		}
	}
	if c.service == "" {
		for _, e := range have {
			if _, ok := c.rules.Find(e.Service); !ok {
				more = append(more, difference{c.pos, "no other service", "there is " + e.Name() + ", which is not wanted"})
			}
		}
	}
	out = append(out, more...)
	for i := range out {
		if !out[i].at.IsValid() {
			out[i].at = c.pos
		}
	}
	return slices.Clip(out)
}

func readTable(ctx context.Context, n topology.Node) (ipvs.Table, error) {
	conn, err := ipvs.Open(n)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Table(ctx)
}

// readService is the table with nothing but one service, if it is there.
func readService(ctx context.Context, n topology.Node, s ipvs.Service) (ipvs.Table, error) {
	conn, err := ipvs.Open(n)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Only(ctx, s)
}
