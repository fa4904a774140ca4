package topology_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// oneNode is a world of one node, whose files and daemons nobody asks for.
type oneNode struct {
	topology.Node
	*netns.Namespace
}

func (n oneNode) Name() string             { return "web1" }
func (n oneNode) Do(f func() error) error  { return n.Namespace.Do(f) }
func (n oneNode) Netlink() *netlink.Handle { return n.Namespace.Netlink() }

func (n oneNode) Index(device string) (int, error)                       { return n.Namespace.Index(device) }
func (n oneNode) NsFd() int                                              { return n.Fd() }
func (n oneNode) RemoveNode(string) error                                { return errors.ErrUnsupported }
func (n oneNode) AddNode(context.Context, string) (topology.Node, error) { return n, nil }

type oneWorld struct{ oneNode }

func (w oneWorld) Node(string) (topology.Node, error) { return w.oneNode, nil }

// TestGuestNetem compares with what tc(8) says is there.
func TestGuestNetem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if os.Getenv("LVSLAB_INSIDE") != "1" {
		t.Skip("runs in a guest, whose kernel has netem for sure (runner/guest/inside)")
	}
	ns, err := netns.New("web1")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	tc := func() string {
		var out []byte
		if err := ns.Thread(func() (err error) {
			out, err = exec.Command("tc", "qdisc", "show", "dev", "lo").CombinedOutput()
			return err
		}); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	before := tc()
	state := []topology.Op(nil)
	for _, c := range []struct {
		netem topology.Netem
		want  string
	}{
		{topology.Netem{Delay: 20 * time.Millisecond}, "limit 1000 delay 20ms"},
		{topology.Netem{Delay: 20 * time.Millisecond, Corrupt: 5}, "limit 1000 delay 20ms corrupt 5%"},
		{topology.Netem{Delay: 20 * time.Millisecond}, "limit 1000 delay 20ms"},
		{topology.Netem{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 30}, "limit 1000 delay 50ms  10ms loss 30%"},
		{topology.Netem{Delay: 10 * time.Millisecond, Reorder: 25}, "limit 1000 delay 10ms reorder 25% gap 1"},
		{topology.Netem{Duplicate: 10}, "limit 1000 duplicate 10%"},
		{topology.Netem{}, before},
	} {
		var next []topology.Op
		if c.netem != (topology.Netem{}) {
			next = []topology.Op{topology.NewNetem(topology.Meta{}, "web1", "lo", c.netem)}
		}
		ops, err := topology.Diff(state, next)
		if err == nil {
			err = topology.ApplyAll(t.Context(), oneWorld{oneNode{Namespace: ns}}, ops)
		}
		if err != nil {
			t.Fatal(err)
		}
		state = next
		// "delay 50.0ms" in some versions of tc is "delay 50ms" in others.
		got := strings.NewReplacer(".0ms", "ms", "seed", "\n").Replace(tc())
		got, _, _ = strings.Cut(got, " \n")
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%s: tc says %q, wanted %q", c.netem, got, c.want)
		}
	}
}
