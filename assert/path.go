package assert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/source"
)

// path checks which way each request of the step took, and its answer: packet
// by packet, over every link of the lab.
type path struct {
	head
	// Method is the claim of a forwarding method: dr, tun, nat or fullnat.
	Method string `yaml:"method"`
	// To and From narrow the check to some of the step's requests.
	To   string `yaml:"to"`
	From string `yaml:"from"`
	// Servers narrow it to the requests that came to one of these nodes, where
	// real servers of one service are reached by different methods.
	Servers []string `yaml:"servers"`
	// Encapsulation is that of the requests between the nodes that put it on
	// and take it off; the same as in request.
	Encapsulation string `yaml:"encapsulation"`
	Request       *leg   `yaml:"request"`
	Reply         *leg   `yaml:"reply"`
}

// leg is one direction of a path.
type leg struct {
	// Nodes are all that a packet visits, in order; an item may be several, any
	// of which will do.
	Nodes []oneOf `yaml:"nodes"`
	// Through are nodes that every packet visits, and Never those that none
	// does.
	Through []string `yaml:"through"`
	Never   []string `yaml:"never"`
	// Encapsulation is a word of capture.Encapsulations, or none for packets
	// that are never wrapped.
	Encapsulation string `yaml:"encapsulation"`
	// TTL is that of the innermost header when it arrives; 0 means any.
	TTL int `yaml:"ttl"`
}

// UnmarshalSource reads the list of nodes alone, too.
func (l *leg) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		d.Decode(n, &l.Nodes)
	} else {
		type plain leg
		d.Decode(n, (*plain)(l))
	}
	if len(l.Nodes) == 0 && len(l.Through) == 0 && len(l.Never) == 0 && l.Encapsulation == "" && l.TTL == 0 {
		d.Fail(n, "this says nothing: wanted a list of nodes, or nodes:, through:, never:, encapsulation: or ttl:")
	}
	if len(l.Nodes) == 1 {
		d.Fail(n, "a path has at least two nodes, where it begins and where it ends")
	}
	checkEncapsulation(d, n, l.Encapsulation)
	if l.TTL < 0 || l.TTL > 255 {
		d.Fail(n, "ttl is from 1 to 255, found %d", l.TTL)
	}
}

// oneOf is a node, or several of which any will do.
type oneOf []string

// UnmarshalSource reads a name or a list of them.
func (o *oneOf) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			if s, ok := d.Scalar(item, "the name of a node"); ok {
				*o = append(*o, s)
			}
		}
		if len(n.Content) == 0 {
			d.Fail(n, "wanted the names of nodes, found an empty list")
		}
		return
	}
	if s, ok := d.Scalar(n, "the name of a node, or a list of nodes any of which will do"); ok {
		*o = oneOf{s}
	}
}

func (o oneOf) String() string { return strings.Join(o, "|") }

func checkEncapsulation(d *source.Decoder, n *yaml.Node, word string) {
	known := []string{noEncapsulation}
	for _, e := range capture.Encapsulations() {
		known = append(known, string(e))
	}
	if word != "" && !slices.Contains(known, word) {
		d.Fail(n, "%s", source.Unknown("encapsulation", word, known))
	}
}

// decodePath reads a method's name, or {method, to, from, encapsulation,
// request, reply}.
func decodePath(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &path{}
	if n.Kind == yaml.ScalarNode {
		c.Method, _ = d.Scalar(n, "a forwarding method")
	} else {
		d.Decode(n, c)
		checkEncapsulation(d, n, c.Encapsulation)
	}
	c.head = h
	if c.Method != "" {
		if _, ok := pathMethods()[c.Method]; !ok {
			d.Fail(n, "%s", source.Unknown("method", c.Method, pathMethodNames()))
		}
	}
	if c.Method == "" && c.Request == nil && c.Reply == nil && c.Encapsulation == "" {
		d.Fail(n, "path needs a method (%s), request:, reply: or encapsulation:", strings.Join(pathMethodNames(), ", "))
	}
	if c.Encapsulation != "" && c.Request != nil && c.Request.Encapsulation != "" {
		d.Fail(n, "encapsulation: is said twice, here and in request:")
	}
	return c
}

