package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// env is the running lab as its checks see it.
type env struct {
	*world
	lab *scenarios.Lab
	// captures stay open for the whole lab, since to close one takes the
	// kernel milliseconds; a step sees what came since it began.
	captures map[string]*capture.Capture
	begun    map[string]int
	// watched are the nodes whose packets a check of this step looks at.
	watched  map[string]bool
	barriers capture.Barriers
	outcomes assert.Outcomes
}

var _ assert.Env = (*env)(nil)

func newEnv(w *world, lab *scenarios.Lab) *env {
	return &env{world: w, lab: lab, captures: make(map[string]*capture.Capture), begun: make(map[string]int)}
}

func (e *env) close() {
	_ = e.barriers.Close() // the sockets are gone either way
	for _, c := range e.captures {
		_ = c.Close()
	}
}

// beginStep opens captures where clients are, and marks where the step begins.
func (e *env) beginStep() error {
	e.outcomes = assert.Outcomes{}
	e.watched = make(map[string]bool)
	for _, client := range e.lab.Clients() {
		n, _ := e.lab.Nodes.Get(client)
		for _, dev := range n.Links.Names() {
			if err := e.listen(client, dev); err != nil {
				return err
			}
		}
	}
	for name, c := range e.captures {
		e.begun[name] = len(c.Packets())
	}
	return nil
}

// NodeNames implements assert.Env.
func (e *env) NodeNames() []string { return e.lab.Nodes.Names() }

// Owner implements assert.Env.
func (e *env) Owner(mac net.HardwareAddr) (topology.NetAddr, bool) {
	for _, n := range e.lab.Nodes {
		for _, k := range n.Value.Links {
			if m := topology.MAC(e.lab.Name, n.Name, k.Name); slices.Equal(m, mac) {
				return topology.NetAddr{Node: n.Name, Device: k.Name, MAC: m}, true
			}
		}
	}
	return topology.NetAddr{}, false
}

// Resolve implements assert.Env.
func (e *env) Resolve(name string) (netip.Addr, error) { return e.lab.Resolve(name) }

// DeviceFor implements assert.Env.
func (e *env) DeviceFor(node string, addr netip.Addr) (string, error) {
	return e.lab.DeviceFor(node, addr)
}

// Capture implements assert.Env.
func (e *env) Capture(node, device string) (assert.Capture, error) {
	if err := e.listen(node, device); err != nil {
		return nil, err
	}
	e.watched[node] = true
	return stepCapture{e, captureName(node, device)}, nil
}

func captureName(node, device string) string { return node + ":" + device }

// listen opens a capture, unless it is open.
func (e *env) listen(node, device string) error {
	name := captureName(node, device)
	if _, ok := e.captures[name]; ok {
		return nil
	}
	n, err := e.live(node)
	if err != nil {
		return err
	}
	c, err := capture.Open(n.Namespace, node, device, capture.Options{})
	if err != nil {
		return err
	}
	e.captures[name] = c
	return nil
}

// stepCapture is a lab's capture since the step began.
type stepCapture struct {
	env  *env
	name string
}

// Packets is what came since the step began. A capture that lost packets
// proves nothing and is an error.
func (s stepCapture) Packets() ([]capture.Packet, error) {
	c := s.env.captures[s.name]
	packets := c.Packets()
	if err := c.Err(); err != nil {
		return nil, err
	}
	if lost := c.Lost(); lost > 0 {
		return nil, fmt.Errorf("the capture at %s lost %d packets", s.name, lost)
	}
	return packets[min(s.env.begun[s.name], len(packets)):], nil
}

// Outcomes implements assert.Env.
func (e *env) Outcomes() assert.Outcomes { return e.outcomes }

// ReadFile implements assert.Env.
func (e *env) ReadFile(node, path string) ([]byte, error) {
	n, err := e.live(node)
	if err != nil {
		return nil, err
	}
	return n.files.ReadFile(path)
}

// barrier returns when all that the nodes had sent to one another before the
// call has arrived, so that what is not seen by then will not come. Nodes whose
// link has no carrier can neither send nor be waited for.
func (e *env) barrier(ctx context.Context) error {
	for _, w := range e.lab.Networks {
		var stations []capture.Station
		for _, n := range e.lab.Nodes {
			live, err := e.live(n.Name)
			if err != nil {
				continue // left out on purpose
			}
			for _, k := range n.Value.Links {
				if k.Value.Network != w.Name {
					continue
				}
				l, err := topology.LinkByName(live, k.Name)
				if err != nil || l.Attrs().OperState != netlink.OperUp {
					continue
				}
				stations = append(stations, capture.Station{Node: n.Name, NS: live.Namespace, Device: k.Name})
			}
		}
		if len(stations) < 2 {
			continue
		}
		// Where clients listen is where absence is judged. One that said
		// nothing and is not looked at is left out: a barrier costs every node
		// a frame, and there may be a thousand of both.
		clients := slices.DeleteFunc(slices.Clone(e.lab.Clients()), func(name string) bool { return !e.watched[name] && !e.spoke(name) })
		slices.SortStableFunc(stations, func(a, b capture.Station) int {
			return cmp.Compare(bool2int(!slices.Contains(clients, a.Node)), bool2int(!slices.Contains(clients, b.Node)))
		})
		for i, s := range stations {
			if i > 0 && !slices.Contains(clients, s.Node) {
				break
			}
			if err := e.barriers.Barrier(ctx, s, stations); err != nil {
				return fmt.Errorf("what did not arrive cannot be told from what is late: %w", err)
			}
		}
	}
	return nil
}

// spoke reports whether a node did something in this step.
func (e *env) spoke(node string) bool {
	return slices.ContainsFunc(e.outcomes.Replies, func(r assert.Reply) bool { return r.From == node }) ||
		slices.ContainsFunc(e.outcomes.Outputs, func(o assert.Output) bool { return o.Node == node })
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}
