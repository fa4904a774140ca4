package assert

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// arpRules checks a node's ARP filter against rules in arptables' words.
type arpRules struct {
	head
	node  string
	rules []filter.ArpRule
}

// arpRulesForm is how a lab file says it.
type arpRulesForm struct {
	Node  string   `yaml:"node,required"`
	Rules []string `yaml:"rules,required"`
}

func decodeARPRules(d *source.Decoder, n *yaml.Node, h head) Check {
	var c arpRulesForm
	d.Decode(n, &c)
	a := &arpRules{head: h, node: c.Node}
	for _, s := range c.Rules {
		r, err := filter.ParseArpRule(s)
		if err != nil {
			d.Fail(n, "%v", err)
		}
		a.rules = append(a.rules, r)
	}
	return a
}

func (c *arpRules) Refs() []Ref { return nodeRefs(c.pos, c.node) }

func (c *arpRules) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.node)
	if err != nil {
		return nil, err
	}
	wanted := "the ARP filter of " + c.node + " is empty"
	if len(c.rules) > 0 {
		wanted = fmt.Sprintf("the ARP filter of %s holds %s", c.node, joinRules(c.rules))
	}
	return judge(func(context.Context) (Result, bool) {
		var rules []filter.ArpRule
		err := n.Do(func() error {
			backend, err := filter.Detect()
			if err != nil {
				return err
			}
			rules, err = backend.List()
			return err
		})
		if err != nil {
			return noAnswer(wanted, err)
		}
		r := Result{Wanted: wanted, Pass: joinRules(rules) == joinRules(c.rules), Seen: joinRules(rules)}
		if len(rules) == 0 {
			r.Seen = "no rule"
		}
		return r, true
	}), nil
}

func joinRules(rules []filter.ArpRule) string {
	var words []string
	for _, r := range rules {
		words = append(words, r.String())
	}
	return strings.Join(words, "; ")
}

// route checks what `ip route get` says in a node.
type route struct {
	head
	Node        string `yaml:"node,required"`
	Get         string `yaml:"get,required"`
	Dev         string `yaml:"dev"`
	Via         string `yaml:"via"`
	Src         string `yaml:"src"`
	Unreachable bool   `yaml:"unreachable"`
}

func decodeRoute(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &route{}
	d.Decode(n, c)
	c.head = h
	if c.Unreachable == (c.Dev != "" || c.Via != "" || c.Src != "") {
		d.Fail(n, "route needs dev:, via: or src:, or else unreachable: true")
	}
	return c
}

func (c *route) Refs() []Ref {
	refs := append(nodeRefs(c.pos, c.Node), Ref{c.pos, AddressRef, c.Get})
	for _, name := range []string{c.Via, c.Src} {
		if name != "" {
			refs = append(refs, Ref{c.pos, AddressRef, name})
		}
	}
	return refs
}

func (c *route) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	get, err := env.Resolve(c.Get)
	if err != nil {
		return nil, err
	}
	var want []string
	if c.Unreachable {
		want = append(want, "unreachable")
	}
	for _, w := range []struct{ word, name string }{{"via", c.Via}, {"src", c.Src}} {
		if w.name == "" {
			continue
		}
		a, err := env.Resolve(w.name)
		if err != nil {
			return nil, err
		}
		want = append(want, w.word+" "+a.String())
	}
	if c.Dev != "" {
		want = append(want, "dev "+c.Dev)
	}
	wanted := fmt.Sprintf("ip route get %s on %s says %s", get, c.Node, strings.Join(want, ", "))
	return judge(func(context.Context) (Result, bool) {
		seen := routeGet(n, get)
		r := Result{Wanted: wanted, Seen: seen, Pass: true}
		for _, w := range want {
			r.Pass = r.Pass && strings.Contains(" "+seen+" ", " "+w+" ")
		}
		if !r.Pass {
			if list, err := routeLines(n, netip.Prefix{}); err == nil {
				r.Evidence = []Evidence{{"routes of " + c.Node, text(list)}}
			}
		}
		return r, true
	}), nil
}

