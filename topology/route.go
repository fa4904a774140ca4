package topology

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/source"
)

// Route is one route, in the words of ip-route(8).
type Route struct {
	// To is the destination; 0.0.0.0/0 and ::/0 are written "default", of the
	// family of what follows via.
	To  netip.Prefix
	Via netip.Addr
	// Device may be empty when Via is given.
	Device string
	Src    netip.Addr
	// Metric is the priority; 0, the default, wins over all others.
	Metric int
	// Scope is "global", "link" or "host"; empty is what ip-route(8) would
	// take: link for a route without Via, else global.
	Scope string
	// Proto is "boot" (empty), "kernel" or "static".
	Proto string
}

var (
	scopes = map[string]netlink.Scope{"global": netlink.SCOPE_UNIVERSE, "link": netlink.SCOPE_LINK, "host": netlink.SCOPE_HOST}
	protos = map[string]netlink.RouteProtocol{"kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT, "static": unix.RTPROT_STATIC}
)

// ParseRoute reads the words of `ip route add`: DEST [via ADDR] [dev DEVICE]
// [src ADDR] [metric N] [scope global|link|host] [proto kernel|boot|static].
func ParseRoute(text string) (Route, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Route{}, errors.New("an empty route; wanted as in \"default via 10.0.0.1\"")
	}
	var r Route
	var err error
	if words[0] == "default" {
		r.To = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if i := slices.Index(words, "via"); i > 0 && i+1 < len(words) && strings.Contains(words[i+1], ":") {
			r.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	} else if r.To, err = ParsePrefix(words[0]); err != nil {
		return r, fmt.Errorf("route destination %q is neither \"default\" nor an address or prefix", words[0])
	}
	if r.To != r.To.Masked() {
		return r, fmt.Errorf("route destination %s has host bits set; did you mean %s?", r.To, r.To.Masked())
	}
	words = words[1:]
	for len(words) > 0 {
		if len(words) == 1 {
			return r, fmt.Errorf("route: nothing follows %q", words[0])
		}
		key, val := words[0], words[1]
		words = words[2:]
		switch key {
		case "via":
			r.Via, err = netip.ParseAddr(val)
		case "dev":
			r.Device = val
		case "src":
			r.Src, err = netip.ParseAddr(val)
		case "metric":
			var n uint64
			n, err = strconv.ParseUint(val, 10, 31)
			r.Metric = int(n)
		case "scope":
			if _, ok := scopes[val]; !ok {
				err = errors.New(source.Unknown("scope", val, []string{"global", "link", "host"}))
			}
			r.Scope = val
		case "proto":
			if _, ok := protos[val]; !ok {
				err = errors.New(source.Unknown("proto", val, []string{"kernel", "boot", "static"}))
			}
			r.Proto = val
		default:
			return r, errors.New(source.Unknown("route word", key, []string{"via", "dev", "src", "metric", "scope", "proto"}))
		}
		if err != nil {
			return r, fmt.Errorf("route %s: %w", key, err)
		}
	}
	if !r.Via.IsValid() && r.Device == "" {
		return r, fmt.Errorf("route to %s: neither via nor dev is given", r.dest())
	}
	for _, a := range []netip.Addr{r.To.Addr(), r.Via, r.Src} {
		if a.Zone() != "" || a.Is4In6() {
			return r, fmt.Errorf("route to %s: %q is no plain IPv4 or IPv6 address", r.dest(), a)
		}
	}
	if r.Via.Is6() && r.Via.IsLinkLocalUnicast() && r.Device == "" {
		return r, fmt.Errorf("route to %s: %s is of one link only, so dev must say which", r.dest(), r.Via)
	}
	if r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4() || r.Src.IsValid() && r.Src.Is4() != r.To.Addr().Is4() {
		return r, fmt.Errorf("route to %s mixes IPv4 and IPv6", r.dest())
	}
	return r, nil
}

// ParsePrefix reads ADDRESS/LENGTH, or an address alone as one host.
func ParsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func (r Route) dest() string {
	if r.To.Bits() == 0 {
		return "default"
	}
	return r.To.String()
}

// String is the route in the words of ip-route(8).
func (r Route) String() string {
	s := r.dest()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Device != "" {
		s += " dev " + r.Device
	}
	if r.Proto != "" {
		s += " proto " + r.Proto
	}
	if r.Scope != "" {
		s += " scope " + r.Scope
	}
	if r.Src.IsValid() {
		s += " src " + r.Src.String()
	}
	if r.Metric != 0 {
		s += " metric " + strconv.Itoa(r.Metric)
	}
	return s
}

type routeOp struct {
	meta  Meta
	route Route
	del   bool
}

// NewRoute is the op that adds a route.
func NewRoute(m Meta, node string, r Route) Op {
	to := r.dest()
	if r.To == netip.PrefixFrom(netip.IPv6Unspecified(), 0) {
		to += " -6"
	}
	m.Key = Key{node, "route", fmt.Sprintf("%s dev %s metric %d", to, r.Device, r.Metric)}
	if r.To.Addr().Is6() {
		m.Needs = append(m.Needs, "ipv6")
	}
	if m.Role == "" {
		m.Role = "route"
	}
	return routeOp{m, r, false}
}

func (o routeOp) About() Meta { return o.meta }
func (o routeOp) Shell(Dialect) []string {
	verb := "replace"
	if o.del {
		verb = "del"
	}
	family := ""
	if o.route.To.Addr().Is6() {
		family = " -6"
	}
	return []string{fmt.Sprintf("ip -n %s%s route %s %s", o.meta.Key.Node, family, verb, o.route)}
}

func (o routeOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	r := &netlink.Route{
		Dst: ipNet(o.route.To), Priority: o.route.Metric, Protocol: protos[o.route.Proto],
		Scope: scopes[o.route.Scope], Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
	}
	if o.route.Proto == "" {
		r.Protocol = unix.RTPROT_BOOT
	}
	if o.route.Scope == "" && !o.route.Via.IsValid() && o.route.To.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if o.route.Via.IsValid() {
		r.Gw = o.route.Via.AsSlice()
	}
	if o.route.Src.IsValid() {
		r.Src = o.route.Src.AsSlice()
	}
	if o.route.Device != "" {
		dev, err := LinkByName(n, o.route.Device)
		if err != nil {
			return fail(o, err)
		}
		r.LinkIndex = dev.Attrs().Index
	}
	if o.del {
		err = n.Netlink().RouteDel(r)
		if errors.Is(err, unix.ESRCH) {
			err = nil
		}
		return fail(o, err)
	}
	return fail(o, n.Netlink().RouteReplace(r))
}

func (o routeOp) Undo() (Op, bool) {
	o.del = !o.del
	return o, true
}
