package ipvs

import (
	"context"
	"fmt"
	"strings"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// The kinds and roles of this package's ops.
const (
	KindService     = "ipvs-service"
	KindDestination = "ipvs-destination"

	RoleService     topology.Role = "virtual-service"
	RoleDestination topology.Role = "real-server"
)

// ServiceOp is the wish for a virtual service on a director.
type ServiceOp struct {
	Node    string
	Service Service

	meta topology.Meta
	edit bool
}

// NewServiceOp is the wish for service s on node.
func NewServiceOp(node string, s Service, why string, pos source.Pos) *ServiceOp {
	s = s.Normal()
	needs := append([]topology.Feature{"ip_vs", topology.Feature("ip_vs_" + s.Scheduler)}, familyNeeds(s.AddrFamily())...)
	if s.PE != "" {
		needs = append(needs, topology.Feature("ip_vs_pe_"+s.PE))
	}
	return &ServiceOp{Node: node, Service: s, meta: topology.Meta{
		Key:   topology.Key{Node: node, Kind: KindService, ID: s.Name()},
		Role:  RoleService,
		Why:   why,
		Pos:   pos,
		Needs: needs,
	}}
}

// featureIPv6 is what a kernel must have for IPv6 addresses.
const featureIPv6 topology.Feature = "ipv6"

// What IPVS can do for root of the machine alone (ErrLegacy), as a feature each.
const (
	featureIPVSIPv6 topology.Feature = "ip_vs-ipv6"
	featureSync     topology.Feature = "ip_vs-sync"
)

func familyNeeds(f Family) []topology.Feature {
	if f == IPv6 {
		return []topology.Feature{featureIPv6, featureIPVSIPv6}
	}
	return nil
}

// About says what the op is for.
func (o *ServiceOp) About() topology.Meta { return o.meta }

// Shell is `ipvsadm -A …`.
func (o *ServiceOp) Shell(topology.Dialect) []string {
	rule := addServiceRule(o.Service)
	if o.edit {
		rule = "-E" + strings.TrimPrefix(rule, "-A")
	}
	return shell(o.Node, rule)
}

// Edit implements topology.Editor.
func (o *ServiceOp) Edit() topology.Op {
	e := *o
	e.edit = true
	return &e
}

// Apply adds the service, or sets it right where it is there already.
func (o *ServiceOp) Apply(ctx context.Context, w topology.World) error {
	return o.ApplyAll(ctx, w, []topology.Op{o})
}

// ApplyAll implements topology.Batch: one opening of the door for all.
func (o *ServiceOp) ApplyAll(ctx context.Context, w topology.World, ops []topology.Op) error {
	return batch(ctx, w, o.Node, ops, func(c *Conn, s *ServiceOp) error { return c.PutService(ctx, s.Service) })
}

// Undo takes the service away, and its real servers with it.
func (o *ServiceOp) Undo() (topology.Op, bool) { return &undoService{*o}, true }

type undoService struct{ op ServiceOp }

func (u *undoService) About() topology.Meta {
	m := u.op.meta
	m.Why = "no longer wanted: " + m.Why
	m.Needs = []topology.Feature{"ip_vs"}
	return m
}

func (u *undoService) Shell(topology.Dialect) []string {
	return shell(u.op.Node, "-D "+serviceRule(u.op.Service))
}

func (u *undoService) Apply(ctx context.Context, w topology.World) error {
	return with(ctx, w, u.op.Node, func(c *Conn) error { return c.dropService(ctx, u.op.Service) })
}

func (u *undoService) Undo() (topology.Op, bool) { op := u.op; return &op, true }

// DestinationOp is the wish for a real server of a virtual service.
type DestinationOp struct {
	Node        string
	Service     Service
	Destination Destination

	meta topology.Meta
	edit bool
}

// NewDestinationOp is the wish for real server d of service s on node. The
// service is a wish of its own, which must come before.
func NewDestinationOp(node string, s Service, d Destination, why string, pos source.Pos) *DestinationOp {
	s = s.Normal()
	d = d.For(s)
	d.Active, d.Inactive = 0, 0
	// The director wraps packets by itself, whatever the tunnel; it is the real
	// server that needs the tunnel's device (run).
	needs := append([]topology.Feature{"ip_vs"}, familyNeeds(familyOf(d.Addr.Addr()))...)
	if d.Forward == TUN && d.TunType != IPIP {
		needs = append(needs, topology.Feature("ip_vs-"+d.TunType.String()))
	}
	return &DestinationOp{Node: node, Service: s, Destination: d, meta: topology.Meta{
		Key:   topology.Key{Node: node, Kind: KindDestination, ID: s.Name() + " " + d.Addr.String()},
		Role:  RoleDestination,
		Why:   why,
		Pos:   pos,
		Needs: needs,
	}}
}

// About says what the op is for.
func (o *DestinationOp) About() topology.Meta { return o.meta }

// Shell is `ipvsadm -a …`.
func (o *DestinationOp) Shell(topology.Dialect) []string {
	rule := addDestinationRule(o.Service, o.Destination)
	if o.edit {
		rule = "-e" + strings.TrimPrefix(rule, "-a")
	}
	return shell(o.Node, rule)
}

// Edit implements topology.Editor.
func (o *DestinationOp) Edit() topology.Op {
	e := *o
	e.edit = true
	return &e
}

// Apply adds the real server, or sets it right where it is there already.
func (o *DestinationOp) Apply(ctx context.Context, w topology.World) error {
	return o.ApplyAll(ctx, w, []topology.Op{o})
}

// ApplyAll implements topology.Batch: one opening of the door for all.
func (o *DestinationOp) ApplyAll(ctx context.Context, w topology.World, ops []topology.Op) error {
	return batch(ctx, w, o.Node, ops, func(c *Conn, d *DestinationOp) error {
		return c.PutDestination(ctx, d.Service, d.Destination)
	})
}

// Undo takes the real server away.
func (o *DestinationOp) Undo() (topology.Op, bool) { return &undoDestination{*o}, true }

type undoDestination struct{ op DestinationOp }

func (u *undoDestination) About() topology.Meta {
	m := u.op.meta
	m.Why = "no longer wanted: " + m.Why
	m.Needs = []topology.Feature{"ip_vs"}
	return m
}

func (u *undoDestination) Shell(topology.Dialect) []string {
	return shell(u.op.Node, delDestinationRule(u.op.Service, u.op.Destination))
}

func (u *undoDestination) Apply(ctx context.Context, w topology.World) error {
	return with(ctx, w, u.op.Node, func(c *Conn) error {
		return c.dropDestination(ctx, u.op.Service, u.op.Destination)
	})
}

func (u *undoDestination) Undo() (topology.Op, bool) { op := u.op; return &op, true }

// shell is the command line of one rule, run in the node's namespace.
func shell(node, rule string) []string {
	words := strings.Fields(rule)
	for i, w := range words {
		if strings.HasPrefix(w, "[") {
			words[i] = topology.Quote(w) // a shell would look for files: [fd00::1]:80
		}
	}
	return []string{fmt.Sprintf("ip netns exec %s ipvsadm %s", node, strings.Join(words, " "))}
}

// batch applies ops, which are all of one type and on one node. The error of one
// that is not the first begins with its place; the first one's is added by
// topology.ApplyAll.
func batch[T topology.Op](ctx context.Context, w topology.World, node string, ops []topology.Op, apply func(*Conn, T) error) error {
	return with(ctx, w, node, func(c *Conn) error {
		for i, op := range ops {
			o, ok := op.(T)
			if !ok {
				return fmt.Errorf("%s is not of its batch", op.About().Key)
			}
			err := apply(c, o)
			if pos := op.About().Pos; err != nil && i > 0 && pos.IsValid() {
				return fmt.Errorf("at %s: %w", pos, err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// with opens the door of a node for one change.
func with(ctx context.Context, w topology.World, node string, f func(*Conn) error) error {
	n, err := w.Node(node)
	if err != nil {
		return err
	}
	c, err := Open(n)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(c)
}
