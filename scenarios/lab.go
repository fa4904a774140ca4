// Package scenarios holds the Lab: what a lab file says, read strictly, checked
// against itself, and turned into a plan without touching a kernel.
package scenarios

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// Lab is one lab as its file says it.
type Lab struct {
	// Name is how the lab is asked for: "dr/arptables". It comes from the
	// file's name, or from name: in a file of several labs.
	Name string
	Pos  source.Pos

	Title string `yaml:"title,required"`
	// About is a few lines that a learner can follow.
	About           string                      `yaml:"about"`
	Label           string                      `yaml:"name"`
	Networks        source.Map[Network]         `yaml:"networks,required"`
	Sysctls         source.Map[string]          `yaml:"sysctls"`
	Allow           []Allowed                   `yaml:"allow"`
	Nodes           source.Map[Node]            `yaml:"nodes,required"`
	VirtualServices source.Map[*VirtualService] `yaml:"virtual_services"`
	Steps           []Step                      `yaml:"steps"`

	// Findings are what the lab says that cannot work and that it allows by
	// name: that is what the lab is about.
	Findings source.List

	doc *yaml.Node
	// root is the lab as its file has it, nil for that one itself.
	root *Lab
}

// Network is one bridge that nodes are linked to.
type Network struct {
	Pos    source.Pos
	Prefix netip.Prefix
}

// UnmarshalSource reads the network's prefix.
func (w *Network) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	w.Pos = d.Pos(n)
	d.Decode(n, &w.Prefix)
	if w.Prefix.IsValid() && w.Prefix != w.Prefix.Masked() {
		d.Fail(n, "network %s has host bits set; did you mean %s?", w.Prefix, w.Prefix.Masked())
	}
	if w.Prefix.IsValid() && !w.Prefix.Addr().Is4() {
		d.Fail(n, "network %s: only IPv4 networks are known yet", w.Prefix)
	}
}

// Allowed is the code of a finding that the lab is about.
type Allowed struct {
	Pos  source.Pos
	Code string
}

// UnmarshalSource reads a code and looks it up.
func (a *Allowed) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	a.Pos = d.Pos(n)
	a.Code, _ = d.Scalar(n, "the name of a finding")
	if _, ok := findings()[a.Code]; a.Code != "" && !ok {
		d.Fail(n, "%s", source.Unknown("finding", a.Code, Codes()))
	}
}

// Node is one machine of the lab.
type Node struct {
	Pos   source.Pos
	Links source.Map[Link] `yaml:"links"`
	// Devices are those that the node has by itself, lo and tunl0.
	Devices source.Map[Device] `yaml:"devices"`
	Routes  []Route            `yaml:"routes"`
	Sysctls source.Map[string] `yaml:"sysctls"`
	// ARPRules are lines in arptables' words.
	ARPRules []ARPRule `yaml:"arp_rules"`
	Serve    []Serve   `yaml:"serve"`
}

// Link connects a device of the node to a network.
type Link struct {
	Pos       source.Pos
	Network   string        `yaml:"network,required"`
	Addresses []Address     `yaml:"addresses"`
	Delay     time.Duration `yaml:"delay"`
	Down      bool          `yaml:"down"`
}

// UnmarshalSource reads the short form "NETWORK ADDRESS/LENGTH …" too.
func (l *Link) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain Link
	d.Decode(expandLink(n), (*plain)(l))
	l.Pos = d.Pos(n)
	if l.Delay > maxDelay {
		d.Fail(n, "delay %s is longer than %s", l.Delay, maxDelay)
	}
}

// maxDelay bounds what a link may be late by: what is not seen is told from
// what is late by waiting for both ends of a link.
const maxDelay = 4 * time.Second

