package filter

import (
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology"
)

// TableFeature is what a kernel must have for a table: the module of the older
// ip_tables, "iptable_nat" or "ip6table_nat", or nf_tables in its place.
func TableFeature(f Family, t Table) topology.Feature {
	if f == IPv6 {
		return topology.Feature("ip6table_" + string(t))
	}
	return topology.Feature("iptable_" + string(t))
}

// featureIPv6 is IPv6 itself, which a guest has only if it is asked for.
const featureIPv6 topology.Feature = "ipv6"

// Needs are the features without which a kernel cannot take the rule: its
// table's (see TableFeature), and the modules of its matches and its target,
// which both backends use.
func (r IPRule) Needs() []topology.Feature {
	r = r.canonicalIP()
	needs := []topology.Feature{TableFeature(r.Family, r.Table)}
	add := func(needed bool, f topology.Feature) {
		if needed {
			needs = append(needs, f)
		}
	}
	add(r.Family == IPv6, featureIPv6)
	transport, _ := r.transport()
	add(transport == "sctp", "xt_sctp")
	add(r.IPVS != IPVSMatch{}, "xt_ipvs")
	add(r.CTState != 0, "xt_conntrack")
	add(r.Mark.Mask != 0 || r.Target == SetMark, "xt_mark")
	add(r.Target == Masquerade, "xt_MASQUERADE")
	add(r.Target == SNAT || r.Target == DNAT, "xt_nat")
	add(r.Target == TCPMSS, "xt_TCPMSS")
	if r.Target == Reject {
		add(r.Family == IPv4, "ipt_REJECT")
		add(r.Family == IPv6, "ip6t_REJECT")
	}
	return needs
}

func needsOf(rules []IPRule) []topology.Feature {
	var all []topology.Feature
	for _, r := range rules {
		all = append(all, r.Needs()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// needsList names the features that rules need, for a sentence.
func needsList(rules []IPRule) string {
	var names []string
	for _, f := range needsOf(rules) {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// tableOf is the table whose feature it is.
func tableOf(f topology.Feature) (Family, Table, bool) {
	for _, family := range []Family{IPv4, IPv6} {
		for _, t := range Tables() {
			if f == TableFeature(family, t) {
				return family, t, true
			}
		}
	}
	return 0, "", false
}

// IPModules are the modules behind a feature of an IP rule, as alternatives of
// which the first that the kernel has is to be loaded; false for a feature of
// something else. nf_tables comes first, as with DetectIP: nft_chain_nat is
// there only where nf_tables was built for IP. The match icmp is a part of
// ip_tables before Linux 6.4 and of xt_tcpudp since.
func IPModules(f topology.Feature) ([][]string, bool) {
	family, t, ok := tableOf(f)
	if !ok {
		return nil, false
	}
	nft := []string{"nf_tables", "nft_compat", "nft_chain_nat", "xt_tcpudp"}
	legacy := []string{family.core(), string(TableFeature(family, t)), "xt_tcpudp"}
	alternatives := [][]string{nft, legacy}
	if family == IPv6 {
		for i, a := range alternatives {
			alternatives[i] = append([]string{string(featureIPv6)}, a...)
		}
	}
	return alternatives, true
}

// ExampleIP is a rule that needs a feature and, its table aside, no other: what
// a probe tries. It is false for a feature of something else.
func ExampleIP(f topology.Feature) (IPRule, bool) {
	if family, t, ok := tableOf(f); ok {
		return IPRule{Family: family, Table: t, Chain: Output, Target: Accept}, true
	}
	words := map[topology.Feature]string{
		"xt_sctp":       "-A INPUT -p sctp --dport 80 -j ACCEPT",
		"xt_ipvs":       "-A INPUT -m ipvs --ipvs -j ACCEPT",
		"xt_conntrack":  "-A INPUT -m conntrack --ctstate NEW -j ACCEPT",
		"xt_mark":       "-t mangle -A INPUT -m mark --mark 1 -j MARK --set-mark 2",
		"xt_MASQUERADE": "-t nat -A POSTROUTING -j MASQUERADE",
		"xt_nat":        "-t nat -A POSTROUTING -j SNAT --to-source 192.0.2.1",
		"xt_TCPMSS":     "-t mangle -A OUTPUT -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400",
		"ipt_REJECT":    "-A INPUT -j REJECT",
		"ip6t_REJECT":   "-A INPUT -j REJECT",
	}[f]
	if words == "" {
		return IPRule{}, false
	}
	family := IPv4
	if strings.HasPrefix(string(f), "ip6") {
		family = IPv6
	}
	r, err := ParseIPRule(family, words)
	return r, err == nil
}
