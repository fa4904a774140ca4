package assert

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// addresses checks which addresses a node has on its devices, as `ip addr` shows
// them: those that VRRP, say, brings and takes.
type addresses struct {
	head  `yaml:"-"`
	Node  string   `yaml:"node,required"`
	Has   []string `yaml:"has"`
	Lacks []string `yaml:"lacks"`
}

func decodeAddresses(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &addresses{head: h}
	d.Decode(n, c)
	if len(c.Has)+len(c.Lacks) == 0 {
		d.Fail(n, "addresses needs has: or lacks:")
	}
	return c
}

func (c *addresses) Refs() []Ref {
	refs := nodeRefs(c.pos, c.Node)
	for _, a := range slices.Concat(c.Has, c.Lacks) {
		refs = append(refs, Ref{c.pos, AddressRef, a})
	}
	return refs
}

func (c *addresses) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	has, err := resolved(env, c.Has)
	if err != nil {
		return nil, err
	}
	lacks, err := resolved(env, c.Lacks)
	if err != nil {
		return nil, err
	}
	var words []string
	if len(has) > 0 {
		words = append(words, "has "+joined(has))
	}
	if len(lacks) > 0 {
		words = append(words, "lacks "+joined(lacks))
	}
	wanted := c.Node + " " + strings.Join(words, " and ")
	return judge(func(context.Context) (Result, bool) {
		own, err := ownAddresses(n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		return Result{Wanted: wanted, Seen: "it has " + joined(own), Pass: carries(own, has, lacks)}, true
	}), nil
}

// carries reports whether all of has, and none of lacks, are among own.
func carries(own, has, lacks []netip.Addr) bool {
	in := func(a netip.Addr) bool { return slices.Contains(own, a) }
	out := func(a netip.Addr) bool { return !in(a) }
	return !slices.ContainsFunc(has, out) && !slices.ContainsFunc(lacks, in)
}

// resolved are the addresses that names stand for.
func resolved(env Env, names []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, name := range names {
		a, err := env.Resolve(name)
		if err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
		list = append(list, a)
	}
	return list, nil
}

func joined(list []netip.Addr) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}
