package main

import (
	"net/netip"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// lostVIPs are the assignments by which the directors of labs do not carry the
// virtual IPs that keepalived brought them by the older configuration, and does not
// by the new one. ipvsadm rules have no addresses to bring.
func lostVIPs(labs []*scenarios.Lab, old, now *config.Config) []string {
	lost := lostAddresses(old, now)
	var set []string
	for _, l := range labs {
		for _, v := range l.VirtualServices {
			if _, ok := lost[v.Value.Address.Addr.Addr()]; ok {
				set = append(set, "virtual_services."+v.Name+".vip.directors=none")
			}
		}
	}
	return set
}

// lostAddresses are those virtual IPs, with the place of the new configuration that
// is to blame: an address that it has in their stead, or else none.
func lostAddresses(old, now *config.Config) map[netip.Addr]source.Pos {
	lost := make(map[netip.Addr]source.Pos)
	if old.Kind != config.Keepalived || now.Kind != config.Keepalived {
		return lost
	}
	before, after := carriedBy(old), carriedBy(now)
	for addr, was := range before {
		if _, still := after[addr]; still {
			continue
		}
		lost[addr] = source.Pos{}
		for _, a := range now.Addresses {
			if _, had := before[a.Prefix.Addr()]; !had && a.Instance == was.Instance && a.Prefix.Addr().Is4() == addr.Is4() {
				lost[addr] = a.Pos
				break
			}
		}
	}
	return lost
}

func carriedBy(c *config.Config) map[netip.Addr]config.Address {
	carried := make(map[netip.Addr]config.Address, len(c.Addresses))
	for _, a := range c.Addresses {
		carried[a.Prefix.Addr()] = a
	}
	return carried
}

// blameVIPs has what fails of a service whose virtual IP is lost lead there.
func (m *blame) blameVIPs(old, now *config.Config) {
	lost := lostAddresses(old, now)
	before := carriedBy(old)
	for i := range old.Services {
		s := &old.Services[i]
		pos, ok := lost[s.Addr.Addr()]
		if !ok || s.FWMark != 0 || !pos.IsValid() {
			continue
		}
		was := before[s.Addr.Addr()]
		m.about(s.Name(), was.Pos)
		m.changes[s.Name()] = append(m.changes[s.Name()], importer.Change{
			What: importer.WhatVirtualIP, Service: s.Name(), Old: importer.State{Pos: was.Pos}, New: importer.State{Pos: pos},
		})
	}
}
