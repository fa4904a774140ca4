package host

import (
	"context"
	"slices"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

// guestBackend can do everything.
type guestBackend struct{ runner.Backend }

func (guestBackend) Name() string { return "guest" }

func (guestBackend) Can(context.Context, []topology.Feature) runner.Answer {
	return runner.Answer{Verdict: runner.Yes, Why: "it can"}
}

// Without root, labs that need what IPVS does for root alone go elsewhere, and
// the others stay here; without IPVS all go elsewhere.
func TestCanApart(t *testing.T) {
	labs := []runner.LabNeeds{
		{Lab: "v4", Needs: []topology.Feature{"veth", "ip_vs", "ip_vs_rr"}},
		{Lab: "v6", Needs: []topology.Feature{"veth", "ip_vs", "ip_vs_rr", "ip_vs-ipv6"}},
	}
	noV6 := probe.Answer{Feature: "ip_vs-ipv6", Verdict: probe.No, Why: "only from root"}
	noIPVS := probe.Answer{Feature: "ip_vs", Verdict: probe.No, Why: "not loaded", Fix: "sudo modprobe ip_vs"}
	noRR := probe.Answer{Feature: "ip_vs_rr", Verdict: probe.No, Why: "not loaded", Fix: "sudo modprobe ip_vs_rr"}
	denied := probe.Answer{Feature: "netns", Verdict: probe.No, Why: "no user namespaces"}
	for _, tt := range []struct {
		name        string
		answers     []probe.Answer
		partly      bool
		lacks, fix  []string
		here, there []string
	}{
		{"all", nil, false, nil, nil, []string{"v4", "v6"}, nil},
		{"IPv4 alone", []probe.Answer{noV6}, true, []string{"ip_vs-ipv6"}, nil, []string{"v4"}, []string{"v6"}},
		{"no scheduler", []probe.Answer{noRR}, true, []string{"ip_vs_rr"}, []string{"sudo modprobe ip_vs_rr"}, nil, []string{"v4", "v6"}},
		{
			"no IPVS",
			[]probe.Answer{noIPVS, noRR, {Feature: "ip_vs-ipv6", Verdict: probe.No, Why: "not loaded", Fix: "sudo modprobe ip_vs"}},
			false,
			[]string{"ip_vs", "ip_vs_rr"},
			[]string{"sudo modprobe ip_vs", "sudo modprobe ip_vs_rr"},
			nil,
			[]string{"v4", "v6"},
		},
		{"denied", []probe.Answer{denied}, false, nil, []string{"sudo lvslab run --kernel host"}, nil, []string{"v4", "v6"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &Backend{features: probe.Features, apart: &probe.Known{Features: told(tt.answers...).features}}
			a := b.Can(t.Context(), []topology.Feature{"veth", "ip_vs", "ip_vs_rr", "ip_vs-ipv6"})
			if a.Partly != tt.partly || !slices.Equal(a.Lacks, tt.lacks) || !slices.Equal(a.Fix, tt.fix) {
				t.Errorf("Can: %+v", a)
			}
			shares, err := runner.Assign(t.Context(), []runner.Backend{b, guestBackend{}}, runner.Auto, labs)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string][]string)
			for _, s := range shares {
				got[s.Backend.Name()] = s.Labs
			}
			if !slices.Equal(got[Name], tt.here) || !slices.Equal(got["guest"], tt.there) {
				t.Errorf("shared out as %v", got)
			}
		})
	}
}
