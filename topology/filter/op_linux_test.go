package filter

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// fakeWorld has one node, web1.
type fakeWorld struct {
	topology.World
	ns *testNS
}

func (w fakeWorld) Node(name string) (topology.Node, error) {
	if name != "web1" {
		return nil, errors.New("no node " + name)
	}
	return fakeNode{ns: w.ns}, nil
}

type fakeNode struct {
	topology.Node
	ns *testNS
}

func (n fakeNode) Do(f func() error) error  { return n.ns.Do(f) }
func (n fakeNode) Netlink() *netlink.Handle { return nil }

func opsOf(tb testing.TB, lines ...string) []topology.Op {
	var ops []topology.Op
	for i, r := range mustParse(tb, lines...) {
		ops = append(ops, NewRule("web1", i+1, r, RoleInputDrop, "because", source.Pos{File: "lab.yaml", Line: 3}))
	}
	return ops
}

func undo(tb testing.TB, op topology.Op) topology.Op {
	tb.Helper()
	u, ok := op.Undo()
	if !ok {
		tb.Fatalf("%v cannot be undone", op.About().Key)
	}
	return u
}

func TestOpSays(t *testing.T) {
	op := opsOf(t, "-A INPUT --destination-ip 172.25.12.100/32 -j DROP")[0]
	m := op.About()
	if want := (topology.Key{Node: "web1", Kind: "arp-rule", ID: "1 -A INPUT -d 172.25.12.100 -j DROP"}); m.Key != want {
		t.Errorf("key %+v, wanted %+v", m.Key, want)
	}
	if m.Role != RoleInputDrop || m.Group != "arp-rules" || !slices.Equal(m.Needs, []topology.Feature{Feature}) || m.Why != "because" || m.Pos.Line != 3 {
		t.Errorf("meta %+v", m)
	}
	d := topology.Dialect{Arptables: "arptables-legacy"}
	for _, c := range []struct {
		op   topology.Op
		want string
	}{
		{op, "ip netns exec web1 arptables-legacy -A INPUT -d 172.25.12.100 -j DROP"},
		{undo(t, op), "ip netns exec web1 arptables-legacy -D INPUT -d 172.25.12.100 -j DROP"},
		{undo(t, undo(t, op)), "ip netns exec web1 arptables-legacy -A INPUT -d 172.25.12.100 -j DROP"},
	} {
		if got := c.op.Shell(d); !slices.Equal(got, []string{c.want}) {
			t.Errorf("shell %q, wanted %q", got, c.want)
		}
	}
	if !topology.Same(op, undo(t, undo(t, op))) || topology.Same(op, undo(t, op)) {
		t.Error("an op is the same as its undoing's undoing, and as nothing else")
	}
}

func TestOpApply(t *testing.T) {
	ns := newNS(t)
	var b Backend
	ns.must(func() (err error) { b, err = Detect(); return err })
	w := fakeWorld{ns: ns}
	texts := []string{"-A INPUT -d 1.2.3.1 -j DROP", "-A INPUT -d 1.2.3.2 -j DROP", "-A INPUT -d 1.2.3.3 -j DROP", "-A OUTPUT -s 1.2.3.4 -j mangle --mangle-ip-s 1.2.3.5"}
	ops := opsOf(t, texts...)
	apply := func(ops ...topology.Op) {
		t.Helper()
		for _, op := range ops {
			if err := op.Apply(context.Background(), w); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds := func(texts ...string) {
		t.Helper()
		want := mustParse(t, texts...)
		ns.must(func() error {
			got, err := b.List()
			if !slices.Equal(got, want) {
				t.Errorf("the node holds\n%swanted\n%s", lines(got), lines(want))
			}
			return err
		})
	}
	apply(ops...)
	holds(texts...)
	apply(ops[0], ops[3]) // twice is as once
	holds(texts...)
	apply(undo(t, ops[1]))
	holds(texts[0], texts[2], texts[3])
	apply(undo(t, ops[1])) // taken away twice is as once
	holds(texts[0], texts[2], texts[3])
	// As Diff rebuilds a group: all away, then all in order.
	for _, op := range ops {
		apply(undo(t, op))
	}
	holds()
	apply(ops...)
	holds(texts...)

	other := NewRule("web9", 1, mustParse(t, texts[0])[0], RoleInputDrop, "", source.Pos{})
	if err := other.Apply(context.Background(), w); err == nil || !strings.Contains(err.Error(), "web9") {
		t.Errorf("a node that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ops[0].Apply(ctx, w); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	ns := newNS(b)
	w := fakeWorld{ns: ns}
	op := opsOf(b, "-A INPUT -d 1.2.3.1 -j DROP")[0]
	off := undo(b, op)
	for b.Loop() {
		for _, o := range []topology.Op{op, off} {
			if err := o.Apply(context.Background(), w); err != nil {
				b.Fatal(err)
			}
		}
	}
}
