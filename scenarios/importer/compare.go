package importer

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// Difference is what changes from one configuration to another.
type Difference struct {
	// Changes are in the order of the old configuration, then what the new one
	// adds. There are none where both tell a director the same.
	Changes []Change `json:"changes"`
	// Unknown says why it is not known which assertions tell the two apart: no
	// lab can be made of one of them. It is "" where it is known.
	Unknown string `json:"unknown,omitempty"`
}

// The words of Change.What.
const (
	WhatService     = "virtual service"
	WhatMoved       = "address"
	WhatScheduler   = "scheduler"
	WhatPersistence = "persistence"
	WhatOnePacket   = "one-packet scheduling"
	WhatServer      = "real server"
	WhatPort        = "port"
	WhatForwarding  = "forwarding method"
	WhatTunnel      = "tunnel"
	WhatWeight      = "weight"
	WhatThresholds  = "thresholds"
	WhatSorry       = "sorry server"
	WhatQuorum      = "quorum"
	WhatCheckers    = "health checks"
	WhatFailure     = "what a failed check does"
	WhatVirtualIP   = "virtual IP address"
)

// Change is one thing that changes.
type Change struct {
	// What is the thing, in one of the words above.
	What string `json:"what"`
	// Service is the virtual service as the old configuration has it, or the new
	// one where the old has it not: "tcp 198.51.100.10:80". It is "" for what
	// concerns no service.
	Service string `json:"service,omitempty"`
	// Server is the real server: "10.0.0.2:80"; "" for what concerns the service.
	Server string `json:"server,omitempty"`
	// Old and New are the thing's two states. The Text of one that is not there
	// is "".
	Old State `json:"old"`
	New State `json:"new"`
	// Assertions are those of the old configuration's lab that the new one's has
	// no more; where the old one has nothing that could be asserted, as of a
	// service that is added, those of the new one's lab. Nodes have the addresses
	// of their real servers.
	Assertions []Assertion `json:"assertions"`

	// variant is the old service with this one change, nil where there is none.
	variant func(s *config.Service)
	// service is the old one, or else the new one; becomes is what the old one
	// becomes.
	service, becomes *config.Service
	// whole says that all that is said of the service is about this change: it is
	// not there, or not at its address.
	whole bool
	// lost is the address that the director has no more, if it is one.
	lost netip.Addr
}

// State is how a thing is in one of the two configurations, and where that stands.
type State struct {
	Text string     `json:"text,omitempty"`
	Pos  source.Pos `json:"pos"`
}

