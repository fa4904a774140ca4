package assert

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/source"
)

// packetCount checks how many packets of a kind crossed a node's link.
type packetCount struct {
	head
	At        string `yaml:"at,required"`
	Protocol  string `yaml:"protocol"`
	Source    string `yaml:"source"`
	Dest      string `yaml:"destination"`
	Port      uint16 `yaml:"port"`
	Direction string `yaml:"direction"`
	Inside    string `yaml:"encapsulation"`
	Count     string `yaml:"count,required"`

	node, device string
	cond         condition
}

// packetProtocols are the words of protocol.
func packetProtocols() []string { return []string{"tcp", "udp", "sctp", "icmp", "arp"} }

// decodePackets reads {at: web1:eth0, protocol, source, destination, port,
// direction, encapsulation, count}. Addresses and ports are the innermost
// packet's.
func decodePackets(d *source.Decoder, n *yaml.Node, h head) Check {
	c := &packetCount{}
	d.Decode(n, c)
	c.head = h
	node, device, ok := strings.Cut(c.At, ":")
	if c.At != "" && (!ok || node == "" || device == "") {
		d.Fail(n, "at: wanted a node and its device such as web1:eth0, found %q", c.At)
	}
	c.node, c.device = node, device
	if c.Protocol != "" && !slices.Contains(packetProtocols(), c.Protocol) {
		d.Fail(n, "%s", source.Unknown("protocol", c.Protocol, packetProtocols()))
	}
	if c.Direction != "" && c.Direction != "in" && c.Direction != "out" {
		d.Fail(n, "%s", source.Unknown("direction", c.Direction, []string{"in", "out"}))
	}
	if c.Protocol == "arp" && (c.Source != "" || c.Dest != "" || c.Port != 0 || c.Inside != "") {
		d.Fail(n, "of arp only direction: and count: are looked at; arp_owner and arp_requests tell more")
	}
	checkEncapsulation(d, n, c.Inside)
	if c.Count != "" {
		var err error
		if c.cond, err = parseCondition(c.Count); err != nil {
			d.Fail(n, "count: %v", err)
		}
	}
	return c
}

func (c *packetCount) Refs() []Ref {
	refs := nodeRefs(c.pos, c.node)
	for _, a := range []string{c.Source, c.Dest} {
		if a != "" {
			refs = append(refs, Ref{c.pos, AddressRef, a})
		}
	}
	return refs
}

func (c *packetCount) Begin(_ context.Context, env Env) (Pending, error) {
	from, err := optionalAddress(env, c.Source)
	if err != nil {
		return nil, err
	}
	to, err := optionalAddress(env, c.Dest)
	if err != nil {
		return nil, err
	}
	// That nothing came is known only when all that was sent has arrived.
	if err := env.WatchLinks(); err != nil {
		return nil, err
	}
	link, err := env.Capture(c.node, c.device)
	if err != nil {
		return nil, err
	}
	wanted := fmt.Sprintf("at %s %s packets%s", c.At, c.cond, c.words())
	return judge(func(context.Context) (Result, bool) {
		packets, err := link.Packets()
		if err != nil {
			return Result{Wanted: wanted, Seen: err.Error(), Untold: err}, false
		}
		var lines []string
		n := uint64(0)
		for _, p := range packets {
			if c.matches(p, env.Owner, from, to) {
				n++
			}
			if len(lines) < mostPackets {
				lines = append(lines, packetLine(env, p))
			}
		}
		r := Result{Wanted: wanted, Seen: fmt.Sprintf("%d of %d packets", n, len(packets)), Pass: c.cond.holds(n)}
		if !r.Pass {
			r.Evidence = []Evidence{{"packets at " + c.At, text(lines)}}
		}
		return r, true
	}), nil
}

func (c *packetCount) words() string {
	var b strings.Builder
	for _, w := range [][2]string{{" of ", c.Protocol}, {" from ", c.Source}, {" to ", c.Dest}, {" in ", c.Inside}} {
		if w[1] != "" {
			b.WriteString(w[0] + w[1])
		}
	}
	if c.Port != 0 {
		fmt.Fprintf(&b, " with port %d", c.Port)
	}
	switch c.Direction {
	case "in":
		b.WriteString(", coming in")
	case "out":
		b.WriteString(", going out")
	}
	return b.String()
}

// matches counts what the node sent or was sent; what a switch flooded to it is
// not its own.
func (c *packetCount) matches(p capture.Packet, owner ownerOf, from, to netip.Addr) bool {
	if c.Direction == "in" && p.Outgoing || c.Direction == "out" && !p.Outgoing {
		return false
	}
	if p.EtherType == capture.EtherTypeARP {
		return c.Protocol == "arp" || c.Protocol == "" && !from.IsValid() && !to.IsValid() && c.Port == 0 && c.Inside == ""
	}
	h, ok := capture.DecodeHeaders(p)
	if !ok {
		return false
	}
	if o, known := owner(h.EtherDst); !p.Outgoing && known && (o.Node != c.node || o.Device != c.device) {
		return false
	}
	t := h.Tuple
	return (c.Protocol == "" || capture.ProtocolWord(t.Protocol) == c.Protocol) &&
		(!from.IsValid() || t.Src.Addr() == from) && (!to.IsValid() || t.Dst.Addr() == to) &&
		(c.Port == 0 || t.Src.Port() == c.Port || t.Dst.Port() == c.Port) &&
		(c.Inside == "" || inside(&h) == c.Inside)
}
