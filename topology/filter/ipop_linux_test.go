package filter

import (
	"context"
	"slices"
	"testing"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func ipOpsOf(tb testing.TB, f Family, lines ...string) []topology.Op {
	tb.Helper()
	var ops []topology.Op
	for i, r := range mustIP(tb, f, lines...) {
		ops = append(ops, NewIPRule("web1", i+1, r, "", "because", source.Pos{File: "lab.yaml", Line: 3}))
	}
	return ops
}

func TestIPOpSays(t *testing.T) {
	op := ipOpsOf(t, IPv4, "-t nat -A POSTROUTING -m ipvs --vaddr 10.0.0.100/32 --vport 80 -j MASQUERADE")[0]
	m := op.About()
	if want := (topology.Key{Node: "web1", Kind: "iptables", ID: "1 -t nat -A POSTROUTING -m ipvs --vaddr 10.0.0.100 --vport 80 -j MASQUERADE"}); m.Key != want {
		t.Errorf("key %+v, wanted %+v", m.Key, want)
	}
	if m.Role != RoleSNAT || m.Group != "iptables nat POSTROUTING" || m.Why != "because" || m.Pos.Line != 3 ||
		!slices.Equal(m.Needs, []topology.Feature{"iptable_nat", "xt_ipvs", "xt_MASQUERADE"}) {
		t.Errorf("meta %+v", m)
	}
	v6 := ipOpsOf(t, IPv6, "-A INPUT")[0]
	const rest = "-t nat -A POSTROUTING -m ipvs --vaddr 10.0.0.100 --vport 80 -j MASQUERADE"
	for _, c := range []struct {
		op   topology.Op
		d    topology.Dialect
		want string
	}{
		{op, topology.Dialect{}, "ip netns exec web1 iptables " + rest},
		{op, topology.Dialect{Arptables: "arptables-legacy"}, "ip netns exec web1 iptables-legacy " + rest},
		{op, topology.Dialect{Arptables: "arptables-legacy", Iptables: "iptables"}, "ip netns exec web1 iptables " + rest},
		{undo(t, op), topology.Dialect{}, "ip netns exec web1 iptables -t nat -D" + rest[len("-t nat -A"):]},
		{v6, topology.Dialect{Iptables: "iptables-legacy"}, "ip netns exec web1 ip6tables-legacy -A INPUT"},
	} {
		if got := c.op.Shell(c.d); !slices.Equal(got, []string{c.want}) {
			t.Errorf("shell %q, wanted %q", got, c.want)
		}
	}
	if !topology.Same(op, undo(t, undo(t, op))) || topology.Same(op, undo(t, op)) {
		t.Error("an op is the same as its undoing's undoing, and as nothing else")
	}
}

func TestIPRole(t *testing.T) {
	for words, want := range map[string]topology.Role{
		"-A INPUT": RoleCount, "-A INPUT -j DROP": RoleIPDrop, "-A INPUT -j REJECT": RoleIPDrop, "-A INPUT -j ACCEPT": RoleIPAccept,
		"-t mangle -A INPUT -j MARK --set-mark 1": RoleMark, "-t nat -A PREROUTING -j DNAT --to-destination 1.2.3.4": RoleDNAT,
		"-t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4":               RoleSNAT,
		"-t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu": RoleTCPMSS,
	} {
		if got := IPRole(mustIP(t, IPv4, words)[0]); got != want {
			t.Errorf("%s plays %s, wanted %s", words, got, want)
		}
	}
}

func TestIPOpApply(t *testing.T) {
	families(t, func(t *testing.T, f Family) {
		ns := newNS(t)
		w := fakeWorld{ns: ns}
		apply := func(ops ...topology.Op) {
			t.Helper()
			if err := topology.ApplyAll(context.Background(), w, ops); err != nil {
				t.Fatal(err)
			}
		}
		holds := func(want ...string) {
			t.Helper()
			ns.must(func() error {
				counted, err := CountIP(f)
				if got, want := rulesOf(counted), CanonicalIP(mustIP(t, f, want...)); !slices.Equal(got, want) {
					t.Errorf("there are\n%swanted\n%s", ruleLines(got), ruleLines(want))
				}
				return err
			})
		}
		holds()
		a, b, c := "-A INPUT -p tcp --dport 1 -j DROP", "-A INPUT -p tcp --dport 2 -j DROP", "-t mangle -A OUTPUT -p udp"
		ops := ipOpsOf(t, f, a, b, c)
		apply(ops...)
		holds(a, b, c)
		apply(ops...)
		holds(a, b, c)
		// A change in the middle of a chain builds that chain anew, in order.
		d := "-A INPUT -p tcp --dport 3 -j DROP"
		diff, err := topology.Diff(ops, ipOpsOf(t, f, a, d, b, c))
		if err != nil {
			t.Fatal(err)
		}
		apply(diff...)
		holds(a, d, b, c)
		for _, op := range ipOpsOf(t, f, a, d, b, c) {
			apply(undo(t, op))
			apply(undo(t, op))
		}
		holds()
	})
}
