package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
	"github.com/lvslab/lvslab/topology/source"
)

// breaking is a lab in which something is to be broken.
type breaking struct {
	lab    *scenarios.Lab
	ops    []topology.Op // those of the lab's setup
	faults []live.Broken
}

// check completes a fault with what was not said, or says why it cannot be.
func (s breaking) check(f live.Fault) (live.Fault, error) {
	if !slices.Contains(live.FaultKinds(), f.Kind) {
		return f, errors.New(source.Unknown("kind of fault", f.Kind, live.FaultKinds()))
	}
	if _, ok := s.lab.Nodes.Get(f.Node); !ok {
		return f, unknownNode(f.Node, s.lab)
	}
	if f.Kind != live.Stop && slices.Contains(stopped(s.faults), f.Node) {
		return f, fmt.Errorf("node %s is switched off; it can be broken when \"stop %s\" is healed", f.Node, f.Node)
	}
	if err := onlyFields(f); err != nil {
		return f, err
	}
	var err error
	switch f.Kind {
	case live.Cut, live.Delay, live.Lose, live.Reorder, live.Corrupt, live.Duplicate:
		f, err = s.checkLink(f)
	case live.Kill, live.Hang:
		f.Daemon, err = s.daemon(f.Node, f.Daemon)
	case live.DropARP:
		f, err = s.checkARP(f)
	}
	if err != nil {
		return f, err
	}
	if i := slices.IndexFunc(s.faults, func(b live.Broken) bool { return b.ID == f.ID() }); i >= 0 {
		if had := s.faults[i].Fault; had != f {
			return f, fmt.Errorf("%s already, by %q; heal that first to have it otherwise", state(f), had)
		}
		return f, fmt.Errorf("%s already", state(f))
	}
	if f.Kind == live.Hang && slices.ContainsFunc(s.faults, func(b live.Broken) bool { return b.Is(live.Kill + " " + f.Target()) }) {
		return f, fmt.Errorf("%s of node %s is killed; what does not run cannot hang", f.Daemon, f.Node)
	}
	return f, nil
}

// state is how what a fault breaks is, when it is broken.
func state(f live.Fault) string {
	return f.Target() + map[string]string{
		live.Cut: " is cut", live.Delay: " is delayed", live.Lose: " loses packets", live.Reorder: " reorders packets",
		live.Corrupt: " corrupts packets", live.Duplicate: " duplicates packets", live.Kill: " is killed", live.Hang: " hangs",
		live.Stop: " is switched off", live.DropARP: " is not answered for",
	}[f.Kind]
}

// onlyFields refuses what is said of a fault and has no meaning for its kind.
func onlyFields(f live.Fault) error {
	links := []string{live.Cut, live.Delay, live.Lose, live.Reorder, live.Corrupt, live.Duplicate}
	for _, field := range []struct {
		name  string
		said  bool
		kinds []string
	}{
		{"device", f.Device != "", links},
		{"delay", f.Delay != 0, []string{live.Delay, live.Reorder}},
		{"jitter", f.Jitter != 0, []string{live.Delay}},
		{"percentage", f.Percent != 0, []string{live.Lose, live.Reorder, live.Corrupt, live.Duplicate}},
		{"daemon", f.Daemon != "", []string{live.Kill, live.Hang}},
		{"address", f.Address != "", []string{live.DropARP}},
	} {
		if field.said && !slices.Contains(field.kinds, f.Kind) {
			return fmt.Errorf("%s takes no %s; that is for %s", f.Kind, field.name, strings.Join(field.kinds, ", "))
		}
	}
	return nil
}

