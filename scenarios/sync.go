package scenarios

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// SyncDaemon is one of the two synchronization daemons of a director.
type SyncDaemon struct {
	Pos    source.Pos
	Daemon ipvs.SyncDaemon
}

// UnmarshalSource reads the words.
func (s *SyncDaemon) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s.Pos = d.Pos(n)
	text, ok := d.Scalar(n, `a daemon such as "master --mcast-interface eth0 --syncid 1"`)
	if !ok {
		return
	}
	var err error
	if s.Daemon, err = ipvs.ParseSyncDaemon(text); err != nil {
		d.Fail(n, "%v", err)
	}
}

// syncOps are the synchronization daemons, which come before the services: what
// is balanced is told from the first connection on.
func (l *Lab) syncOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		for _, s := range e.Value.SyncDaemons {
			why := fmt.Sprintf("%s tells the other directors of its connections", e.Name)
			if s.Daemon.State == ipvs.SyncBackup {
				why = fmt.Sprintf("%s takes over what another director tells of its connections", e.Name)
			}
			ops = append(ops, ipvs.NewSyncDaemonOp(e.Name, s.Daemon, why, s.Pos))
		}
	}
	return ops
}

// checkSync finds daemons that a kernel would refuse: two of one state, one on a
// device that is not there, and any beside a real server of another family than
// its service's (ip_vs_genl_new_daemon and ip_vs_genl_set_cmd in
// net/netfilter/ipvs/ip_vs_ctl.c).
func (l *Lab) checkSync(errs *source.List, node string, n Node) {
	seen := make(map[ipvs.SyncState]source.Pos)
	for _, s := range n.SyncDaemons {
		if s.Daemon.Interface == "" {
			continue // it could not be read
		}
		if first, twice := seen[s.Daemon.State]; twice {
			errs.Add(s.Pos, "node %s has a second %s daemon; the first is at %s", node, s.Daemon.State, first)
		}
		seen[s.Daemon.State] = s.Pos
		if _, ok := n.Links.Get(s.Daemon.Interface); !ok {
			errs.Add(s.Pos, "node %s: %s", node, source.Unknown("link", s.Daemon.Interface, n.Links.Names()))
		}
	}
	if len(n.SyncDaemons) == 0 {
		return
	}
	for _, e := range l.VirtualServices {
		for _, r := range e.Value.RealServers {
			if !slices.Contains(e.Value.Directors, node) {
				continue
			}
			if addr, err := l.realServerAddress(node, e.Value, r); err == nil && addr.Is4() != e.Value.vip().Is4() {
				errs.Add(r.Pos, "real server %s of %s is of another family than the service, which a kernel refuses beside a sync daemon (at %s)", r.Node, e.Name, n.SyncDaemons[0].Pos)
			}
		}
	}
}
