package ipvs

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

func TestOps(t *testing.T) {
	pos := source.Pos{File: "lab.yaml", Line: 3}
	web := Service{Protocol: TCP, Addr: netip.MustParseAddrPort("172.25.12.100:80"), Scheduler: "rr"}
	server := Destination{Addr: netip.MustParseAddrPort("172.25.12.2:80"), Weight: 1}
	tunnel := Destination{Addr: netip.MustParseAddrPort("172.25.12.3:8080"), Weight: 2, Forward: TUN, Upper: 5}
	tests := []struct {
		op          topology.Op
		id          string
		role        topology.Role
		shell, undo string
		needs       []topology.Feature
	}{
		{
			NewServiceOp("director", web, "why", pos), "tcp 172.25.12.100:80", RoleService,
			"ip netns exec director ipvsadm -A -t 172.25.12.100:80 -s rr",
			"ip netns exec director ipvsadm -D -t 172.25.12.100:80",
			[]topology.Feature{"ip_vs", "ip_vs_rr"},
		},
		{
			NewServiceOp("director", Service{FWMark: 1, Family: IPv6}, "why", pos), "fwmark 1 IPv6", RoleService,
			"ip netns exec director ipvsadm -A -f 1 -6 -s wlc",
			"ip netns exec director ipvsadm -D -f 1 -6",
			[]topology.Feature{"ip_vs", "ip_vs_wlc", "ipv6", "ip_vs-ipv6"},
		},
		{
			NewDestinationOp("director", web, server, "why", pos), "tcp 172.25.12.100:80 172.25.12.2:80", RoleDestination,
			"ip netns exec director ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.2:80 -g -w 1",
			"ip netns exec director ipvsadm -d -t 172.25.12.100:80 -r 172.25.12.2:80",
			[]topology.Feature{"ip_vs"},
		},
		{
			NewDestinationOp("director", web, tunnel, "why", pos), "tcp 172.25.12.100:80 172.25.12.3:80", RoleDestination,
			"ip netns exec director ipvsadm -a -t 172.25.12.100:80 -r 172.25.12.3:80 -i -w 2 -x 5",
			"ip netns exec director ipvsadm -d -t 172.25.12.100:80 -r 172.25.12.3:80",
			[]topology.Feature{"ip_vs"},
		},
	}
	for _, tt := range tests {
		m := tt.op.About()
		if m.Key.Node != "director" || m.Key.ID != tt.id || m.Role != tt.role || m.Pos != pos || !slices.Equal(m.Needs, tt.needs) {
			t.Errorf("About: %+v", m)
		}
		if got := tt.op.Shell(topology.Dialect{}); !slices.Equal(got, []string{tt.shell}) {
			t.Errorf("Shell: %q, wanted %q", got, tt.shell)
		}
		undo, ok := tt.op.Undo()
		if !ok || undo.About().Key != m.Key || !slices.Equal(undo.Shell(topology.Dialect{}), []string{tt.undo}) {
			t.Errorf("Undo: %v %q, wanted %q", ok, undo.Shell(topology.Dialect{}), tt.undo)
		}
		if again, ok := undo.Undo(); !ok || !topology.Same(again, tt.op) {
			t.Errorf("Undo of Undo is not the op of before")
		}
		if err := tt.op.Apply(context.Background(), noWorld{}); err == nil {
			t.Error("Apply in a world without the node: no error")
		}
	}
}

// noWorld has no nodes.
type noWorld struct{ topology.World }

func (noWorld) Node(string) (topology.Node, error) { return nil, context.Canceled }
