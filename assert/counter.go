package assert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// condition is a comparison with a number: ">0", "=4", "4", "<2", "!=0".
type condition struct {
	op string
	n  uint64
}

func parseCondition(s string) (condition, error) {
	c := condition{op: "="}
	rest := s
	for _, op := range []string{">=", "<=", "!=", ">", "<", "="} {
		if after, ok := strings.CutPrefix(s, op); ok {
			c.op, rest = op, after
			break
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
	if err != nil {
		return c, fmt.Errorf("wanted a condition such as \">0\", \"=4\" or \"<2\", found %q", s)
	}
	c.n = n
	return c, nil
}

func (c condition) String() string { return c.op + strconv.FormatUint(c.n, 10) }

func (c condition) holds(n uint64) bool {
	switch cmp.Compare(n, c.n) {
	case -1:
		return c.op == "<" || c.op == "<=" || c.op == "!="
	case 1:
		return c.op == ">" || c.op == ">=" || c.op == "!="
	}
	return c.op == "=" || c.op == ">=" || c.op == "<="
}

// counter checks by how much kernel counters grew during the step.
type counter struct {
	head
	nodes []string
	want  []wantedCounter
}

type wantedCounter struct {
	name string
	cond condition
}

// decodeCounter reads {nodes: [web1, web2], IPReversePathFilter: ">0"}. The
// names are those of nstat(8), with or without TcpExt or IpExt, and ipvs.conns,
// ipvs.inpkts, ipvs.outpkts, ipvs.inbytes, ipvs.outbytes.
func decodeCounter(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &counter{head: h}
	for k, v := range d.Pairs(n) {
		if k.Value == "node" || k.Value == "nodes" {
			d.Decode(v, &c.nodes)
			continue
		}
		s, ok := d.Scalar(v, "a condition such as \">0\"")
		if !ok {
			continue
		}
		cond, err := parseCondition(s)
		if err != nil {
			d.Fail(v, "%v", err)
		}
		if strings.HasPrefix(k.Value, "ipvs.") && !slices.Contains(ipvsCounters(), k.Value) {
			d.Fail(k, "%s", source.Unknown("counter", k.Value, ipvsCounters()))
		}
		c.want = append(c.want, wantedCounter{k.Value, cond})
	}
	if len(c.nodes) == 0 {
		d.Fail(n, "counter needs nodes:")
	}
	if len(c.want) == 0 {
		d.Fail(n, "counter names no counter, as in IPReversePathFilter: \">0\"")
	}
	return c
}

func (c *counter) Refs() []Ref { return nodeRefs(c.pos, c.nodes...) }

func (c *counter) Begin(_ context.Context, env Env) (Pending, error) {
	var wanted []string
	for _, w := range c.want {
		wanted = append(wanted, fmt.Sprintf("%s grows by %s", w.name, w.cond))
	}
	sentence := "on " + strings.Join(c.nodes, ", ") + " " + strings.Join(wanted, ", ")
	base := make(map[string]map[string]uint64)
	for _, name := range c.nodes {
		n, err := env.Node(name)
		if err != nil {
			return nil, err
		}
		if base[name], err = readCounters(n); err != nil {
			return nil, err
		}
		for _, w := range c.want {
			if _, err := lookupCounter(base[name], w.name); err != nil {
				return nil, fmt.Errorf("%s: node %s: %w", c.pos, name, err)
			}
		}
	}
	return judge(func(context.Context) (Result, bool) {
		r := Result{Wanted: sentence, Pass: true}
		var seen []string
		for _, name := range c.nodes {
			n, err := env.Node(name)
			if err != nil {
				return noAnswer(sentence, err)
			}
			now, err := readCounters(n)
			if err != nil {
				return noAnswer(sentence, err)
			}
			for _, w := range c.want {
				a, _ := lookupCounter(base[name], w.name)
				b, _ := lookupCounter(now, w.name)
				seen = append(seen, fmt.Sprintf("%s %s %s", name, w.name, growth(a, b)))
				// What went back (a gauge, or a node made anew) did not grow.
				r.Pass = r.Pass && b >= a && w.cond.holds(b-a)
			}
			if !r.Pass {
				r.Evidence = append(r.Evidence, Evidence{"counters of " + name + " that grew in this step", grown(base[name], now)})
			}
		}
		r.Seen = strings.Join(seen, ", ")
		return r, true
	}), nil
}

// lookupCounter finds a counter by its full name or without its prefix.
func lookupCounter(all map[string]uint64, name string) (uint64, error) {
	for _, prefix := range []string{"", "TcpExt", "IpExt"} {
		if v, ok := all[prefix+strings.TrimPrefix(name, prefix)]; ok {
			return v, nil
		}
	}
	if strings.HasPrefix(name, "ipvs.") {
		return 0, fmt.Errorf("no counter %s: IPVS is not loaded in this kernel", name)
	}
	known := slices.Sorted(func(yield func(string) bool) {
		for k := range all {
			if !yield(strings.TrimPrefix(strings.TrimPrefix(k, "TcpExt"), "IpExt")) {
				return
			}
		}
	})
	if near := source.Nearest(name, known); near != "" {
		return 0, fmt.Errorf("this kernel has no counter %q; the nearest is %q (nstat -az lists them)", name, near)
	}
	return 0, fmt.Errorf("this kernel has no counter %q; nstat -az lists those that it has", name)
}

func ipvsCounters() []string {
	return []string{"ipvs.conns", "ipvs.inpkts", "ipvs.outpkts", "ipvs.inbytes", "ipvs.outbytes"}
}

// readCounters reads all counters of a node: those of snmp and netstat under
// nstat's names, and the totals of IPVS where it is loaded.
func readCounters(n topology.Node) (map[string]uint64, error) {
	all := make(map[string]uint64)
	err := n.Do(func() error {
		for _, f := range []string{"snmp", "netstat"} {
			data, err := os.ReadFile("/proc/thread-self/net/" + f)
			if err != nil {
				return fmt.Errorf("node %s: counters: %w", n.Name(), err)
			}
			if err := parseCounters(string(data), all); err != nil {
				return fmt.Errorf("node %s: /proc/net/%s: %w", n.Name(), f, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	st, err := ipvs.Stats(n)
	if errors.Is(err, ipvs.ErrNoIPVS) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	for i, v := range []uint64{st.Conns, st.InPkts, st.OutPkts, st.InBytes, st.OutBytes} {
		all[ipvsCounters()[i]] = v
	}
	return all, nil
}

// parseCounters reads the format of /proc/net/snmp and /proc/net/netstat: two
// lines a protocol, names and then values.
func parseCounters(data string, into map[string]uint64) error {
	lines := strings.Split(strings.TrimSpace(data), "\n")
	if len(lines)%2 != 0 {
		return fmt.Errorf("%d lines, wanted pairs of names and values", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("line %d: names and values do not match", i+1)
		}
		for j := 1; j < len(names); j++ {
			// TcpMaxConn is -1; a counter it is not.
			if v, err := strconv.ParseUint(values[j], 10, 64); err == nil {
				into[strings.TrimSuffix(names[0], ":")+names[j]] = v
			}
		}
	}
	return nil
}

// growth is by how much a counter grew, with its sign.
func growth(before, after uint64) string {
	if after < before {
		return "-" + strconv.FormatUint(before-after, 10)
	}
	return "+" + strconv.FormatUint(after-before, 10)
}

func grown(before, after map[string]uint64) string {
	var lines []string
	for k, v := range after {
		if v != before[k] {
			lines = append(lines, fmt.Sprintf("%-32s %s", k, growth(before[k], v)))
		}
	}
	slices.Sort(lines)
	return text(lines)
}
