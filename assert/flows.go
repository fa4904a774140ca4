package assert

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/topology/capture"
)

// flow is what one client's requests and their answers were on the wire: all
// packets of one 5-tuple, as the client knows it.
type flow struct {
	client string
	tuple  capture.Tuple
	// requests counts them: connections opened for TCP, datagrams for UDP and
	// ICMP, else 1.
	requests       int
	request, reply []chain
	tuples         map[capture.Tuple]bool // of the requests, wherever they were seen
	handshakes     map[uint32]bool        // sequence numbers of SYNs
	requestEnds    []string               // where they came to
}

// target is one thing that a step's requests asked.
type target struct {
	from string
	to   netip.AddrPort // no port for a ping
}

// targets are what the step's replies are about, with how many each had. to and
// from narrow them where they are set.
func targets(replies []Reply, from string, to netip.Addr) (list []target, count map[target]int, err error) {
	count = make(map[target]int)
	for _, r := range replies {
		var t target
		ap, err := netip.ParseAddrPort(r.To)
		if err != nil {
			a, aerr := netip.ParseAddr(r.To)
			if aerr != nil {
				return nil, nil, fmt.Errorf("a request to %q cannot be followed: it is no address", r.To)
			}
			ap = netip.AddrPortFrom(a, 0)
		}
		t = target{r.From, ap}
		if from != "" && t.from != from || to.IsValid() && t.to.Addr() != to {
			continue
		}
		if count[t] == 0 {
			list = append(list, t)
		}
		count[t]++
	}
	if len(list) == 0 {
		return nil, nil, errNoStimulus
	}
	return list, count, nil
}

// locals are the client's own ends of the step's requests, by their port. A
// target is not in it where some request of it does not say from where it came;
// of such a target all packets count.
func locals(replies []Reply) map[target]map[uint16]bool {
	out := make(map[target]map[uint16]bool)
	vague := make(map[target]bool)
	for _, r := range replies {
		ap, err := netip.ParseAddrPort(r.To)
		if err != nil {
			continue
		}
		t := target{r.From, ap}
		if out[t] == nil {
			out[t] = make(map[uint16]bool)
		}
		out[t][r.Local.Port()] = true
		vague[t] = vague[t] || r.Local.Port() == 0
	}
	maps.DeleteFunc(out, func(t target, _ map[uint16]bool) bool { return vague[t] })
	return out
}

// flows sorts chains by the requests that they belong to. own are the clients'
// ends of the step's requests: the last packets of an earlier step's connection
// may come in this one.
func flows(chains []chain, list []target, own map[target]map[uint16]bool) []*flow {
	known := make(map[capture.Tuple]*flow)
	var out []*flow
	for _, c := range chains {
		first := c[0]
		t := first.h.Tuple
		if !first.out || !slices.Contains(list, target{first.node, t.Dst}) || !followed(t.Protocol) {
			continue
		}
		if t.Dst.Port() == 0 && t.Src.Port() == 0 {
			continue // an ICMP error, not an echo
		}
		if ports, told := own[target{first.node, t.Dst}]; told && !ports[t.Src.Port()] {
			continue
		}
		f := known[t]
		if f == nil {
			f = &flow{client: first.node, tuple: t, tuples: make(map[capture.Tuple]bool), handshakes: make(map[uint32]bool), requests: 1}
			known[t] = f
			out = append(out, f)
		}
		if first.h.Flags == "S" {
			f.handshakes[first.h.Seq] = true
			f.requests = len(f.handshakes)
		}
		f.request = append(f.request, c)
		if t.Protocol != capture.ProtocolTCP && t.Protocol != capture.ProtocolSCTP {
			f.requests = len(f.request)
		}
		for _, s := range c {
			f.tuples[s.h.Tuple] = true
		}
		if end := c.last(); !end.out && !slices.Contains(f.requestEnds, end.node) {
			f.requestEnds = append(f.requestEnds, end.node)
		}
	}
	answers := make(map[capture.Tuple]*flow)
	for _, f := range out {
		for t := range f.tuples {
			answers[t.Reverse()] = f
		}
	}
	for _, c := range chains {
		for _, s := range c {
			if f := answers[s.h.Tuple]; f != nil {
				f.reply = append(f.reply, c)
				break
			}
		}
	}
	return out
}

// followed are the protocols whose packets can be told apart.
func followed(p uint8) bool {
	return slices.Contains([]uint8{capture.ProtocolTCP, capture.ProtocolUDP, capture.ProtocolSCTP, capture.ProtocolICMP, capture.ProtocolICMPv6}, p)
}

func (f *flow) String() string {
	return fmt.Sprintf("%s %s > %s", capture.ProtocolWord(f.tuple.Protocol), endpoint(f.tuple.Src), endpoint(f.tuple.Dst))
}

// endpoint is an address and port in tcpdump's way with a colon; a port of 0 is
// left out.
func endpoint(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// followedStep is what the captures hold of a step's requests.
type followedStep struct {
	flows    []*flow
	links    []linkPackets
	requests int // as many as the step's stimuli sent
	missing  string
}

// only keeps the flows whose requests came to one of some nodes; all where there
// is none.
func (st *followedStep) only(nodes []string) {
	if len(nodes) == 0 {
		return
	}
	st.flows = slices.DeleteFunc(st.flows, func(f *flow) bool {
		return !slices.ContainsFunc(f.requestEnds, func(end string) bool { return slices.Contains(nodes, end) })
	})
}

// fragments is the first link on which a packet crossed in pieces, or "".
func (st *followedStep) fragments() string {
	for _, l := range st.links {
		for _, p := range l.packets {
			h, ok := capture.DecodeHeaders(p)
			if ok && slices.ContainsFunc(h.IP, func(ip capture.IPHeader) bool { return ip.More || ip.Offset > 0 }) {
				return l.node + ":" + l.device
			}
		}
	}
	return ""
}

// errIncomplete is wrapped by the error of a capture that lost packets, or that
// has them in pieces.
var errIncomplete = errors.New("the path cannot be told")

// follow reads the captures of all links and follows the step's requests.
func follow(env Env, from string, to netip.Addr) (*followedStep, error) {
	list, count, err := targets(env.Outcomes().Replies, from, to)
	if err != nil {
		return nil, err
	}
	st := &followedStep{}
	for _, l := range env.Links() {
		packets, err := l.Packets()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errIncomplete, err)
		}
		st.links = append(st.links, linkPackets{l.Node, l.Device, packets})
	}
	st.flows = flows(trace(st.links, env.Owner), list, locals(env.Outcomes().Replies))
	for _, t := range list {
		st.requests += count[t]
		n, connections := 0, false
		for _, f := range st.flows {
			if f.client == t.from && f.tuple.Dst == t.to {
				n += f.requests
				connections = connections || f.tuple.Protocol == capture.ProtocolTCP
			}
		}
		// Datagrams may share their ports; each TCP request has a connection.
		if n == 0 || connections && n < count[t] {
			st.missing = fmt.Sprintf("of %d requests of %s to %s only %d left it", count[t], t.from, endpoint(t.to), n)
			if n == 0 {
				st.missing = fmt.Sprintf("no request of %s to %s left it", t.from, endpoint(t.to))
			}
			break
		}
	}
	return st, nil
}
