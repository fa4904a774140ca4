package draw

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lvslab/lvslab/runner/live"
)

// picture is a lab as all formats show it.
type picture struct {
	title    string
	networks []network
	nodes    []node
	forwards []forward
	faults   []string
}

type network struct{ name, prefixes string }

type node struct {
	name, roles string
	director    bool
	realServer  bool
	stopped     bool
	devices     []device
	services    []service
	// faults are in words, without the node's name.
	faults []string
}

type device struct {
	name, network, mac string
	addresses          []address
	// state is what is to be said of a device that is not simply up.
	state string
	// cut says that nothing passes it.
	cut bool
}

type address struct {
	text string
	vip  bool
}

type service struct {
	title        string
	destinations []destination
}

type destination struct{ node, address, forward, weight, conns string }

// forward is that a director has a real server in its table; both are indices of
// nodes.
type forward struct {
	from, to int
	method   string // "Route"
	weight   int
}

func pictureOf(in *live.Inspection) *picture {
	p := &picture{title: plain(in.Title)}
	for _, w := range in.Networks {
		p.networks = append(p.networks, network{plain(w.Name), plain(strings.Join(w.Prefixes, ", "))})
	}
	for _, f := range in.Faults {
		p.faults = append(p.faults, plain(f.String()))
	}
	for _, n := range in.Nodes {
		p.nodes = append(p.nodes, nodeOf(n, in.Faults))
	}
	for _, n := range p.nodes {
		for i, d := range n.devices {
			if p.network(d.network) < 0 {
				n.devices[i].network = "" // of no network that is there
			}
		}
	}
	for i, n := range in.Nodes {
		for _, s := range n.IPVS {
			for _, d := range s.Destinations {
				to := slices.IndexFunc(in.Nodes, func(o live.Node) bool { return o.Name == d.Node })
				f := forward{i, to, plain(d.Forward), d.Weight}
				// A real server may be there for several services.
				if to >= 0 && to != i && !slices.Contains(p.forwards, f) {
					p.forwards = append(p.forwards, f)
				}
			}
		}
	}
	return p
}

func nodeOf(n live.Node, faults []live.Broken) node {
	out := node{
		name: plain(n.Name), roles: plain(strings.Join(n.Roles, ", ")), stopped: n.Stopped,
		director: slices.Contains(n.Roles, "director"), realServer: slices.Contains(n.Roles, "real server"),
	}
	for _, d := range n.Devices {
		if dev, shown := deviceOf(d); shown {
			out.devices = append(out.devices, dev)
		}
	}
	for _, s := range n.IPVS {
		out.services = append(out.services, serviceOf(s))
	}
	for _, f := range faults {
		if f.Node == n.Name {
			out.faults = append(out.faults, faultWords(f))
		}
	}
	for _, d := range n.Daemons {
		if d.State != "listens" && d.State != "hangs" && d.State != "killed" {
			out.faults = append(out.faults, plain(d.Name+": "+firstLine(d.State)))
		}
	}
	return out
}

// deviceOf leaves out tunnels that a kernel makes by itself and nobody uses.
func deviceOf(d live.Device) (device, bool) {
	out := device{name: plain(d.Name), network: plain(d.Network), mac: plain(d.MAC), cut: d.State != "up"}
	var state []string
	if d.State != "up" {
		state = append(state, plain(d.State))
	}
	if d.Qdisc != "" {
		state = append(state, plain(d.Qdisc))
	}
	out.state = strings.Join(state, ", ")
	for _, a := range d.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil && (p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback()) {
			continue
		}
		out.addresses = append(out.addresses, address{plain(a), slices.Contains(d.VIPs, a)})
	}
	return out, d.Network != "" || len(out.addresses) > 0 || d.State == "up" && d.Kind != "loopback"
}

func serviceOf(s live.Service) service {
	out := service{title: plain(strings.TrimSpace(strings.Join([]string{s.Protocol, s.Address, s.Scheduler, s.Flags}, " ")))}
	for _, d := range s.Destinations {
		name := d.Node
		if name == "" {
			name = "?"
		}
		out.destinations = append(out.destinations, destination{
			plain(name), plain(d.Address), plain(d.Forward), "weight " + strconv.Itoa(d.Weight),
			fmt.Sprintf("%d active, %d inactive", d.ActiveConn, d.InactConn),
		})
	}
	return out
}

// faultWords is a fault without its node: "cut eth0", "lose 10% eth0".
func faultWords(f live.Broken) string {
	words := []string{f.Kind}
	if f.Delay > 0 {
		words = append(words, f.Delay.String())
	}
	if f.Jitter > 0 {
		words = append(words, "±", f.Jitter.String())
	}
	if f.Percent > 0 {
		words = append(words, strconv.FormatFloat(f.Percent, 'g', 4, 64)+"%")
	}
	for _, w := range []string{f.Daemon, f.Address, f.Device} {
		if w != "" {
			words = append(words, w)
		}
	}
	return plain(strings.Join(words, " "))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// plain replaces what has no shape of its own: titles are anybody's.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r != ' ' && !strconv.IsGraphic(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// lineKind says how a line of a node's box looks.
type lineKind int

const (
	headLine lineKind = iota
	plainLine
	quietLine
	vipLine
	faultLine
)

type line struct {
	kind lineKind
	text string
}

// lines are a node in words, for a box.
func (n node) lines() []line {
	list := []line{{headLine, n.head()}}
	add := func(k lineKind, format string, args ...any) {
		list = append(list, line{k, fmt.Sprintf(format, args...)})
	}
	if n.stopped {
		add(faultLine, "switched off")
	}
	for _, d := range n.devices {
		for _, a := range d.addresses {
			if a.vip {
				add(vipLine, "%s %s VIP", d.name, a.text)
			} else {
				add(plainLine, "%s %s", d.name, a.text)
			}
		}
		if len(d.addresses) == 0 {
			add(plainLine, "%s", d.name)
		}
		if d.mac != "" {
			add(quietLine, "%s %s", strings.Repeat(" ", utf8.RuneCountInString(d.name)), d.mac)
		}
		if d.state != "" {
			add(faultLine, "%s %s", d.name, d.state)
		}
	}
	for _, s := range n.services {
		add(headLine, "%s", s.title)
		for _, d := range s.destinations {
			add(plainLine, "→ %s %s %s %s", d.node, d.address, d.forward, d.weight)
		}
	}
	for _, f := range n.faults {
		add(faultLine, "! %s", f)
	}
	return list
}

func (n node) head() string {
	if n.roles == "" || n.roles == n.name {
		return n.name
	}
	return n.name + " (" + n.roles + ")"
}

// links are the devices that are plugged in.
func (n node) links() []device {
	return slices.DeleteFunc(slices.Clone(n.devices), func(d device) bool { return d.network == "" })
}

func (p *picture) network(name string) int {
	return slices.IndexFunc(p.networks, func(w network) bool { return w.name == name })
}

// about is what is broken on purpose, "" for nothing.
func (p *picture) about() string {
	if len(p.faults) == 0 {
		return ""
	}
	return "broken on purpose: " + strings.Join(p.faults, "; ")
}
