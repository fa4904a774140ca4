package engine

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
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
	// gone are, by their names, the captures of links that a change of this
	// step has taken away or made anew.
	gone map[string][]*capture.Capture
	// all says that every link is captured, as long as the lab lasts.
	all bool
	// thorough says that a check of this step looks at all of them.
	thorough bool
	// rest says that nothing but the lab's own steps writes its IPVS tables.
	rest bool
	// watched are the nodes whose packets a check of this step looks at.
	watched  map[string]bool
	barriers capture.Barriers
	outcomes assert.Outcomes
}

var (
	_ assert.Env     = (*env)(nil)
	_ assert.Resting = (*env)(nil)
)

func newEnv(w *world, lab *scenarios.Lab) *env {
	return &env{world: w, lab: lab, rest: lab.TablesRest(), captures: make(map[string]*capture.Capture)}
}

func (e *env) close() {
	_ = e.barriers.Close() // the sockets are gone either way
	// Each close waits for the kernel; together they wait once.
	var wg sync.WaitGroup
	for _, c := range e.captures {
		wg.Go(func() { _ = c.Close() })
	}
	wg.Wait()
	e.dropGone()
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
	if e.all {
		if err := e.listenAll(); err != nil {
			return err
		}
	}
	e.dropGone()
	e.thorough = false
	for _, c := range e.captures {
		c.Forget()
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

// Service implements assert.Env.
func (e *env) Service(name string) (ipvs.Service, bool) { return e.lab.Service(name) }

// DeviceFor implements assert.Env.
func (e *env) DeviceFor(node string, addr netip.Addr) (string, error) {
	return e.lab.DeviceFor(node, addr)
}

// TablesRest implements assert.Resting.
func (e *env) TablesRest() bool { return e.rest }

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
