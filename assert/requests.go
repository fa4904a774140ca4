package assert

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// replies is a check that looks only at what the step's requests came to.
type replies struct {
	head
	wanted string
	refs   []Ref
	// test says what was seen instead, or "" when it is as wanted.
	test func([]Reply) string
}

func (c *replies) Refs() []Ref { return c.refs }

func (c *replies) Begin(_ context.Context, env Env) (Pending, error) {
	return judge(func(context.Context) (Result, bool) {
		rs := env.Outcomes().Replies
		r := Result{Wanted: c.wanted}
		if len(rs) == 0 {
			r.Seen = errNoStimulus.Error()
			return r, false
		}
		r.Seen = c.test(rs)
		r.Pass = r.Seen == ""
		if r.Pass {
			r.Seen = summary(rs)
		} else {
			r.Evidence = []Evidence{{"requests", listReplies(rs)}}
		}
		return r, false
	}), nil
}

// summary is the replies in short: "web1 web2 web1 web2", "4 timeout".
func summary(rs []Reply) string {
	var words []string
	for _, r := range rs {
		w := r.Result
		if r.Result == OK && r.Server != "" {
			w = r.Server
		}
		words = append(words, w)
	}
	const most = 12
	if len(words) <= most && len(slices.Compact(slices.Clone(words))) > 1 {
		return strings.Join(words, " ")
	}
	var parts []string
	for _, w := range slices.Compact(slices.Sorted(slices.Values(words))) {
		n := 0
		for _, o := range words {
			if o == w {
				n++
			}
		}
		parts = append(parts, fmt.Sprintf("%d× %s", n, w))
	}
	return strings.Join(parts, ", ")
}

func listReplies(rs []Reply) string {
	var b strings.Builder
	for i, r := range rs {
		fmt.Fprintf(&b, "%2d  %s → %s  %s", i+1, r.From, r.To, r.Result)
		if r.Server != "" {
			fmt.Fprintf(&b, " by %s", r.Server)
		}
		if r.Peer.IsValid() {
			fmt.Fprintf(&b, ", who saw %s", r.Peer)
		}
		if r.Err != "" {
			fmt.Fprintf(&b, "  (%s)", r.Err)
		}
		fmt.Fprintf(&b, "  %.1f ms\n", float64(r.Elapsed.Microseconds())/1000)
	}
	return b.String()
}

// answered is what was seen when not all requests were answered by a server.
func answered(rs []Reply) string {
	for _, r := range rs {
		if r.Result != OK || r.Server == "" {
			return summary(rs)
		}
	}
	return ""
}

func nodeRefs(pos source.Pos, names ...string) []Ref {
	var refs []Ref
	for _, n := range names {
		refs = append(refs, Ref{pos, NodeRef, n})
	}
	return refs
}

func decodeRotation(d *source.Decoder, n *yaml.Node, h head) Check {
	var names []string
	d.Decode(n, &names)
	if len(names) < 2 {
		d.Fail(n, "rotation needs at least two servers; for one there is only:")
		return nil
	}
	return &replies{h, "the servers answer in turn: " + strings.Join(names, ", "), nodeRefs(h.pos, names...), func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		if len(rs) < 2*len(names) {
			return fmt.Sprintf("only %d requests; a rotation of %d shows after %d", len(rs), len(names), 2*len(names))
		}
		for start := range names {
			turns := true
			for i, r := range rs {
				turns = turns && r.Server == names[(start+i)%len(names)]
			}
			if turns {
				return ""
			}
		}
		return summary(rs)
	}}
}

func decodeOnly(d *source.Decoder, n *yaml.Node, h head) Check {
	name, ok := d.Scalar(n, "the name of a node")
	if !ok {
		return nil
	}
	return &replies{h, "every answer is " + name + "'s", nodeRefs(h.pos, name), func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		if slices.ContainsFunc(rs, func(r Reply) bool { return r.Server != name }) {
			return summary(rs)
		}
		return ""
	}}
}

