package topology

import (
	"slices"
	"testing"
	"time"
)

func TestNetemShell(t *testing.T) {
	const head = "tc -n web1 qdisc replace dev eth0 root handle 1: netem "
	for want, n := range map[string]Netem{
		"tc -n web1 qdisc del dev eth0 root": {},
		head + "delay 50000us":               {Delay: 50 * time.Millisecond},
		head + "delay 50000us 10000us":       {Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond},
		head + "loss 30%":                    {Loss: 30},
		head + "delay 1us loss 0.5% duplicate 1% reorder 25% corrupt 100%": {
			Delay: time.Microsecond, Loss: 0.5, Duplicate: 1, Reorder: 25, Corrupt: 100,
		},
	} {
		op := NewNetem(Meta{}, "web1", "eth0", n)
		if got := op.Shell(Dialect{}); !slices.Equal(got, []string{want}) {
			t.Errorf("%+v: %q, wanted %q", n, got, want)
		}
		if back, ok := NetemOf(op); back != n || ok != (n != Netem{}) {
			t.Errorf("%+v: reads as %+v, %v", n, back, ok)
		}
	}
	delay := NewDelay(Meta{}, "web1", "eth0", 20*time.Millisecond)
	if m := delay.About(); m.Key != (Key{"web1", "qdisc", "eth0"}) || m.Role != "delay" || !Same(delay, NewNetem(Meta{}, "web1", "eth0", Netem{Delay: 20 * time.Millisecond})) {
		t.Errorf("a delay is %+v", m)
	}
}

// What netem keeps of what was there must be taken away first.
func TestNetemAfresh(t *testing.T) {
	of := func(n Netem) []Op { return []Op{NewNetem(Meta{}, "web1", "eth0", n)} }
	const (
		del  = "tc -n web1 qdisc del dev eth0 root"
		late = "tc -n web1 qdisc replace dev eth0 root handle 1: netem delay 20000us"
	)
	delay := Netem{Delay: 20 * time.Millisecond}
	both := Netem{Delay: 20 * time.Millisecond, Corrupt: 5}
	for _, c := range []struct {
		old, new []Op
		want     []string
	}{
		{nil, of(delay), []string{late}},
		{of(Netem{Delay: time.Second}), of(delay), []string{late}},
		{of(both), of(delay), []string{del, late}},
		{of(delay), of(both), []string{late + " corrupt 5%"}},
		{of(both), nil, []string{del}},
		{of(both), of(both), nil},
	} {
		ops, err := Diff(c.old, c.new)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range ops {
			got = append(got, o.Shell(Dialect{})...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q, wanted %q", got, c.want)
		}
	}
}
