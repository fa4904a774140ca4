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
	"github.com/lvslab/lvslab/topology/source"
)

// arpOwner checks who answers ARP for an address, or NDP for one of IPv6, as
// heard where it was asked.
type arpOwner struct {
	head
	Address string   `yaml:"address,required"`
	At      string   `yaml:"at,required"`
	Is      []string `yaml:"is,required"`
}

func decodeARPOwner(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &arpOwner{}
	d.Decode(n, c)
	c.head = h
	return c
}

func (c *arpOwner) Refs() []Ref {
	return append(nodeRefs(c.pos, append([]string{c.At}, c.Is...)...), Ref{c.pos, AddressRef, c.Address})
}

func (c *arpOwner) Begin(_ context.Context, env Env) (Pending, error) {
	addr, err := env.Resolve(c.Address)
	if err != nil {
		return nil, err
	}
	dev, err := env.DeviceFor(c.At, addr)
	if err != nil {
		return nil, err
	}
	cap, err := env.Capture(c.At, dev)
	if err != nil {
		return nil, err
	}
	proto := protocolOf(addr)
	wanted := fmt.Sprintf("%s hears %s answers for %s from %s alone", c.At, proto, addr, strings.Join(c.Is, ", "))
	if len(c.Is) == 0 {
		wanted = fmt.Sprintf("%s hears no %s answer for %s", c.At, proto, addr)
	}
	return judge(func(context.Context) (Result, bool) {
		packets, err := cap.Packets()
		if err != nil {
			return Result{Wanted: wanted, Seen: err.Error(), Untold: err}, false
		}
		var owners, lines []string
		asked := false
		for _, p := range packets {
			m, ok := discoveryOf(p)
			if !ok {
				continue
			}
			lines = append(lines, packetLine(env, p))
			// Who looks for duplicates of an address of its own wants no answer.
			asked = asked || p.Outgoing && !m.answer && m.target == addr && !m.sender.IsUnspecified()
			if !p.Outgoing && m.answer && m.target == addr {
				owners = append(owners, ownerName(env, m.mac))
			}
		}
		slices.Sort(owners)
		owners = slices.Compact(owners)
		r := Result{Wanted: wanted, Seen: "answers from " + strings.Join(owners, ", ")}
		if len(owners) == 0 {
			r.Seen = "no answer"
		}
		if !asked {
			r.Seen = "nobody at " + c.At + " asked who has " + addr.String() + ", so nothing is known; flush its neighbours first"
		}
		r.Pass = asked && slices.Equal(owners, slices.Sorted(slices.Values(c.Is)))
		if !r.Pass {
			r.Evidence = []Evidence{{proto + " at " + c.At + ":" + dev, text(lines)}}
		}
		return r, false
	}), nil
}

func ownerName(env Env, mac net.HardwareAddr) string {
	if o, ok := env.Owner(mac); ok {
		return o.Node
	}
	return mac.String()
}

// arpRequests checks which address a node gives as its own when it asks.
type arpRequests struct {
	head
	From   []string `yaml:"from,required"`
	Sender string   `yaml:"sender,required"`
	Target string   `yaml:"target"`
	At     string   `yaml:"at,required"`
}

func decodeARPRequests(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &arpRequests{}
	d.Decode(n, c)
	c.head = h
	if len(c.From) == 0 {
		d.Fail(n, "arp_requests needs a node in from:")
	}
	return c
}

func (c *arpRequests) Refs() []Ref {
	refs := nodeRefs(c.pos, append([]string{c.At}, c.From...)...)
	if c.Sender != "own" {
		refs = append(refs, Ref{c.pos, AddressRef, c.Sender})
	}
	if c.Target != "" {
		refs = append(refs, Ref{c.pos, AddressRef, c.Target})
	}
	return refs
}

func (c *arpRequests) Begin(_ context.Context, env Env) (Pending, error) {
	first, err := env.Resolve(c.From[0])
	if err != nil {
		return nil, err
	}
	dev, err := env.DeviceFor(c.At, first)
	if err != nil {
		return nil, err
	}
	senders := make(map[string]netip.Addr)
	for _, node := range c.From {
		name := c.Sender
		if name == "own" {
			name = node
		}
		if senders[node], err = env.Resolve(name); err != nil {
			return nil, err
		}
	}
	var target netip.Addr
	if c.Target != "" {
		if target, err = env.Resolve(c.Target); err != nil {
			return nil, err
		}
	}
	cap, err := env.Capture(c.At, dev)
	if err != nil {
		return nil, err
	}
	sender := c.Sender
	if sender == "own" {
		sender = "its own address"
	}
	proto := protocolOf(senders[c.From[0]])
	what := proto + " questions"
	if target.IsValid() {
		what += " for " + target.String()
	}
	wanted := fmt.Sprintf("%s of %s give %s as the sender", what, strings.Join(c.From, " and of "), sender)
	return judge(func(context.Context) (Result, bool) {
		packets, err := cap.Packets()
		if err != nil {
			return Result{Wanted: wanted, Seen: err.Error(), Untold: err}, false
		}
		var lines, seen []string
		asked := make(map[string]bool)
		pass := true
		for _, p := range packets {
			m, ok := discoveryOf(p)
			if !ok {
				continue
			}
			lines = append(lines, packetLine(env, p))
			o, ok := env.Owner(m.mac)
			want, mine := senders[o.Node]
			if !ok || !mine || p.Outgoing || m.answer || target.IsValid() && m.target != target || m.sender.Is6() != want.Is6() {
				continue
			}
			asked[o.Node] = true
			pass = pass && m.sender == want
			seen = append(seen, fmt.Sprintf("%s asks for %s as %s", o.Node, m.target, m.sender))
		}
		slices.Sort(seen)
		r := Result{Wanted: wanted, Seen: strings.Join(slices.Compact(seen), "; ")}
		for _, node := range c.From {
			if !asked[node] {
				pass = false
				r.Seen = strings.TrimPrefix(r.Seen+"; ", "; ") + node + " did not ask"
			}
		}
		r.Pass = pass
		if !pass {
			r.Evidence = []Evidence{{proto + " at " + c.At + ":" + dev, text(lines)}}
		}
		return r, false
	}), nil
}

