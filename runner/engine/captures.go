package engine

import (
	"fmt"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
)

// Capture implements assert.Env.
func (e *env) Capture(node, device string) (assert.Capture, error) {
	if err := e.listen(node, device); err != nil {
		return nil, err
	}
	e.watched[node] = true
	return stepCapture{e, captureName(node, device)}, nil
}

// WatchLinks implements assert.Env.
func (e *env) WatchLinks() error {
	e.all, e.thorough = true, true
	return e.listenAll()
}

// Links implements assert.Env.
func (e *env) Links() []assert.LinkCapture {
	var list []assert.LinkCapture
	for _, n := range e.lab.Nodes {
		for _, device := range n.Value.Links.Names() {
			name := captureName(n.Name, device)
			if e.captures[name] == nil && len(e.gone[name]) == 0 {
				continue // left out on purpose
			}
			list = append(list, assert.LinkCapture{Node: n.Name, Device: device, Capture: stepCapture{e, name}})
		}
	}
	return list
}

// Directors implements assert.Env.
func (e *env) Directors() []string { return e.lab.Directors() }

func captureName(node, device string) string { return node + ":" + device }

// listen opens a capture, unless it is open. Whoever looks at packets shall see
// them as a cable would carry them; a lab that nobody looks at keeps its
// offloads, and its speed.
func (e *env) listen(node, device string) error {
	name := captureName(node, device)
	if _, ok := e.captures[name]; ok {
		return nil
	}
	n, err := e.live(node)
	if err != nil {
		return err
	}
	c, err := capture.Open(n.Namespace, node, device, capture.Options{NoOffloads: true})
	if err != nil {
		return err
	}
	e.captures[name] = c
	return nil
}

// listenAll opens the captures of all links that are there. A link that this
// step is going to make follows when it is made.
func (e *env) listenAll() error {
	for _, n := range e.lab.Nodes {
		live, err := e.live(n.Name)
		if err != nil {
			continue // left out on purpose
		}
		for _, device := range n.Value.Links.Names() {
			if _, ok := e.captures[captureName(n.Name, device)]; ok {
				continue
			}
			if _, err := topology.LinkByName(live, device); err != nil {
				continue
			}
			if err := e.listen(n.Name, device); err != nil {
				return err
			}
		}
	}
	return nil
}

// changed follows the links that ops have made or taken away: a capture is
// bound to a device and not to its name.
func (e *env) changed(ops []topology.Op) error {
	for _, op := range ops {
		k := op.About().Key
		name := captureName(k.Node, k.ID)
		c, ok := e.captures[name]
		if k.Kind != "link" || !ok {
			continue
		}
		if e.gone == nil {
			e.gone = make(map[string][]*capture.Capture)
		}
		e.gone[name] = append(e.gone[name], c)
		delete(e.captures, name)
		if live, err := e.live(k.Node); err == nil {
			if _, err := topology.LinkByName(live, k.ID); err == nil {
				if err := e.listen(k.Node, k.ID); err != nil {
					return err
				}
			}
		}
	}
	if e.all {
		return e.listenAll()
	}
	return nil
}

func (e *env) dropGone() {
	for _, list := range e.gone {
		for _, c := range list {
			_ = c.Close()
		}
	}
	e.gone = nil
}

// stepCapture is a lab's capture since the step began.
type stepCapture struct {
	env  *env
	name string
}

// Packets is what came since the step began. A capture that lost packets
// proves nothing and is an error.
func (s stepCapture) Packets() ([]capture.Packet, error) {
	var packets []capture.Packet
	for _, c := range s.list() {
		packets = append(packets, c.Packets()...)
		if lost := c.Lost(); lost > 0 {
			return nil, fmt.Errorf("the capture at %s lost %d packets", s.name, lost)
		}
		if err := c.Err(); err != nil {
			return nil, err
		}
	}
	return packets, nil
}

func (s stepCapture) list() []*capture.Capture {
	list := s.env.gone[s.name]
	if c, ok := s.env.captures[s.name]; ok {
		list = append(list[:len(list):len(list)], c)
	}
	return list
}

// interfaces are the packets of a step for a file, and how many were lost. What
// is lost is told; it does not keep the rest from being written.
func (e *env) interfaces() (list []capture.Interface, lost uint64, err error) {
	for _, l := range e.Links() {
		in := capture.Interface{Name: captureName(l.Node, l.Device)}
		for _, c := range (stepCapture{e, in.Name}).list() {
			in.Packets = append(in.Packets, c.Packets()...)
			in.Lost += c.Lost()
			if cerr := c.Err(); cerr != nil && err == nil && c.Lost() == 0 {
				err = cerr
			}
		}
		lost += in.Lost
		list = append(list, in)
	}
	return list, lost, err
}
