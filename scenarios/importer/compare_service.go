package importer

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// serviceDiff collects what changes in a service.
type serviceDiff struct {
	old, new *config.Service
	changes  []Change
}

// add keeps a change, unless both states read the same.
func (d *serviceDiff) add(c Change) {
	if c.Old.Text == c.New.Text {
		return
	}
	c.Service, c.service, c.becomes = d.old.Name(), d.old, d.new
	d.changes = append(d.changes, c)
}

// changesOf are the changes of a service that is in both configurations. both
// says that the files are of one kind, so that what only that can say counts.
func changesOf(old, new *config.Service, both bool) []Change {
	d := &serviceDiff{old: old, new: new}
	d.add(Change{What: WhatMoved, Old: State{old.Name(), old.Pos}, New: State{new.Name(), new.Pos}, whole: true})
	d.settings()
	d.servers(both)
	if both {
		d.watch()
	}
	return d.changes
}

// settings are how the kernel balances.
func (d *serviceDiff) settings() {
	a, b := d.old.Normal(), d.new.Normal()
	d.add(Change{
		What: WhatScheduler,
		Old:  State{describeScheduler(a), d.old.Place("scheduler")}, New: State{describeScheduler(b), d.new.Place("scheduler")},
		variant: func(s *config.Service) { s.Scheduler, s.Flags = b.Scheduler, b.Flags },
	})
	d.add(Change{
		What: WhatPersistence,
		Old:  State{describePersistence(a), d.old.Place("persistence")}, New: State{describePersistence(b), d.new.Place("persistence")},
		variant: func(s *config.Service) { s.Timeout, s.Netmask, s.PE = b.Timeout, b.Netmask, b.PE },
	})
	d.add(Change{
		What: WhatOnePacket, Old: State{onOff(a.OnePacket), d.old.Pos}, New: State{onOff(b.OnePacket), d.new.Pos},
		variant: func(s *config.Service) { s.OnePacket = b.OnePacket },
	})
}

func describeScheduler(s ipvs.Service) string {
	if len(s.Flags) == 0 {
		return s.Scheduler
	}
	return s.Scheduler + " with " + strings.Join(s.Flags, ",")
}

