// Package scenarios holds the Lab: what a lab file says, read strictly, checked
// against itself, and turned into a plan without touching a kernel.
package scenarios

import (
	"net/netip"
	"slices"
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
	About    string              `yaml:"about"`
	Label    string              `yaml:"name"`
	Networks source.Map[Network] `yaml:"networks,required"`
	Sysctls  source.Map[string]  `yaml:"sysctls"`
	Allow    []Allowed           `yaml:"allow"`
	// Needs are features of the kernel, or programs, that the lab needs beyond
	// what its parts say by themselves.
	Needs           []Need                      `yaml:"needs"`
	Nodes           source.Map[Node]            `yaml:"nodes,required"`
	VirtualServices source.Map[*VirtualService] `yaml:"virtual_services"`
	Steps           []Step                      `yaml:"steps"`
	// KeepGoing goes on with the next step when one fails, so that one run tells
	// of all that is wrong; by default the first failure ends the lab. It is for
	// labs whose steps stand by themselves. What a step does is done also where
	// what it expects does not come true, so that the next one finds the lab as
	// its file says. A step that is broken ends the lab in any case.
	KeepGoing bool `yaml:"keep_going"`
	// Matrix is which lab of the file's matrix this one is, nil where the file
	// has none.
	Matrix *Combination `yaml:"matrix"`

	// Findings are what the lab says that cannot work and that it allows by
	// name: that is what the lab is about.
	Findings source.List

	// Omit are roles that every plan of the lab leaves out: nothing of the
	// file's, but what somebody who runs it asks for.
	Omit []topology.Role

	ipv6 bool // a step brings IPv6, found by check
	set  bool // something was set that the file does not say
	doc  *yaml.Node
	data []byte // the file's text
	// stepsFile is where its steps are, if that is not where the lab is.
	stepsFile string
	// root is the lab as its file has it, nil for that one itself.
	root *Lab
	// near is what is known of its nodes while it is checked, nil at other times.
	near *near
}

// Network is one bridge that nodes are linked to.
type Network struct {
	Pos source.Pos
	// Prefixes are one, or an IPv4 and an IPv6 one.
	Prefixes []netip.Prefix
}

// UnmarshalSource reads the network's prefix, or a list of them.
func (w *Network) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	w.Pos = d.Pos(n)
	d.Decode(n, &w.Prefixes)
	for _, p := range w.Prefixes {
		if p.IsValid() && p != p.Masked() {
			d.Fail(n, "network %s has host bits set; did you mean %s?", p, p.Masked())
		}
		if p.Addr().Zone() != "" || p.Addr().Is4In6() {
			d.Fail(n, "network %s: wanted a plain IPv4 or IPv6 prefix", p)
		}
	}
	if len(w.Prefixes) == 0 {
		d.Fail(n, "a network needs a prefix such as 10.0.0.0/24")
	}
}

// Contains reports whether an address is in the network.
func (w Network) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(w.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (w Network) overlaps(o Network) bool {
	return slices.ContainsFunc(w.Prefixes, func(p netip.Prefix) bool { return slices.ContainsFunc(o.Prefixes, p.Overlaps) })
}

// String is the network's prefixes.
func (w Network) String() string {
	var words []string
	for _, p := range w.Prefixes {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

// Need is a feature of the kernel, named as its module is, or "program:NAME".
type Need struct {
	Pos     source.Pos
	Feature topology.Feature
}

// UnmarshalSource reads the feature's name.
func (f *Need) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	f.Pos = d.Pos(n)
	s, ok := d.Scalar(n, "a feature such as ip_vs_twos, or program:nginx")
	name := strings.TrimPrefix(s, "program:")
	if ok && (name == "" || strings.HasPrefix(name, "-") || strings.Trim(name, featureChars) != "") {
		d.Fail(n, "wanted a feature such as ip_vs_twos, or program:nginx, found %q", s)
	}
	f.Feature = topology.Feature(s)
}

// featureChars are those of modules' and programs' names.
const featureChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.+"

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
	// IPTables and IP6Tables are lines in iptables' and ip6tables' words.
	IPTables  []IPTablesRule  `yaml:"iptables"`
	IP6Tables []IP6TablesRule `yaml:"ip6tables"`
	// Rules are IPVS rules as `ipvsadm -S -n` prints them.
	Rules *Rules `yaml:"rules"`
	// SyncDaemons tell other directors of a director's connections, or listen
	// to them, in the words of ipvsadm(8), --start-daemon.
	SyncDaemons []SyncDaemon `yaml:"sync_daemons"`
	// Timeouts are how long a director remembers connections that are silent,
	// in the words of ipvsadm(8), --set.
	Timeouts *Timeouts `yaml:"timeouts"`
	Serve    []Serve   `yaml:"serve"`
	// Files are written in the node's own view of the files, before its servers
	// start: the content by the path.
	Files source.Map[string] `yaml:"files"`
	// Mounts are folders of other nodes, by the path at which they are mounted.
	Mounts source.Map[Mount] `yaml:"mounts"`
}

// Link connects a device of the node to a network.
type Link struct {
	Pos       source.Pos
	Network   string        `yaml:"network,required"`
	Addresses []Address     `yaml:"addresses"`
	Delay     time.Duration `yaml:"delay"`
	// MTU is the largest packet that the device sends, in bytes; 1500 when the
	// lab does not say (Ethernet's).
	MTU  int  `yaml:"mtu"`
	Down bool `yaml:"down"`
}

// UnmarshalSource reads the short form "NETWORK ADDRESS/LENGTH …" too.
func (l *Link) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain Link
	d.Decode(expandLink(n), (*plain)(l))
	l.Pos = d.Pos(n)
	if l.Delay > maxDelay {
		d.Fail(n, "delay %s is longer than %s", l.Delay, maxDelay)
	}
	if l.MTU != 0 && (l.MTU < minMTU || l.MTU > maxMTU) {
		d.Fail(n, "mtu %d is not from %d to %d", l.MTU, minMTU, maxMTU)
	}
}

// Bounds of an MTU: IPv4 works from 68 bytes on (RFC 791), and a veth takes at
// most 65535 (ETH_MAX_MTU in linux/if_ether.h).
const (
	minMTU = 68
	maxMTU = 65535
)

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
	if !plainAddr(p.Addr()) {
		d.Fail(n, "address %s: wanted a plain IPv4 or IPv6 address", p)
	}
	a.Prefix = p
}

// plainAddr reports whether an address is one that a device can have: without a
// zone, which may be any text, and not IPv4 in IPv6 clothes.
func plainAddr(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }

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