func (s breaking) checkLink(f live.Fault) (live.Fault, error) {
	n, _ := s.lab.Nodes.Get(f.Node)
	devices := n.Links.Names()
	switch {
	case len(devices) == 0:
		return f, fmt.Errorf("node %s has no links", f.Node)
	case f.Device == "" && len(devices) > 1:
		return f, fmt.Errorf("node %s has several links; say which: %s:%s", f.Node, f.Node, strings.Join(devices, ", "+f.Node+":"))
	case f.Device == "":
		f.Device = devices[0]
	case !slices.Contains(devices, f.Device):
		return f, errors.New(source.Unknown("link of node "+f.Node, f.Device, devices))
	}
	switch f.Kind {
	case live.Cut:
		if link, _ := n.Links.Get(f.Device); link.Down {
			return f, fmt.Errorf("%s by the lab's own file", state(f))
		}
		return f, nil
	case live.Delay:
		return f, checkDelay(f)
	case live.Reorder:
		if f.Delay == 0 {
			f.Delay = live.ReorderDelay
		}
		if err := checkDelay(f); err != nil {
			return f, err
		}
	}
	if !(f.Percent > 0 && f.Percent <= 100) { // NaN, too
		return f, fmt.Errorf("%s: wanted a percentage above 0 and at most 100, found %v", f.Kind, f.Percent)
	}
	return f, nil
}

func checkDelay(f live.Fault) error {
	switch {
	case f.Delay < time.Microsecond || f.Delay > live.MaxDelay:
		return fmt.Errorf("%s: wanted a delay from 1µs to %s, found %s", f.Kind, live.MaxDelay, f.Delay)
	case f.Jitter < 0 || f.Jitter > f.Delay:
		return fmt.Errorf("%s: wanted a jitter of at most the delay, %s, found %s", f.Kind, f.Delay, f.Jitter)
	}
	return nil
}

// daemon is the name of a node's daemon that words mean: its name, its service or
// its port.
func (s breaking) daemon(node, word string) (string, error) {
	var names, found []string
	for _, op := range s.ops {
		if k := op.About().Key; k.Node == node && k.Kind == "daemon" {
			names = append(names, k.ID)
			service, port, _ := strings.Cut(k.ID, ":")
			if word == k.ID || word == service || word == port || word == "" {
				found = append(found, k.ID)
			}
		}
	}
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("node %s serves nothing that could be broken", node)
	case len(found) == 0:
		return "", errors.New(source.Unknown("daemon of node "+node, word, names))
	case len(found) > 1 && !slices.Contains(found, word):
		return "", fmt.Errorf("node %s has several daemons; say which: %s", node, strings.Join(found, ", "))
	case len(found) > 1:
		return word, nil
	}
	return found[0], nil
}

func (s breaking) checkARP(f live.Fault) (live.Fault, error) {
	if f.Address == "" {
		addr, ok := s.address(f.Node)
		if !ok {
			return f, fmt.Errorf("node %s has no IPv4 address; say for which one ARP shall be dropped", f.Node)
		}
		f.Address = addr.String()
	}
	addr, err := netip.ParseAddr(f.Address)
	if err != nil || !addr.Is4() {
		return f, fmt.Errorf("%s: wanted an IPv4 address, found %q (IPv6 has no ARP)", f.Kind, f.Address)
	}
	f.Address = addr.String()
	rule, err := dropARP(addr)
	if err != nil {
		return f, err
	}
	for _, op := range s.ops {
		if r, ok := op.(filter.Rule); ok && op.About().Key.Node == f.Node && r.ArpRule() == rule {
			return f, fmt.Errorf("node %s does not answer who has %s anyway: the lab has that rule itself (%s)", f.Node, addr, strings.Join(op.Shell(topology.Dialect{Arptables: "arptables"}), "; "))
		}
	}
	return f, nil
}

// address is a node's first virtual IP, or where it carries none its first
// address, of IPv4.
func (s breaking) address(node string) (addr netip.Addr, ok bool) {
	for _, op := range s.ops {
		a, added := topology.AddedAddress(op)
		m := op.About()
		if !added || m.Key.Node != node || !a.Prefix.Addr().Is4() {
			continue
		}
		if strings.HasPrefix(string(m.Role), "vip-") {
			return a.Prefix.Addr(), true
		}
		if !ok {
			addr, ok = a.Prefix.Addr(), true
		}
	}
	return addr, ok
}
