package assert

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// destination checks a real server's row in a director's IPVS table: its weight,
// and the connections that the kernel counts there, which are exact at once.
type destination struct {
	head
	Node     string `yaml:"node,required"`
	Service  string `yaml:"service,required"`
	Server   string `yaml:"server,required"`
	Weight   string `yaml:"weight"`
	Active   string `yaml:"active"`
	Inactive string `yaml:"inactive"`

	want []wantedNumber
}

// wantedNumber is one column of the row.
type wantedNumber struct {
	name string
	cond condition
	get  func(ipvs.Destination) int
}

func decodeDestination(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &destination{}
	d.Decode(n, c)
	c.head = h
	for _, col := range []struct {
		name, text string
		get        func(ipvs.Destination) int
	}{
		{"weight", c.Weight, func(d ipvs.Destination) int { return d.Weight }},
		{"active", c.Active, func(d ipvs.Destination) int { return d.Active }},
		{"inactive", c.Inactive, func(d ipvs.Destination) int { return d.Inactive }},
	} {
		if col.text == "" {
			continue
		}
		cond, err := parseCondition(col.text)
		if err != nil {
			d.Fail(n, "%s: %v", col.name, err)
		}
		c.want = append(c.want, wantedNumber{col.name, cond, col.get})
	}
	if len(c.want) == 0 {
		d.Fail(n, "destination needs weight:, active: or inactive:")
	}
	return c
}

func (c *destination) Refs() []Ref {
	return append(nodeRefs(c.pos, c.Node), Ref{c.pos, AddressRef, c.Service}, Ref{c.pos, AddressRef, c.Server})
}

func (c *destination) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	service, err := serviceOf(env, c.Service)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, w := range c.want {
		words = append(words, fmt.Sprintf("%s %s", w.name, strings.TrimPrefix(w.cond.String(), "=")))
	}
	wanted := fmt.Sprintf("%s has %s as a real server of %s with %s", c.Node, c.Server, c.Service, strings.Join(words, ", "))
	return judge(func(ctx context.Context) (Result, bool) {
		t, err := readTable(ctx, n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		servers, err := addressesOf(env, c.Server)
		if err != nil {
			return noAnswer(wanted, err)
		}
		r := Result{Wanted: wanted}
		r.Seen, r.Pass = c.look(t, service, servers)
		if !r.Pass {
			r.Evidence = []Evidence{{"IPVS table of " + c.Node, ipvs.FormatList(t)}}
		}
		return r, true
	}), nil
}

// look finds the row and compares it.
func (c *destination) look(t ipvs.Table, service ipvs.Service, servers []netip.Addr) (seen string, pass bool) {
	var found []ipvs.Destination
	known := false
	for _, e := range t {
		// A service given by its address alone has no protocol.
		same := e.Same(service) || service.Protocol == 0 && service.FWMark == 0 && e.Addr.Addr() == service.Addr.Addr()
		known = known || same
		if !same {
			continue
		}
		for _, d := range e.Destinations {
			if slices.Contains(servers, d.Addr.Addr()) {
				found = append(found, d)
			}
		}
	}
	switch {
	case !known:
		return "no such service", false
	case len(found) == 0:
		return c.Server + " is no real server of it", false
	case len(found) > 1:
		return fmt.Sprintf("%d real servers fit; name the service and the server so that one is left", len(found)), false
	}
	d := found[0]
	pass = true
	for _, w := range c.want {
		pass = pass && w.cond.holds(uint64(max(0, w.get(d))))
	}
	return fmt.Sprintf("%s with weight %d, active %d, inactive %d", d.Addr, d.Weight, d.Active, d.Inactive), pass
}

// ownAddresses are all that a node has now, 127.0.0.1 and ::1 aside. A virtual IP
// may be among them, but no destination is ever one.
func ownAddresses(n topology.Node) ([]netip.Addr, error) {
	var addrs []netip.Addr
	var list []netlink.Addr
	var err error
	for range 5 { // a dump that a change interrupted is asked for again
		if list, err = n.Netlink().AddrList(nil, netlink.FAMILY_ALL); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: addresses: %w", n.Name(), err)
	}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.IsLoopback() {
			addrs = append(addrs, addr.Unmap())
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("node %s has no address", n.Name())
	}
	return addrs, nil
}
