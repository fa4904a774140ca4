package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology/probe"
)

func TestRootlessTrait(t *testing.T) {
	yesNS := probe.Answer{Feature: probe.NetNS, Verdict: probe.Yes, Why: "one was made"}
	for _, tt := range []struct {
		name    string
		answers []probe.Answer
		verdict string
		why     string
		fix     []string
	}{
		{
			"denied",
			[]probe.Answer{{Feature: probe.NetNS, Verdict: probe.No, Why: "user namespaces are denied"}, {Feature: probe.IPVS, Verdict: probe.Yes}},
			no, "user namespaces are denied", nil,
		},
		{
			"not loaded",
			[]probe.Answer{
				yesNS,
				{Feature: probe.IPVS, Verdict: probe.No, Why: "the module ip_vs is not loaded", Fix: "sudo modprobe ip_vs"},
				{Feature: "veth", Verdict: probe.Yes},
				{Feature: "ip_vs", Verdict: probe.No, Fix: "sudo modprobe ip_vs"},
				{Feature: "ip_vs_rr", Verdict: probe.No, Fix: "sudo modprobe ip_vs_rr"},
				{Feature: "arp-rules", Verdict: probe.No, Fix: "sudo modprobe -a arp_tables arptable_filter"},
			},
			no, "labs without IPVS can run; the module ip_vs is not loaded",
			[]string{"sudo modprobe -a ip_vs ip_vs_rr arp_tables arptable_filter"},
		},
		{"there", []probe.Answer{yesNS, {Feature: probe.IPVS, Verdict: probe.Yes}}, yes, "IPv4 and IPIP tunnels alone", nil},
		{"unsure", []probe.Answer{yesNS, {Feature: probe.IPVS, Why: "who knows"}}, unknown, "who knows", nil},
	} {
		r := rootless(tt.answers)
		if r.Verdict != tt.verdict || !strings.Contains(r.Why, tt.why) || !slices.Equal(r.Fix, tt.fix) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}
