package assert

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// connections counts rows of a director's connection table. The kernel's table
// is exact at once (IPVS lists each connection as it is scheduled), but a state
// may take a moment to be reached, so it is looked at again until the deadline.
type connections struct {
	head
	Node     string   `yaml:"node,required"`
	Count    string   `yaml:"count,required"`
	Protocol string   `yaml:"protocol"`
	Client   string   `yaml:"client"`
	Service  string   `yaml:"service"`
	Server   string   `yaml:"server"`
	State    []string `yaml:"state"`
	// ClientPort 0 counts the templates of persistence instead of connections.
	ClientPort *uint16 `yaml:"client_port"`

	count condition
}

// connectionStates are the names that ip_vs_state_name (net/netfilter/ipvs)
// gives: of TCP, UDP, SCTP and the templates of persistence.
func connectionStates() []string {
	return []string{
		"NONE", "ASSURED", "UDP",
		"ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "SYNACK",
		"INIT1", "INIT", "COOKIE_SENT", "COOKIE_REPLIED", "COOKIE_WAIT", "COOKIE", "COOKIE_ECHOED",
		"SHUTDOWN_SENT", "SHUTDOWN_RECEIVED", "SHUTDOWN_ACK_SENT", "REJECTED", "CLOSED",
	}
}

func decodeConnections(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &connections{}
	d.Decode(n, c)
	c.head = h
	var err error
	if c.count, err = parseCondition(c.Count); err != nil && c.Count != "" {
		d.Fail(n, "count: %v", err)
	}
	for _, s := range c.State {
		if !slices.Contains(connectionStates(), s) {
			d.Fail(n, "%s", source.Unknown("state of a connection", s, connectionStates()))
		}
	}
	if c.Protocol != "" {
		if _, err := ipvs.ParseProtocol(c.Protocol); err != nil {
			d.Fail(n, "%v", err)
		}
	}
	return c
}

func (c *connections) Refs() []Ref {
	refs := nodeRefs(c.pos, c.Node)
	for _, name := range []string{c.Client, c.Service, c.Server} {
		if name != "" {
			refs = append(refs, Ref{c.pos, AddressRef, name})
		}
	}
	return refs
}

// wanted is the sentence: "director holds >0 connections to web1, ESTABLISHED".
func (c *connections) wanted() string {
	what := "connections"
	if c.ClientPort != nil {
		what = fmt.Sprintf("connections from port %d", *c.ClientPort)
		if *c.ClientPort == 0 {
			what = "templates of persistence"
		}
	}
	if c.Protocol != "" {
		what = strings.ToUpper(c.Protocol) + " " + what
	}
	for _, p := range []struct{ word, name string }{{" of ", c.Client}, {" for ", c.Service}, {" to ", c.Server}} {
		if p.name != "" {
			what += p.word + p.name
		}
	}
	if len(c.State) > 0 {
		what += " in state " + strings.Join(c.State, " or ")
	}
	return fmt.Sprintf("%s holds %s %s", c.Node, strings.TrimPrefix(c.count.String(), "="), what)
}

func (c *connections) Begin(_ context.Context, env Env) (Pending, error) {
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	var service ipvs.Service
	if c.Service != "" {
		if service, err = serviceOf(env, c.Service); err != nil {
			return nil, err
		}
	}
	wanted := c.wanted()
	return judge(func(context.Context) (Result, bool) {
		list, err := ipvs.Connections(n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		clients, err := addressesOf(env, c.Client)
		if err != nil {
			return noAnswer(wanted, err)
		}
		servers, err := addressesOf(env, c.Server)
		if err != nil {
			return noAnswer(wanted, err)
		}
		states := make(map[string]int)
		count := uint64(0)
		for _, e := range list {
			if !c.about(e, service, clients, servers) {
				continue
			}
			states[e.State]++
			if len(c.State) == 0 || slices.Contains(c.State, e.State) {
				count++
			}
		}
		r := Result{Wanted: wanted, Seen: seenStates(states), Pass: c.count.holds(count)}
		if !r.Pass {
			r.Evidence = []Evidence{{"connections of " + c.Node, formatConnections(list)}}
		}
		return r, true
	}), nil
}

// about reports whether a row is one of those that the check counts, whatever
// its state. An empty list of addresses means any.
func (c *connections) about(e ipvs.Connection, service ipvs.Service, clients, servers []netip.Addr) bool {
	port := c.ClientPort
	if port == nil && e.Client.Port() == 0 || port != nil && e.Client.Port() != *port {
		return false
	}
	if c.Protocol != "" && e.Protocol.String() != c.Protocol {
		return false
	}
	// What is found by firewall mark has the address that the packet had.
	if c.Service != "" && service.FWMark == 0 && (e.Virtual.Addr() != service.Addr.Addr() ||
		service.Addr.Port() != 0 && e.Virtual.Port() != service.Addr.Port() || service.Protocol != 0 && e.Protocol != service.Protocol) {
		return false
	}
	return (len(clients) == 0 || slices.Contains(clients, e.Client.Addr())) && (len(servers) == 0 || slices.Contains(servers, e.Real.Addr()))
}

// seenStates is what was counted, by state: "3 ESTABLISHED, 1 FIN_WAIT".
func seenStates(states map[string]int) string {
	var parts []string
	for s, n := range states {
		parts = append(parts, fmt.Sprintf("%d %s", n, s))
	}
	if len(parts) == 0 {
		return "none"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// mostConnections is how many rows a failed check shows.
const mostConnections = 40

// formatConnections is the table as `ipvsadm -Lnc` prints it, sorted so that
// two runs look alike.
func formatConnections(list []ipvs.Connection) string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b ipvs.Connection) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Virtual.Compare(b.Virtual), a.Client.Compare(b.Client), a.Real.Compare(b.Real))
	})
	shown := list[:min(len(list), mostConnections)]
	text := ipvs.FormatConnections(shown)
	if more := len(list) - len(shown); more > 0 {
		text += fmt.Sprintf("… and %d more\n", more)
	}
	return text
}

// serviceOf is a virtual service of the lab by its name, or any of an address.
func serviceOf(env Env, name string) (ipvs.Service, error) {
	if s, ok := env.Service(name); ok {
		return s, nil
	}
	addr, err := env.Resolve(name)
	return ipvs.Service{Addr: netip.AddrPortFrom(addr, 0)}, err
}

// addressesOf are all addresses that a node has now, or the one that a name
// stands for; none for no name.
func addressesOf(env Env, name string) ([]netip.Addr, error) {
	if name == "" {
		return nil, nil
	}
	if !slices.Contains(env.NodeNames(), name) {
		addr, err := env.Resolve(name)
		return []netip.Addr{addr}, err
	}
	n, err := env.Node(name)
	if err != nil {
		return nil, err
	}
	return ownAddresses(n)
}