// Assertion is an assertion of a lab.
type Assertion struct {
	// Kind is its word in a lab file: "rotation".
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// KindTable is the assertion that the director's table is as it should be.
const KindTable = "table"

// OnlyTable reports whether nothing but the table of the director shows the
// change: no request would be answered otherwise.
func (c Change) OnlyTable() bool {
	return len(c.Assertions) > 0 && !slices.ContainsFunc(c.Assertions, func(a Assertion) bool { return a.Kind != KindTable })
}

// Compare tells what changes from one configuration to another, in what the
// kernel is told and in who watches over it, and which assertions of the labs
// that Draft makes of them show that. The order of services and of real servers
// is no difference, nor is the kind of the files, nor what only one kind can
// say.
func Compare(old, new *config.Config, o DraftOptions) (*Difference, error) {
	if old == nil || new == nil {
		return nil, fmt.Errorf("comparing takes two configurations")
	}
	var changes []Change
	pairs := pairUp(old, new)
	both := old.Kind == new.Kind
	for _, p := range pairs {
		switch {
		case p.new == nil:
			changes = append(changes, wholeService(p.old, stateOf(p.old), State{}))
		case p.old == nil:
			changes = append(changes, wholeService(p.new, State{}, stateOf(p.new)))
		default:
			changes = append(changes, changesOf(p.old, p.new, both)...)
		}
	}
	if both {
		changes = append(changes, addressChanges(old, new)...)
	}
	d := &Difference{Changes: changes}
	tell(d, old, new, o)
	return d, nil
}

func wholeService(s *config.Service, was, is State) Change {
	return Change{What: WhatService, Service: s.Name(), Old: was, New: is, service: s, whole: true}
}

func stateOf(s *config.Service) State {
	text := s.Name() + fmt.Sprintf(", %d real server", len(s.Servers))
	if len(s.Servers) != 1 {
		text += "s"
	}
	return State{text, s.Pos}
}

// pair is a service in both configurations; one that only one has is nil in the
// other.
type pair struct{ old, new *config.Service }

// pairUp finds the services of the one in the other: those of the same address
// first, then those that have moved, which have the same real servers.
func pairUp(old, new *config.Config) []pair {
	there := make(map[string]*config.Service, len(new.Services))
	for i := range new.Services {
		there[new.Services[i].Name()] = &new.Services[i]
	}
	taken := make(map[*config.Service]bool)
	pairs := make([]pair, len(old.Services))
	for i := range old.Services {
		s := &old.Services[i]
		pairs[i] = pair{s, there[s.Name()]}
		taken[pairs[i].new] = true
	}
	moved := make(map[string][]*config.Service)
	for i := range new.Services {
		if s := &new.Services[i]; !taken[s] && len(s.Servers) > 0 {
			moved[serversOf(s)] = append(moved[serversOf(s)], s)
		}
	}
	for i, p := range pairs {
		if p.new != nil || len(p.old.Servers) == 0 {
			continue
		}
		candidates := moved[serversOf(p.old)]
		if len(candidates) == 0 {
			continue
		}
		best := nearest(p.old, candidates)
		pairs[i].new = candidates[best]
		taken[candidates[best]] = true
		moved[serversOf(p.old)] = slices.Delete(candidates, best, best+1)
	}
	for i := range new.Services {
		if s := &new.Services[i]; !taken[s] {
			pairs = append(pairs, pair{nil, s})
		}
	}
	return pairs
}

// nearest is the candidate that has most of its name in common with s.
func nearest(s *config.Service, candidates []*config.Service) int {
	best, most := 0, -1
	for i, c := range candidates {
		n := 0
		if c.Protocol == s.Protocol {
			n++
		}
		if c.Addr.Addr() == s.Addr.Addr() {
			n += 2
		}
		if c.Addr.Port() == s.Addr.Port() {
			n += 2
		}
		if n > most {
			best, most = i, n
		}
	}
	return best
}

// serversOf are the machines behind a service: their addresses, in order. Their
// ports follow that of the service with most forwarding methods.
func serversOf(s *config.Service) string {
	list := make([]netip.Addr, len(s.Servers))
	for i, d := range s.Servers {
		list[i] = d.Addr.Addr()
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return fmt.Sprint(list)
}

// addressChanges are those of the addresses that the director carries.
func addressChanges(old, new *config.Config) []Change {
	var changes []Change
	find := func(list []config.Address, a config.Address) bool {
		return slices.ContainsFunc(list, func(o config.Address) bool { return o.Prefix == a.Prefix && o.Device == a.Device })
	}
	text := func(a config.Address) string {
		if a.Device == "" {
			return a.Prefix.String()
		}
		return a.Prefix.String() + " on " + a.Device
	}
	for _, a := range old.Addresses {
		if !find(new.Addresses, a) {
			changes = append(changes, Change{What: WhatVirtualIP, Old: State{text(a), a.Pos}, lost: lostBy(new, a.Prefix.Addr())})
		}
	}
	for _, a := range new.Addresses {
		if !find(old.Addresses, a) {
			changes = append(changes, Change{What: WhatVirtualIP, New: State{text(a), a.Pos}})
		}
	}
	return changes
}

// lostBy is an address that a director has not by a configuration, or the zero
// value.
func lostBy(c *config.Config, a netip.Addr) netip.Addr {
	if slices.ContainsFunc(c.Addresses, func(o config.Address) bool { return o.Prefix.Addr() == a }) {
		return netip.Addr{}
	}
	return a
}

// forwardWords are a forwarding method as the field says it.
func forwardWords(f ipvs.Forward) string { return f.String() + " (" + method(f) + ")" }
