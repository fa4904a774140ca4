package engine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

// routes are those of the main table, in the words of ip-route(8), IPv4's first.
func routes(n *liveNode, names map[int]string) ([]string, error) {
	var lines []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := dumped(func() ([]netlink.Route, error) {
			return n.Netlink().RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("its routes: %w", err)
		}
		for _, r := range list {
			lines = append(lines, routeWords(r, names))
		}
	}
	return lines, nil
}

// routeWords is a route as ip(8) prints it.
func routeWords(r netlink.Route, names map[int]string) string {
	var words []string
	add := func(w ...string) { words = append(words, w...) }
	if kind := routeKinds()[r.Type]; kind != "" {
		add(kind)
	}
	to := "default"
	if r.Dst != nil {
		to = r.Dst.String()
		ones, bits := r.Dst.Mask.Size()
		switch ones {
		case 0:
			to = "default"
		case bits:
			to = r.Dst.IP.String()
		}
	}
	add(to)
	if r.Tos != 0 {
		add("tos", fmt.Sprintf("0x%02x", r.Tos))
	}
	if len(r.MultiPath) == 0 {
		add(hopWords(r.Gw, r.Via, r.LinkIndex, names)...)
	}
	if r.Protocol != unix.RTPROT_BOOT {
		add("proto", r.Protocol.String())
	}
	if r.Family == unix.AF_INET && r.Scope != netlink.SCOPE_UNIVERSE {
		add("scope", r.Scope.String())
	}
	if len(r.Src) > 0 {
		add("src", r.Src.String())
	}
	if r.Priority != 0 {
		add("metric", strconv.Itoa(r.Priority))
	}
	add(hopFlags(r.Flags)...)
	if r.MTU != 0 {
		add("mtu", strconv.Itoa(r.MTU))
	}
	if r.AdvMSS != 0 {
		add("advmss", strconv.Itoa(r.AdvMSS))
	}
	for _, hop := range r.MultiPath {
		add("nexthop")
		add(hopWords(hop.Gw, hop.Via, hop.LinkIndex, names)...)
		add("weight", strconv.Itoa(hop.Hops+1))
		add(hopFlags(hop.Flags)...)
	}
	return strings.Join(words, " ")
}

// routeKinds are the types of routes that a packet does not simply follow.
func routeKinds() map[int]string {
	return map[int]string{
		unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
		unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
	}
}

func hopWords(gw []byte, via netlink.Destination, device int, names map[int]string) []string {
	var words []string
	switch v, ok := via.(*netlink.Via); {
	case len(gw) > 0:
		words = append(words, "via", addrOf(gw).String())
	case ok && v.AddrFamily == unix.AF_INET6:
		words = append(words, "via", "inet6", v.Addr.String())
	case ok:
		words = append(words, "via", v.Addr.String())
	}
	if name := names[device]; name != "" {
		words = append(words, "dev", name)
	}
	return words
}

// hopFlags are what keeps a route from being used, in ip's words.
func hopFlags(flags int) []string {
	var words []string
	for _, f := range []struct {
		bit  int
		word string
	}{{unix.RTNH_F_DEAD, "dead"}, {unix.RTNH_F_ONLINK, "onlink"}, {unix.RTNH_F_LINKDOWN, "linkdown"}} {
		if flags&f.bit != 0 {
			words = append(words, f.word)
		}
	}
	return words
}

// neighbours are a node's, in the words of ip-neighbour(8). As there, those that
// need no question are left out.
func neighbours(n *liveNode, names map[int]string) ([]string, error) {
	var lines []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := dumped(func() ([]netlink.Neigh, error) { return n.Netlink().NeighList(0, family) })
		if err != nil {
			return nil, fmt.Errorf("its neighbours: %w", err)
		}
		for _, e := range list {
			if e.State&^unix.NUD_NOARP != 0 {
				lines = append(lines, neighbourWords(e, names))
			}
		}
	}
	return lines, nil
}

func neighbourWords(e netlink.Neigh, names map[int]string) string {
	words := []string{addrOf(e.IP).String(), "dev", names[e.LinkIndex]}
	if len(e.HardwareAddr) > 0 && e.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) == 0 {
		words = append(words, "lladdr", e.HardwareAddr.String())
	}
	if e.Flags&netlink.NTF_ROUTER != 0 {
		words = append(words, "router")
	}
	return strings.Join(append(words, topology.NeighbourStates(e.State)...), " ")
}
