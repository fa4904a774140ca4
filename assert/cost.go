package assert

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/source"
)

// cost checks what a node carried for each request of the step, and for its
// answer: IP packets and their bytes, in and out together.
type cost struct {
	head
	node, to, from string
	want           []wantedCost
}

// wantedCost is a bound on the mean of a figure.
type wantedCost struct {
	name string
	cond bound
}

// bound is a condition, or a range "10..14" that includes both ends.
type bound struct {
	condition
	to    uint64
	isTwo bool
}

func parseBound(s string) (bound, error) {
	if low, high, ok := strings.Cut(s, ".."); ok {
		a, err := strconv.ParseUint(strings.TrimSpace(low), 10, 64)
		b, berr := strconv.ParseUint(strings.TrimSpace(high), 10, 64)
		if err != nil || berr != nil || a > b {
			return bound{}, fmt.Errorf("wanted a range such as \"10..14\", found %q", s)
		}
		return bound{condition{">=", a}, b, true}, nil
	}
	c, err := parseCondition(s)
	return bound{condition: c}, err
}

func (b bound) String() string {
	if b.isTwo {
		return fmt.Sprintf("%d..%d", b.n, b.to)
	}
	return b.condition.String()
}

// holds compares the mean total/n exactly, without dividing.
func (b bound) holds(total, n uint64) bool {
	c := condition{b.op, b.n * n}
	return c.holds(total) && (!b.isTwo || total <= b.to*n)
}

// costFigures are what a lab may bound.
func costFigures() []string {
	return []string{"packets", "bytes", "packets_in", "packets_out", "bytes_in", "bytes_out"}
}

// decodeCost reads {node: director, packets: "8..14", bytes: "<2000"}.
func decodeCost(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &cost{head: h}
	for k, v := range d.Pairs(n) {
		s, ok := d.Scalar(v, "a name, or a bound such as \"<20\" or \"8..14\"")
		if !ok {
			continue
		}
		switch k.Value {
		case "node":
			c.node = s
		case "to":
			c.to = s
		case "from":
			c.from = s
		default:
			known := false
			for _, f := range costFigures() {
				known = known || f == k.Value
			}
			if !known {
				d.Fail(k, "%s", source.Unknown("key", k.Value, append([]string{"node", "to", "from"}, costFigures()...)))
				continue
			}
			b, err := parseBound(s)
			if err != nil {
				d.Fail(v, "%v", err)
			} else if b.n > 1<<40 || b.to > 1<<40 {
				d.Fail(v, "%s of a request is more than any lab carries", s)
			}
			c.want = append(c.want, wantedCost{k.Value, b})
		}
	}
	if c.node == "" {
		d.Fail(n, "cost needs node:, whose links are looked at")
	}
	if len(c.want) == 0 {
		d.Fail(n, "cost bounds no figure, as in packets: \"8..14\" (%s)", strings.Join(costFigures(), ", "))
	}
	return c
}

func (c *cost) Refs() []Ref {
	refs := nodeRefs(c.pos, c.node)
	if c.from != "" {
		refs = append(refs, nodeRefs(c.pos, c.from)...)
	}
	if c.to != "" {
		refs = append(refs, Ref{c.pos, AddressRef, c.to})
	}
	return refs
}

func (c *cost) Begin(_ context.Context, env Env) (Pending, error) {
	to, err := optionalAddress(env, c.to)
	if err != nil {
		return nil, err
	}
	if err := env.WatchLinks(); err != nil {
		return nil, err
	}
	var parts []string
	for _, w := range c.want {
		parts = append(parts, fmt.Sprintf("%s %s", strings.ReplaceAll(w.name, "_", " "), w.cond))
	}
	wanted := fmt.Sprintf("for each request %s carries %s", c.node, strings.Join(parts, ", "))
	return judge(func(context.Context) (Result, bool) {
		st, err := follow(env, c.from, to)
		if err != nil {
			r := Result{Wanted: wanted, Seen: err.Error()}
			if errors.Is(err, errIncomplete) {
				r.Untold = err
			}
			return r, false
		}
		total := st.carried(env.Owner, c.node)
		n := uint64(st.requests)
		r := Result{Wanted: wanted, Seen: total.words(c.node, n), Pass: true}
		for _, w := range c.want {
			r.Pass = r.Pass && w.cond.holds(total.figure(w.name), n)
		}
		if !r.Pass {
			r.Evidence = []Evidence{{"the paths that were seen", st.ladders(env, nil)}}
		}
		// The last packets of a connection that closes may still be to come.
		return r, true
	}), nil
}

// load is what a node carried.
type load struct{ packetsIn, packetsOut, bytesIn, bytesOut uint64 }

func (l load) figure(name string) uint64 {
	switch name {
	case "packets":
		return l.packetsIn + l.packetsOut
	case "bytes":
		return l.bytesIn + l.bytesOut
	case "packets_in":
		return l.packetsIn
	case "packets_out":
		return l.packetsOut
	case "bytes_in":
		return l.bytesIn
	}
	return l.bytesOut
}

func (l load) words(node string, n uint64) string {
	if n == 0 {
		return "no request"
	}
	short := func(v uint64) string {
		return strings.TrimSuffix(strconv.FormatFloat(float64(v)/float64(n), 'f', 1, 64), ".0")
	}
	return fmt.Sprintf("%s carried %s packets of %s bytes for each of %d requests: in %s of %s bytes, out %s of %s bytes",
		node, short(l.figure("packets")), short(l.figure("bytes")), n,
		short(l.packetsIn), short(l.bytesIn), short(l.packetsOut), short(l.bytesOut))
}

// carried adds up the IP packets of the step's flows on a node's links, tunnels'
// headers included.
func (st *followedStep) carried(owner ownerOf, node string) load {
	var l load
	var own []linkPackets
	for _, k := range st.links {
		if k.node == node {
			own = append(own, k)
		}
	}
	mine := make(map[capture.Tuple]bool)
	for _, f := range st.flows {
		for t := range f.tuples {
			mine[t], mine[t.Reverse()] = true, true
		}
	}
	for _, s := range sightings(own, owner) {
		if !mine[s.h.Tuple] {
			continue
		}
		bytes := uint64(s.h.IP[0].Length)
		if s.out {
			l.packetsOut++
			l.bytesOut += bytes
		} else {
			l.packetsIn++
			l.bytesIn += bytes
		}
	}
	return l
}
