package scenarios

import (
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// Service is a virtual service by its name, as its directors are told.
func (l *Lab) Service(name string) (ipvs.Service, bool) {
	v, ok := l.VirtualServices.Get(name)
	if !ok {
		return ipvs.Service{}, false
	}
	return v.service(), true
}

// TablesRest reports whether only the lab's own steps write its IPVS tables, each
// before the next thing happens: no daemon of the machine runs in a node, and no
// step has a shell, which might leave something behind.
func (l *Lab) TablesRest() bool {
	runs := func(e source.Entry[Node]) bool {
		_, keepalived := e.Value.keepalived()
		return keepalived || slices.ContainsFunc(e.Value.Serve, func(s Serve) bool { return s.Command != "" })
	}
	shell := func(s Step) bool {
		return slices.ContainsFunc(s.Do, func(a Action) bool { return a.Run != nil })
	}
	return !slices.ContainsFunc(l.Nodes, runs) && !slices.ContainsFunc(l.Steps, shell)
}