// routeGet is what `ip route get` says, in its words.
func routeGet(n topology.Node, addr netip.Addr) string {
	routes, err := n.Netlink().RouteGet(net.IP(addr.AsSlice()))
	if err != nil {
		// The kernel's word for "no way there" is the error itself.
		return addr.String() + " unreachable (" + err.Error() + ")"
	}
	if len(routes) == 0 {
		return addr.String() + " unreachable"
	}
	return addr.String() + routeWords(n, routes[0])
}

func routeWords(n topology.Node, r netlink.Route) string {
	var b strings.Builder
	if r.Gw != nil {
		fmt.Fprintf(&b, " via %s", r.Gw)
	}
	if l, err := n.Netlink().LinkByIndex(r.LinkIndex); err == nil {
		fmt.Fprintf(&b, " dev %s", l.Attrs().Name)
	}
	if r.Protocol == unix.RTPROT_KERNEL {
		b.WriteString(" proto kernel")
	}
	if r.Scope == netlink.SCOPE_LINK {
		b.WriteString(" scope link")
	}
	if r.Src != nil {
		fmt.Fprintf(&b, " src %s", r.Src)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&b, " metric %d", r.Priority)
	}
	return b.String()
}

// routeLines are the routes of the main table, to one prefix when it is valid.
func routeLines(n topology.Node, to netip.Prefix) ([]string, error) {
	var list []netlink.Route
	var err error
	for range 5 { // a dump that a change interrupted is asked for again
		if list, err = n.Netlink().RouteList(nil, netlink.FAMILY_V4); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: routes: %w", n.Name(), err)
	}
	var lines []string
	for _, r := range list {
		dst := "default"
		if r.Dst != nil && r.Dst.String() != "0.0.0.0/0" {
			dst = r.Dst.String()
		}
		if to.IsValid() && dst != to.String() {
			continue
		}
		lines = append(lines, dst+routeWords(n, r))
	}
	return lines, nil
}

// routes checks by which devices a node has routes to one network.
type routes struct {
	head
	Node string       `yaml:"node,required"`
	To   netip.Prefix `yaml:"to,required"`
	Dev  []string     `yaml:"dev,required"`
}

func decodeRoutes(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &routes{}
	d.Decode(n, c)
	c.head = h
	if c.To.IsValid() && !c.To.Addr().Is4() {
		d.Fail(n, "to: %s: only IPv4 routes are known yet", c.To)
	}
	return c
}

func (c *routes) Refs() []Ref { return nodeRefs(c.pos, c.Node) }

func (c *routes) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	wanted := fmt.Sprintf("%s has routes to %s by %s, and no other", c.Node, c.To, strings.Join(c.Dev, ", "))
	if len(c.Dev) == 0 {
		wanted = fmt.Sprintf("%s has no route to %s", c.Node, c.To)
	}
	return judge(func(context.Context) (Result, bool) {
		lines, err := routeLines(n, c.To)
		if err != nil {
			return noAnswer(wanted, err)
		}
		var devs []string
		for _, l := range lines {
			words := strings.Fields(l)
			if i := slices.Index(words, "dev"); i >= 0 && i+1 < len(words) {
				devs = append(devs, words[i+1])
			}
		}
		slices.Sort(devs)
		r := Result{Wanted: wanted, Seen: strings.Join(lines, "; "), Pass: slices.Equal(devs, slices.Sorted(slices.Values(c.Dev)))}
		if len(lines) == 0 {
			r.Seen = "no such route"
		}
		if !r.Pass {
			if list, err := routeLines(n, netip.Prefix{}); err == nil {
				r.Evidence = []Evidence{{"routes of " + c.Node, text(list)}}
			}
		}
		return r, true
	}), nil
}