func (c *path) Refs() []Ref {
	var refs []Ref
	if c.To != "" {
		refs = append(refs, Ref{c.pos, AddressRef, c.To})
	}
	if c.From != "" {
		refs = append(refs, nodeRefs(c.pos, c.From)...)
	}
	refs = append(refs, nodeRefs(c.pos, c.Servers...)...)
	for _, l := range []*leg{c.Request, c.Reply} {
		if l == nil {
			continue
		}
		for _, o := range l.Nodes {
			refs = append(refs, nodeRefs(c.pos, o...)...)
		}
		refs = append(refs, nodeRefs(c.pos, l.Through...)...)
		refs = append(refs, nodeRefs(c.pos, l.Never...)...)
	}
	return refs
}

func (c *path) Begin(_ context.Context, env Env) (Pending, error) {
	to, err := optionalAddress(env, c.To)
	if err != nil {
		return nil, err
	}
	if c.Method != "" && len(env.Directors()) == 0 {
		return nil, fmt.Errorf("the lab has no director, so there is no path of %s; name the nodes: request: [client, …]", c.Method)
	}
	if err := env.WatchLinks(); err != nil {
		return nil, err
	}
	wanted := c.wanted()
	return judge(func(context.Context) (Result, bool) {
		st, err := follow(env, c.From, to)
		if errors.Is(err, errIncomplete) {
			return Result{Wanted: wanted, Seen: err.Error(), Untold: err}, false
		}
		if err != nil {
			return Result{Wanted: wanted, Seen: err.Error()}, false
		}
		r := Result{Wanted: wanted, Seen: st.ways()}
		if st.missing != "" {
			r.Seen = st.missing
			r.Evidence = []Evidence{{"the paths that were seen", st.ladders(env, nil)}}
			return r, false
		}
		if st.only(c.Servers); len(st.flows) == 0 {
			r.Seen = "no request came to " + strings.Join(c.Servers, " or ")
			return r, true
		}
		var bad []*flow
		var why string
		again := true
		for _, f := range st.flows {
			p := c.problem(f, env.Directors())
			if p == nil {
				continue
			}
			if bad == nil {
				why = p.what
			}
			bad = append(bad, f)
			again = again && p.unfinished
		}
		r.Pass = bad == nil
		if !r.Pass {
			r.Seen = why
			if n := len(st.flows); n > 1 {
				r.Seen += fmt.Sprintf(" (%d of %d requests did not go as wanted)", len(bad), n)
			}
			r.Evidence = []Evidence{{"the path that was seen", st.ladders(env, bad)}}
			if at := st.fragments(); at != "" {
				r.Untold = fmt.Errorf("%w: at %s there are fragments, which cannot always be followed through a tunnel or a translation (%s)", errIncomplete, at, why)
			}
		}
		return r, again && !r.Pass
	}), nil
}

func optionalAddress(env Env, name string) (netip.Addr, error) {
	if name == "" {
		return netip.Addr{}, nil
	}
	return env.Resolve(name)
}

// wanted is the check as a sentence.
func (c *path) wanted() string {
	var parts []string
	if c.Method != "" {
		parts = append(parts, pathMethods()[c.Method].claim)
	}
	if len(c.Servers) > 0 {
		parts = append(parts, "of those that come to "+strings.Join(c.Servers, " or "))
	}
	request := c.Request
	if c.Encapsulation != "" {
		l := leg{}
		if request != nil {
			l = *request
		}
		l.Encapsulation = c.Encapsulation
		request = &l
	}
	if request != nil {
		parts = append(parts, "each request "+request.words())
	}
	if c.Reply != nil {
		parts = append(parts, "each reply "+c.Reply.words())
	}
	return strings.Join(parts, "; ")
}

func (l *leg) words() string {
	var parts []string
	if len(l.Nodes) > 0 {
		var names []string
		for _, o := range l.Nodes {
			names = append(names, o.String())
		}
		parts = append(parts, "goes "+strings.Join(names, " → "))
	}
	if len(l.Through) > 0 {
		parts = append(parts, "goes through "+strings.Join(l.Through, ", "))
	}
	if len(l.Never) > 0 {
		parts = append(parts, "never comes to "+strings.Join(l.Never, ", "))
	}
	switch l.Encapsulation {
	case "":
	case noEncapsulation:
		parts = append(parts, "is not encapsulated")
	default:
		parts = append(parts, "is encapsulated in "+l.Encapsulation)
	}
	if l.TTL > 0 {
		parts = append(parts, fmt.Sprintf("arrives with TTL %d", l.TTL))
	}
	return strings.Join(parts, ", ")
}
