package kernel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAliases(t *testing.T) {
	a := ParseAliases([]byte("# Aliases\nalias ipt_MASQUERADE xt_MASQUERADE\nalias rtnl-link-dummy dummy\nalias fs-nfs* nfs\nalias net-pf-16-proto-16-family-IPVS ip_vs\nbroken\nalias rtnl_link_dummy other\n"))
	for name, want := range map[string][]string{
		"ipt_MASQUERADE":                 {"xt_MASQUERADE"},
		"rtnl-link-dummy":                {"dummy", "other"},
		"fs-nfs4":                        {"nfs"},
		"net-pf-16-proto-16-family-IPVS": {"ip_vs"},
		"netdev-eth0":                    nil,
		"[":                              nil,
	} {
		if got := a.Find(name); !cmp.Equal(got, want) {
			t.Errorf("%s: %q, wanted %q", name, got, want)
		}
	}
}
