package scenarios

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// setting is one sysctl of a node, with who wishes it.
type setting struct {
	role            topology.Role // that of the key, when empty
	key, value, why string
	pos             source.Pos
	pinned          string // the value without anybody's wish
}

func (s setting) op(node string) topology.Op {
	return topology.Over(topology.NewSysctl(topology.Meta{Role: s.role, Why: s.why, Pos: s.pos, Needs: keyNeeds(s.key)}, node, s.key, s.value), s.pinned)
}

// keyNeeds are the modules that bring a key, and the key itself where some
// kernels hide it from user namespaces.
func keyNeeds(key string) []topology.Feature {
	switch {
	case strings.HasPrefix(key, "net.ipv4.vs."):
		return []topology.Feature{"ip_vs", topology.Feature(key)}
	case strings.HasPrefix(key, "net.netfilter.nf_conntrack"):
		return []topology.Feature{"nf_conntrack", topology.Feature(key)}
	case strings.HasPrefix(key, "net.core."), strings.HasPrefix(key, "net.ipv4.neigh.default.gc_"):
		return []topology.Feature{topology.Feature(key)}
	case strings.HasPrefix(key, "net.ipv6.") && !strings.HasSuffix(key, ".disable_ipv6"):
		return []topology.Feature{"ipv6"}
	}
	for dev, module := range tunnelDevices() {
		if namesDevice(key, dev) {
			return []topology.Feature{module}
		}
	}
	return nil
}

// pinned is what every node begins with, whatever the machine does: a new
// namespace takes the values of conf.all and conf.default from the initial one
// (net.core.devconf_inherit_init_net, Documentation/admin-guide/sysctl/net.rst).
// The values are the kernel's own defaults, but for IPv6, which is off, and
// rp_filter, which some distributions turn on. A server goes on answering a
// client that has given up, for a minute, and asks by ARP for it each time: an
// answer that is lost is not repeated, so that what one step left unanswered
// does not speak in the next. The client's own repetition brings a new answer.
func pinned(tunnels []string, ipv6 bool) []setting {
	const why = "pinned, so that the machine's own setting does not decide"
	list := []setting{
		{key: "net.ipv4.ip_forward", value: "0", why: why},
		{key: "net.ipv4.tcp_synack_retries", value: "0", why: "a server does not go on answering a client that has given up"},
	}
	for _, dev := range []string{"all", "default"} {
		for _, k := range []string{"rp_filter", "arp_ignore", "arp_announce", "arp_filter", "accept_local", "proxy_arp"} {
			list = append(list, setting{key: "net.ipv4.conf." + dev + "." + k, value: "0", why: why})
		}
		list = append(list, setting{key: "net.ipv4.conf." + dev + ".send_redirects", value: "1", why: why})
	}
	for _, dev := range tunnels {
		// It is there from the namespace's beginning and has taken the
		// machine's value already; the others do not bear on it.
		list = append(list, setting{key: "net.ipv4.conf." + dev + ".rp_filter", value: "0", why: why})
	}
	for _, dev := range []string{"all", "default"} {
		if ipv6 {
			const quiet = "addresses are there at once, and no router is looked for"
			list = append(list,
				setting{key: "net.ipv6.conf." + dev + ".disable_ipv6", value: "0", why: why, role: "ipv6-on"},
				setting{key: "net.ipv6.conf." + dev + ".forwarding", value: "0", why: why},
				setting{key: "net.ipv6.conf." + dev + ".accept_dad", value: "0", why: quiet, role: "ipv6-quiet"},
				setting{key: "net.ipv6.conf." + dev + ".accept_ra", value: "0", why: quiet, role: "ipv6-quiet"},
				setting{key: "net.ipv6.conf." + dev + ".router_solicitations", value: "0", why: quiet, role: "ipv6-quiet"})
			continue
		}
		list = append(list, setting{key: "net.ipv6.conf." + dev + ".disable_ipv6", value: "1", why: "this lab has no IPv6; captures stay clean"})
	}
	return list
}

// sysctls are a node's settings: the pinned ones, above them the lab's, those
// of the ARP suppression, and the node's own. Each key comes once, with its
// last value. early ones are set before there are links, so that the links
// inherit conf.default; late ones name a link.
func (l *Lab) sysctls(node string, n Node, ipv6 bool) (early, late []setting) {
	var tunnels []string
	for _, dev := range slices.Sorted(maps.Keys(tunnelDevices())) {
		if l.usesDevice(node, n, dev) {
			tunnels = append(tunnels, dev)
		}
	}
	list := pinned(tunnels, ipv6)
	for i := range list {
		list[i].pinned = list[i].value
	}
	set := func(s setting) {
		s.key = canonicalSysctl(s.key)
		if i := slices.IndexFunc(list, func(o setting) bool { return o.key == s.key }); i >= 0 {
			s.pinned = list[i].pinned
			list[i] = s
			return
		}
		list = append(list, s)
	}
	set = withVSDefaults(set)
	for _, e := range l.Sysctls {
		set(setting{key: e.Name, value: e.Value, why: "the lab wishes it on every node", pos: e.Pos})
	}
	for _, s := range l.throughSettings(node) {
		set(s)
	}
	l.hiding(node, func(v *VirtualService, vip netip.Addr, part string, _ netip.Addr) {
		switch part {
		case partARPIgnore:
			set(setting{
				key: "net.ipv4.conf.all.arp_ignore", value: "1", pos: v.ARPSuppression.Pos,
				why: fmt.Sprintf("%s does not answer who has %s, which is not on the device asked", node, vip),
			})
		case partARPAnnounce:
			set(setting{
				key: "net.ipv4.conf.all.arp_announce", value: "2", pos: v.ARPSuppression.Pos,
				why: fmt.Sprintf("%s asks for others by the address of the device it asks on, not as %s", node, vip),
			})
		}
	})
	for _, e := range n.Sysctls {
		set(setting{key: e.Name, value: e.Value, why: node + "'s own setting", pos: e.Pos})
	}
	for _, s := range list {
		if slices.ContainsFunc(n.Links, func(k source.Entry[Link]) bool { return namesDevice(s.key, k.Name) }) {
			late = append(late, s)
		} else {
			early = append(early, s)
		}
	}
	return early, late
}

// namesDevice reports whether a key belongs to one device:
// net.ipv4.conf.eth0.rp_filter.
func namesDevice(key, device string) bool {
	return strings.Contains(key, "."+device+".") || strings.Contains(key, "/"+device+"/")
}

// canonicalSysctl is a key with dots, so that two spellings of one key meet.
func canonicalSysctl(key string) string {
	if strings.Contains(key, "/") && !strings.Contains(key, ".") {
		return strings.ReplaceAll(key, "/", ".")
	}
	return key
}