// decodeShares reads {web1: 50, web2: 50, tolerance: 10}: percent of all
// answers, each within the tolerance, in percentage points.
func decodeShares(d *source.Decoder, n *yaml.Node, h head) Check {
	want := make(map[string]float64)
	var names []string
	tolerance, sum := -1.0, 0.0
	for k, v := range d.Pairs(n) {
		var f float64
		d.Decode(v, &f)
		if k.Value == "tolerance" {
			if tolerance = f; f < 0 || f >= 50 {
				d.Fail(v, "tolerance is in percentage points, from 0 to below 50; found %v", f)
				tolerance = 0
			}
			continue
		}
		if f < 0 || f > 100 {
			d.Fail(v, "a share is from 0 to 100 percent; found %v", f)
		}
		want[k.Value] = f
		sum += f
		names = append(names, k.Value)
	}
	if tolerance < 0 {
		d.Fail(n, "shares needs a tolerance, in percentage points")
	}
	if math.Abs(sum-100) > 0.5 {
		d.Fail(n, "shares add up to %v percent, not 100", sum)
	}
	var words []string
	for _, name := range names {
		words = append(words, fmt.Sprintf("%s %v %%", name, want[name]))
	}
	wanted := fmt.Sprintf("shares of %s, each within %v points", strings.Join(words, ", "), tolerance)
	return &replies{h, wanted, nodeRefs(h.pos, names...), func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		got := make(map[string]int)
		for _, r := range rs {
			got[r.Server]++
		}
		for name, count := range got {
			if math.Abs(float64(count)*100/float64(len(rs))-want[name]) > tolerance {
				return summary(rs)
			}
		}
		for name, w := range want {
			if got[name] == 0 && w > tolerance {
				return summary(rs)
			}
		}
		return ""
	}}
}

// results are the outcome words that a lab may wish for.
func results() []string { return []string{OK, Timeout, Refused, Reset, Unreachable} }

func decodeResult(d *source.Decoder, n *yaml.Node, h head) Check {
	word, ok := d.Scalar(n, "a result")
	if !ok {
		return nil
	}
	if !slices.Contains(results(), word) {
		d.Fail(n, "%s", source.Unknown("result", word, results()))
		return nil
	}
	return &replies{h, "every request ends as: " + word, nil, func(rs []Reply) string {
		if slices.ContainsFunc(rs, func(r Reply) bool { return r.Result != word }) {
			return summary(rs)
		}
		return ""
	}}
}

func decodeStatus(d *source.Decoder, n *yaml.Node, h head) Check {
	var status int
	d.Decode(n, &status)
	if status < 100 || status > 599 {
		d.Fail(n, "an HTTP status is from 100 to 599")
	}
	return &replies{h, fmt.Sprintf("HTTP status %d", status), nil, func(rs []Reply) string {
		for _, r := range rs {
			if r.Result != OK {
				return summary(rs)
			}
			if r.Status != status {
				return fmt.Sprintf("HTTP status %d", r.Status)
			}
		}
		return ""
	}}
}

func decodeBody(d *source.Decoder, n *yaml.Node, h head) Check {
	text, _ := d.Scalar(n, "a regular expression")
	re, err := regexp.Compile(text)
	if err != nil {
		d.Fail(n, "body: %v", err)
		return nil
	}
	return &replies{h, fmt.Sprintf("a body that matches /%s/", text), nil, func(rs []Reply) string {
		for _, r := range rs {
			if r.Result != OK {
				return summary(rs)
			}
			if !re.MatchString(r.Body) {
				return fmt.Sprintf("body %q", clip(r.Body))
			}
		}
		return ""
	}}
}

func decodePeer(d *source.Decoder, n *yaml.Node, h head) Check {
	name, ok := d.Scalar(n, "an address or a node")
	if !ok {
		return nil
	}
	return &peer{h, name}
}

// peer checks whose address the servers saw.
type peer struct {
	head
	name string
}

func (c *peer) Refs() []Ref { return []Ref{{c.pos, AddressRef, c.name}} }

func (c *peer) Begin(ctx context.Context, env Env) (Pending, error) {
	addr, err := env.Resolve(c.name)
	if err != nil {
		return nil, err
	}
	wanted := fmt.Sprintf("the servers see %s as their peer", c.name)
	if c.name != addr.String() {
		wanted += " (" + addr.String() + ")"
	}
	r := &replies{c.head, wanted, nil, func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		for _, r := range rs {
			if r.Peer != addr {
				return fmt.Sprintf("%s saw %s", r.Server, r.Peer)
			}
		}
		return ""
	}}
	return r.Begin(ctx, env)
}
