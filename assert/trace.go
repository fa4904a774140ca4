package assert

import (
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// LinkCapture is the capture of one link of a node.
type LinkCapture struct {
	Node, Device string
	Capture
}

// ownerOf finds the node and device that a MAC address belongs to.
type ownerOf func(net.HardwareAddr) (topology.NetAddr, bool)

// sighting is one packet as it left a node or came to one.
type sighting struct {
	node, device string
	out          bool
	time         time.Time
	h            capture.Headers
	frame        uint64
	// prev and next are the same packet before and after, on a cable or
	// through a node.
	prev, next *sighting
}

// linkPackets are the packets of one link, for trace.
type linkPackets struct {
	node, device string
	packets      []capture.Packet
}

// chain is the way of one packet: out of the node that made it, into the next,
// out of that, and so on.
type chain []*sighting

// trace finds each packet's way through the nodes. A frame has the same headers
// at both ends of a cable. Through a node goes what has the same mark,
// whatever a router, an address translation or a tunnel did to the rest.
//
// Frames that a switch gave to nodes whom they were not for are left out.
func trace(links []linkPackets, owner ownerOf) []chain {
	all := sightings(links, owner)
	arrivals := make(map[uint64][]*sighting)
	for _, s := range all {
		if !s.out {
			arrivals[s.frame] = append(arrivals[s.frame], s)
		}
	}
	for _, s := range all {
		if !s.out {
			continue
		}
		// The same frame sent twice arrives twice, in this order.
		list := arrivals[s.frame]
		if i := slices.IndexFunc(list, func(a *sighting) bool { return a.node != s.node }); i >= 0 {
			s.next, list[i].prev = list[i], s
			arrivals[s.frame] = slices.Delete(list, i, i+1)
		}
	}
	type passage struct {
		node string
		mark uint64
	}
	inside := make(map[passage][]*sighting)
	for _, s := range all {
		k := passage{s.node, s.h.Mark}
		if !s.out {
			inside[k] = append(inside[k], s)
		}
	}
	for _, s := range all {
		if !s.out {
			continue
		}
		k := passage{s.node, s.h.Mark}
		best, most := -1, 0
		for i, in := range inside[k] {
			if n := likeness(in, s); n > most {
				best, most = i, n
				if most == certain {
					break
				}
			}
		}
		if best >= 0 {
			in := inside[k][best]
			in.next, s.prev = s, in
			inside[k] = slices.Delete(inside[k], best, best+1)
		}
	}
	var chains []chain
	for _, s := range all {
		if s.prev != nil {
			continue
		}
		var c chain
		for at := s; at != nil; at = at.next {
			c = append(c, at)
		}
		chains = append(chains, c)
	}
	return chains
}

// certain is the likeness of a packet that a router passed on.
const certain = 7

// likeness says how well out can be what a node made of in; 0 means not at
// all. It decides only between packets of the same mark: equal datagrams.
func likeness(in, out *sighting) int {
	a, b := in.h.Tuple, out.h.Tuple
	if a.Protocol != b.Protocol || b.Dst == a.Src || b.Src == a.Dst {
		return 0 // an answer that repeats the question, as an echo does
	}
	if out.h.Inner().TTL > in.h.Inner().TTL || a.Src.Addr().Is4() != b.Src.Addr().Is4() {
		return 0
	}
	n := 0
	if a.Src == b.Src {
		n += 3
	}
	if a.Dst == b.Dst {
		n += 3
	}
	// A packet that goes in a circle comes again, each time with one less. Where
	// both addresses are others, nothing else tells that it was passed on.
	if i, o := in.h.IP, out.h.IP; o[0].TTL+1 == i[0].TTL || o[len(o)-1].TTL+1 == i[len(i)-1].TTL {
		n++
	}
	return n
}

func sightings(links []linkPackets, owner ownerOf) []*sighting {
	var all []*sighting
	seed := maphash.MakeSeed()
	for _, l := range links {
		// The ports of a later fragment are the first one's.
		type datagram struct {
			src, dst string
			id       uint32
		}
		firsts := make(map[datagram]capture.Tuple)
		for _, p := range l.packets {
			h, ok := capture.DecodeHeaders(p)
			if !ok {
				continue
			}
			if !p.Outgoing {
				if o, ok := owner(h.EtherDst); !ok || o.Node != l.node || o.Device != l.device {
					continue
				}
			}
			for _, ip := range h.IP {
				d := datagram{ip.Src.String(), ip.Dst.String(), ip.ID}
				if ip.More && ip.Offset == 0 {
					firsts[d] = h.Tuple
				} else if t, ok := firsts[d]; ok && ip.Offset > 0 {
					h.Tuple = t
				}
			}
			all = append(all, &sighting{
				node: l.node, device: l.device, out: p.Outgoing, time: p.Time, h: h, frame: frameHash(seed, &h),
			})
		}
	}
	slices.SortStableFunc(all, func(a, b *sighting) int { return a.time.Compare(b.time) })
	return all
}

// frameHash is of what is the same at both ends of a cable. The bytes may
// differ: who receives a packet may change in place what is captured later.
func frameHash(seed maphash.Seed, h *capture.Headers) uint64 {
	type header struct {
		src, dst netip.Addr
		ttl      uint8
		id       uint32
		offset   int
	}
	var m maphash.Hash
	m.SetSeed(seed)
	_, _ = m.Write(h.EtherDst) // a hash takes everything
	_, _ = m.Write(h.EtherSrc)
	for _, ip := range h.IP {
		maphash.WriteComparable(&m, header{ip.Src, ip.Dst, ip.TTL, ip.ID, ip.Offset})
	}
	maphash.WriteComparable(&m, h.Tuple)
	maphash.WriteComparable(&m, h.Mark)
	return m.Sum64()
}

// visit is one node on a packet's way. In is nil where the packet was made, and
// out where it ended.
type visit struct {
	node    string
	in, out *sighting
}

func (c chain) visits() []visit {
	var vs []visit
	for _, s := range c {
		if s.out {
			if n := len(vs); n > 0 && vs[n-1].node == s.node && vs[n-1].out == nil {
				vs[n-1].out = s
				continue
			}
			vs = append(vs, visit{node: s.node, out: s})
			continue
		}
		vs = append(vs, visit{node: s.node, in: s})
	}
	return vs
}

// nodes are the names of the nodes that the packet came to, in their order.
func (c chain) nodes() []string {
	var names []string
	for _, v := range c.visits() {
		names = append(names, v.node)
	}
	return names
}

// last is where the packet was seen last.
func (c chain) last() *sighting { return c[len(c)-1] }

// onTheWay is true for a packet that left a node and has come to none yet.
func (c chain) onTheWay() bool { return c.last().out }

// inside says in what a packet is wrapped, "none" or "ipip" or "gre, ipip".
func inside(h *capture.Headers) string {
	if len(h.Inside) == 0 {
		return noEncapsulation
	}
	var words []string
	for _, e := range h.Inside {
		words = append(words, string(e))
	}
	return strings.Join(words, ", ")
}

// noEncapsulation is the word for a packet that is wrapped in none.
const noEncapsulation = "none"