func describePersistence(s ipvs.Service) string {
	if !s.Persistent() {
		return "none"
	}
	text := fmt.Sprintf("%d s", int(s.Timeout/time.Second))
	if s.Netmask != 0 {
		text += fmt.Sprintf(" by /%d", s.Netmask)
	}
	if s.PE != "" {
		text += " by " + s.PE
	}
	return text
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// servers are the real servers.
func (d *serviceDiff) servers(both bool) {
	partner := partners(d.old, d.new)
	known := make(map[int]bool)
	for i := range d.old.Servers {
		j, there := partner[i]
		if !there {
			s := &d.old.Servers[i]
			d.add(Change{
				What: WhatServer, Server: s.Addr.String(), Old: State{describeServer(s), s.Pos},
				variant: func(v *config.Service) { v.Servers = without(v.Servers, s.Addr) },
			})
			continue
		}
		known[j] = true
		d.server(&d.old.Servers[i], &d.new.Servers[j], both)
	}
	for j := range d.new.Servers {
		if s := &d.new.Servers[j]; !known[j] {
			d.add(Change{
				What: WhatServer, Server: s.Addr.String(), New: State{describeServer(s), s.Pos},
				variant: func(v *config.Service) { v.Servers = append(v.Servers, *s) },
			})
		}
	}
}

// partners finds the real servers of the one service in the other: those with
// the same address and port, then those with the same address.
func partners(old, new *config.Service) map[int]int {
	exact := make(map[netip.AddrPort]int)
	rest := make(map[netip.Addr][]int)
	for j, s := range new.Servers {
		exact[s.Addr] = j
	}
	partner := make(map[int]int)
	taken := make(map[int]bool)
	for i, s := range old.Servers {
		if j, ok := exact[s.Addr]; ok {
			partner[i], taken[j] = j, true
		}
	}
	for j, s := range new.Servers {
		if !taken[j] {
			rest[s.Addr.Addr()] = append(rest[s.Addr.Addr()], j)
		}
	}
	for i, s := range old.Servers {
		a := s.Addr.Addr()
		if _, there := partner[i]; !there && len(rest[a]) > 0 {
			partner[i], rest[a] = rest[a][0], rest[a][1:]
		}
	}
	return partner
}

func without(list []config.Server, addr netip.AddrPort) []config.Server {
	var out []config.Server
	for _, s := range list {
		if s.Addr != addr {
			out = append(out, s)
		}
	}
	return out
}

// server is a real server that both have.
func (d *serviceDiff) server(a, b *config.Server, both bool) {
	on := func(set func(s *config.Server)) func(*config.Service) {
		return func(v *config.Service) {
			for i := range v.Servers {
				if v.Servers[i].Addr == a.Addr {
					set(&v.Servers[i])
				}
			}
		}
	}
	add := func(what, part, was, is string, set func(s *config.Server)) {
		d.add(Change{
			What: what, Server: a.Addr.String(), Old: State{was, a.Place(part)}, New: State{is, b.Place(part)}, variant: on(set),
		})
	}
	// The port of a service that has moved is told with it.
	follows := a.Addr.Port() == d.old.Addr.Port() && b.Addr.Port() == d.new.Addr.Port()
	if !follows {
		add(WhatPort, "", fmt.Sprint(a.Addr.Port()), fmt.Sprint(b.Addr.Port()), func(s *config.Server) { s.Addr = b.Addr })
	}
	add(WhatForwarding, "forwarding", forwardWords(a.Forward), forwardWords(b.Forward), func(s *config.Server) {
		s.Forward, s.TunType, s.TunPort, s.TunFlags = b.Forward, b.TunType, b.TunPort, b.TunFlags
	})
	if a.Forward == b.Forward {
		add(WhatTunnel, "forwarding", describeTunnel(a), describeTunnel(b), func(s *config.Server) {
			s.TunType, s.TunPort, s.TunFlags = b.TunType, b.TunPort, b.TunFlags
		})
	}
	add(WhatWeight, "weight", fmt.Sprint(a.Weight), fmt.Sprint(b.Weight), func(s *config.Server) { s.Weight = b.Weight })
	add(WhatThresholds, "thresholds", describeThresholds(a), describeThresholds(b), func(s *config.Server) { s.Upper, s.Lower = b.Upper, b.Lower })
	if both {
		add(WhatCheckers, "", describeCheckers(a), describeCheckers(b), func(s *config.Server) { s.Checkers = b.Checkers })
		add(WhatFailure, "", describeFailure(a.InhibitOnFailure || d.old.InhibitOnFailure), describeFailure(b.InhibitOnFailure || d.new.InhibitOnFailure),
			func(s *config.Server) { s.InhibitOnFailure = b.InhibitOnFailure || d.new.InhibitOnFailure })
	}
}

func describeServer(s *config.Server) string {
	return fmt.Sprintf("%s, %s, weight %d", s.Addr, s.Forward, s.Weight)
}

func describeTunnel(s *config.Server) string {
	text := s.TunType.String()
	if s.TunPort != 0 {
		text += fmt.Sprintf(" port %d", s.TunPort)
	}
	switch s.TunFlags {
	case ipvs.Checksum:
		text += " with checksum"
	case ipvs.RemoteChecksum:
		text += " with remote checksum"
	}
	return text
}

func describeThresholds(s *config.Server) string {
	if s.Upper == 0 && s.Lower == 0 {
		return "none"
	}
	return fmt.Sprintf("upper %d, lower %d", s.Upper, s.Lower)
}

func describeCheckers(s *config.Server) string {
	if len(s.Checkers) == 0 {
		return "none"
	}
	words := make([]string, len(s.Checkers))
	for i, c := range s.Checkers {
		words[i] = c.Kind
		if c.Addr.IsValid() {
			words[i] += " " + c.Addr.String()
		}
		if c.Port != 0 {
			words[i] += fmt.Sprintf(" port %d", c.Port)
		}
		for _, p := range c.Paths {
			words[i] += " " + p
		}
	}
	return strings.Join(words, ", ")
}

func describeFailure(inhibits bool) string {
	if inhibits {
		return "sets the weight to 0"
	}
	return "removes the real server"
}

// watch is what only keepalived has: who watches over the service.
func (d *serviceDiff) watch() {
	sorry := func(s *config.Service) State {
		if s.Sorry == nil {
			return State{"none", s.Pos}
		}
		return State{fmt.Sprintf("%s, %s", s.Sorry.Addr, s.Sorry.Forward), s.Sorry.Pos}
	}
	d.add(Change{
		What: WhatSorry, Old: sorry(d.old), New: sorry(d.new),
		variant: func(s *config.Service) { s.Sorry = d.new.Sorry },
	})
	d.add(Change{
		What: WhatQuorum, Old: State{fmt.Sprint(d.old.Quorum), d.old.Place("quorum")}, New: State{fmt.Sprint(d.new.Quorum), d.new.Place("quorum")},
		variant: func(s *config.Service) { s.Quorum = d.new.Quorum },
	})
}
