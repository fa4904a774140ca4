package probe

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

func TestIPRuleFeatures(t *testing.T) {
	needRoot(t)
	features := []topology.Feature{
		"iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw", "ip6table_filter", "ip6table_nat",
		"xt_conntrack", "xt_mark", "xt_MASQUERADE", "xt_nat", "xt_TCPMSS", "xt_ipvs", "ipt_REJECT", "ip6t_REJECT", "xt_sctp",
	}
	before := host(t)
	answers := Features(t.Context(), features)
	if after := host(t); after != before {
		t.Errorf("probing changed this machine.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	got := byFeature(answers)
	for _, a := range answers {
		t.Logf("%s: %s, %s; %s", a.Feature, a.Verdict, a.Why, a.Fix)
		if a.Why == "" {
			t.Errorf("no reason: %+v", a)
		}
		rule, _ := filter.ExampleIP(a.Feature)
		if table := got[filter.TableFeature(rule.Family, rule.Table)]; a.Verdict == Yes && table.Feature != "" && table.Verdict != Yes {
			t.Errorf("%s without its table: %+v", a.Feature, table)
		}
	}
	if sys := readSystem(root{}); sys.static && got["xt_ipvs"].Verdict == No && !strings.Contains(got["xt_ipvs"].Why, "xt_ipvs") {
		t.Errorf("what is missing is not named: %+v", got["xt_ipvs"])
	}
}

// TestIPRuleGate has machines whose kernels could load something.
func TestIPRuleGate(t *testing.T) {
	rule, _ := filter.ExampleIP("xt_MASQUERADE")
	all := []string{"nfnetlink", "x_tables", "nf_tables", "nft_compat", "nft_chain_nat", "xt_tcpudp", "ip_tables", "iptable_nat", "xt_MASQUERADE"}
	for _, c := range []struct {
		name     string
		unloaded string
		safe     bool
	}{
		{"all loaded", "", true},
		{"the target is not", "xt_MASQUERADE", false},
		{"nf_tables is not", "nf_tables", false},
	} {
		s := &system{autoload: true, loaded: map[string]moduleState{}, builtin: map[string]bool{}, files: map[string]bool{}}
		for _, m := range all {
			s.files[m] = true
			if m != c.unloaded {
				s.loaded[m] = live
			}
		}
		a, safe := gateIPRule(s, "xt_MASQUERADE", rule)
		if safe != c.safe || !safe && (a.Verdict != No || !slices.Contains(strings.Fields(a.Fix), c.unloaded)) {
			t.Errorf("%s: safe %v, %+v", c.name, safe, a)
		}
	}
}