// neighbour checks a node's neighbour table, which `arp -an` shows.
type neighbour struct {
	head
	Node    string `yaml:"node,required"`
	Address string `yaml:"address,required"`
	Is      string `yaml:"is"`
	State   string `yaml:"state"`
}

// The states of ip-neighbour(8) that a lab may ask for; "none" is the absence
// of an entry.
func neighbourStates() map[string]int {
	return map[string]int{
		"none": 0, "incomplete": unix.NUD_INCOMPLETE, "failed": unix.NUD_FAILED, "unresolved": unix.NUD_INCOMPLETE | unix.NUD_FAILED,
		"reachable": unix.NUD_REACHABLE, "stale": unix.NUD_STALE, "permanent": unix.NUD_PERMANENT,
	}
}

func decodeNeighbour(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &neighbour{}
	d.Decode(n, c)
	c.head = h
	if (c.Is == "") == (c.State == "") {
		d.Fail(n, "neighbour needs one of is: (the node whose MAC address the entry holds) and state:")
	}
	if c.State != "" {
		var names []string
		for s := range neighbourStates() {
			names = append(names, s)
		}
		slices.Sort(names)
		if !slices.Contains(names, c.State) {
			d.Fail(n, "%s", source.Unknown("neighbour state", c.State, names))
		}
	}
	return c
}

func (c *neighbour) Refs() []Ref {
	refs := append(nodeRefs(c.pos, c.Node), Ref{c.pos, AddressRef, c.Address})
	if c.Is != "" {
		refs = append(refs, nodeRefs(c.pos, c.Is)...)
	}
	return refs
}

func (c *neighbour) Begin(_ context.Context, env Env) (Pending, error) {
	addr, err := env.Resolve(c.Address)
	if err != nil {
		return nil, err
	}
	n, err := env.Node(c.Node)
	if err != nil {
		return nil, err
	}
	wanted := fmt.Sprintf("%s's neighbour entry for %s holds the MAC address of %s", c.Node, addr, c.Is)
	if c.State != "" {
		wanted = fmt.Sprintf("%s's neighbour entry for %s is %s", c.Node, addr, c.State)
	}
	if c.State == "none" {
		wanted = fmt.Sprintf("%s has no neighbour entry for %s", c.Node, addr)
	}
	return judge(func(context.Context) (Result, bool) {
		list, err := neighbours(n)
		if err != nil {
			return noAnswer(wanted, err)
		}
		r := Result{Wanted: wanted, Seen: "no entry", Pass: c.State == "none"}
		for _, e := range list {
			if a, _ := netip.AddrFromSlice(e.IP); a.Unmap() != addr {
				continue
			}
			r.Seen = neighbourLine(env, e)
			switch {
			case c.State == "none":
				r.Pass = false
			case c.State != "":
				r.Pass = e.State&neighbourStates()[c.State] != 0
			default:
				o, ok := env.Owner(e.HardwareAddr)
				r.Pass = ok && o.Node == c.Is
			}
		}
		if !r.Pass {
			r.Evidence = []Evidence{neighbourEvidence(env, c.Node)}
		}
		return r, true
	}), nil
}

func neighbours(n topology.Node) ([]netlink.Neigh, error) {
	var all []netlink.Neigh
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		var list []netlink.Neigh
		var err error
		for range 5 { // a dump that a change interrupted is asked for again
			if list, err = n.Netlink().NeighList(0, family); err == nil {
				break
			}
		}
		if err != nil {
			return nil, fmt.Errorf("node %s: neighbours: %w", n.Name(), err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func neighbourLine(env Env, e netlink.Neigh) string {
	line := fmt.Sprintf("%s lladdr %s", e.IP, e.HardwareAddr)
	if len(e.HardwareAddr) == 0 {
		line = e.IP.String()
	}
	if o, ok := env.Owner(e.HardwareAddr); ok {
		line += " (" + o.Node + ")"
	}
	for _, word := range topology.NeighbourStates(e.State) {
		line += " " + word
	}
	return line
}

func text(lines []string) string {
	if len(lines) == 0 {
		return "(nothing)"
	}
	return strings.Join(lines, "\n")
}