// expandLink turns the short form of a link into the long one, so that a change
// can be laid over it.
func expandLink(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	words := strings.Fields(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || len(words) == 0 {
		return n
	}
	at := func(kind yaml.Kind, tag, value string) *yaml.Node {
		return &yaml.Node{Kind: kind, Tag: tag, Value: value, Line: n.Line, Column: n.Column}
	}
	str := func(s string) *yaml.Node { return at(yaml.ScalarNode, "!!str", s) }
	m := at(yaml.MappingNode, "!!map", "")
	m.Content = []*yaml.Node{str("network"), str(words[0])}
	if len(words) > 1 {
		list := at(yaml.SequenceNode, "!!seq", "")
		for i := 1; i < len(words); i++ {
			if words[i] == "noprefixroute" && len(list.Content) > 0 {
				list.Content[len(list.Content)-1].Value += " noprefixroute"
				continue
			}
			list.Content = append(list.Content, str(words[i]))
		}
		m.Content = append(m.Content, str("addresses"), list)
	}
	return m
}

// Address is an address with its prefix length, and noprefixroute after it
// where the kernel shall not add the network's route (ip-address(8)).
type Address struct {
	Pos           source.Pos
	Prefix        netip.Prefix
	NoPrefixRoute bool
}

// UnmarshalSource reads "ADDRESS/LENGTH [noprefixroute]".
func (a *Address) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	a.Pos = d.Pos(n)
	s, ok := d.Scalar(n, "an address with its prefix length such as 10.0.0.1/24")
	if !ok {
		return
	}
	s, a.NoPrefixRoute = strings.CutSuffix(s, " noprefixroute")
	p, err := netip.ParsePrefix(strings.TrimSpace(s))
	if err != nil {
		d.Fail(n, "wanted an address with its prefix length such as 10.0.0.1/24, found %q", s)
		return
	}
	if !p.Addr().Is4() {
		d.Fail(n, "address %s: only IPv4 addresses are known yet", p)
	}
	a.Prefix = p
}

// Device is a device that a node has by itself.
type Device struct {
	Pos       source.Pos
	Addresses []Address `yaml:"addresses"`
	// Up brings the device up or leaves it down; absent, it is up where an
	// address or the forwarding method needs it.
	Up *bool `yaml:"up"`
}

// Route is a route in the words of ip-route(8).
type Route struct {
	Pos source.Pos
	topology.Route
}

// UnmarshalSource reads the words.
func (r *Route) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	r.Pos = d.Pos(n)
	s, ok := d.Scalar(n, "a route in the words of ip route add")
	if !ok {
		return
	}
	route, err := topology.ParseRoute(s)
	if err != nil {
		d.Fail(n, "%v", err)
	} else if !route.To.Addr().Is4() {
		d.Fail(n, "route %s: only IPv4 routes are known yet", route)
	}
	r.Route = route
}

// ARPRule is a rule in arptables' words.
type ARPRule struct {
	Pos  source.Pos
	Rule filter.ArpRule
}

// UnmarshalSource reads the words.
func (r *ARPRule) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	r.Pos = d.Pos(n)
	s, ok := d.Scalar(n, "a rule in the words of arptables")
	if !ok {
		return
	}
	var err error
	if r.Rule, err = filter.ParseArpRule(s); err != nil {
		d.Fail(n, "%v", err)
	}
}

// Serve is a server that a node runs: "http", "http 8080".
type Serve struct {
	Pos     source.Pos
	Service string
	Port    uint16
}

// services are what a node can serve, with the default port.
func services() map[string]uint16 { return map[string]uint16{"http": 80} }

// UnmarshalSource reads "SERVICE [PORT]".
func (s *Serve) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s.Pos = d.Pos(n)
	text, ok := d.Scalar(n, "a service such as http or \"http 8080\"")
	if !ok {
		return
	}
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > 2 {
		d.Fail(n, "wanted a service such as http or \"http 8080\", found %q", text)
		return
	}
	port, ok := services()[words[0]]
	if !ok {
		d.Fail(n, "%s", source.Unknown("service", words[0], []string{"http"}))
		return
	}
	if len(words) == 2 {
		p, err := strconv.ParseUint(words[1], 10, 16)
		if err != nil || p == 0 {
			d.Fail(n, "port %q is not from 1 to 65535", words[1])
		}
		port = uint16(p)
	}
	s.Service, s.Port = words[0], port
}
