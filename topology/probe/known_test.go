package probe

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

func TestKnown(t *testing.T) {
	asked := make(map[topology.Feature]int)
	verdicts := map[topology.Feature]Verdict{"veth": Yes, "ipip": No}
	k := Known{Features: func(_ context.Context, want []topology.Feature) []Answer {
		var list []Answer
		for _, f := range want {
			asked[f]++
			list = append(list, Answer{Feature: f, Verdict: verdicts[f], Why: "so be it", Fix: "sudo modprobe " + string(f)})
		}
		return list
	}}
	for range 2 {
		missing, err := k.Missing(t.Context(), []topology.Feature{"veth", "ipip", "veth"})
		if err != nil || !slices.Equal(missing, []topology.Feature{"ipip"}) {
			t.Errorf("missing %v, %v", missing, err)
		}
		missing, err = k.Missing(t.Context(), []topology.Feature{"bridge", "ipip"})
		if err == nil || !strings.Contains(err.Error(), "bridge: so be it; try sudo modprobe bridge") || !slices.Equal(missing, []topology.Feature{"ipip"}) {
			t.Errorf("missing %v, %v", missing, err)
		}
	}
	if asked["veth"] != 1 || asked["ipip"] != 1 || asked["bridge"] != 2 {
		t.Errorf("asked %v", asked)
	}
	answers := k.Ask(t.Context(), []topology.Feature{"ipip", "bridge", "veth"})
	for i, want := range []Answer{{"ipip", No, "so be it", "sudo modprobe ipip"}, {"bridge", Unknown, "so be it", "sudo modprobe bridge"}, {"veth", Yes, "so be it", "sudo modprobe veth"}} {
		if answers[i] != want {
			t.Errorf("answer %+v, wanted %+v", answers[i], want)
		}
	}
}
