package importer

import (
	"fmt"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// readRules reads rules as ipvsadm -R does.
func readRules(name string, data []byte) (*config.Config, error) {
	rules, err := ipvs.ReadRules(name, string(data))
	if err != nil {
		return nil, err
	}
	c := &config.Config{Kind: config.IPVSAdm, Files: []config.File{{Name: name, Data: data}}}
	for i, e := range rules.Table {
		c.Services = append(c.Services, ruleService(e, rules.Places[i], i+1))
	}
	c.Notes = ruleNotes(rules)
	if len(c.Services) == 0 {
		return nil, &source.Error{Pos: source.Pos{File: name}, Msg: "has no virtual service left; wanted a rule that adds one (-A -t ADDRESS:PORT)"}
	}
	return c, nil
}

func ruleService(e ipvs.Entry, p ipvs.EntryPlaces, number int) config.Service {
	s := config.Service{Service: e.Service, Pos: p.Pos, Places: p.Parts, Parent: number}
	s.Servers = make([]config.Server, len(e.Destinations))
	for j, d := range e.Destinations {
		s.Servers[j] = config.Server{Destination: d, Pos: p.Servers[j].Pos, Places: p.Servers[j].Parts}
	}
	return s
}

// ruleNotes are about what the rules say, and the table does not.
func ruleNotes(rules *ipvs.RuleFile) []config.Note {
	var notes []config.Note
	for _, o := range rules.Others {
		notes = append(notes, config.Note{Pos: o.Pos, Kind: config.Ignored, Msg: fmt.Sprintf("%q %s, and is no part of a table", o.Text, o.Does)})
	}
	for i, p := range rules.Places {
		for j, s := range p.Servers {
			d := rules.Table[i].Destinations[j]
			if s.Named.Port() != d.Addr.Port() {
				notes = append(notes, config.Note{Pos: s.Pos, Kind: config.Warning, Msg: fmt.Sprintf(
					"port %d of real server %s counts for nothing: %s leaves the port of a packet as it is, so it gets port %d, the service's",
					s.Named.Port(), s.Named.Addr(), method(d.Forward), d.Addr.Port())})
			}
		}
	}
	return notes
}

// method is a forwarding method in words.
func method(f ipvs.Forward) string {
	switch f {
	case ipvs.TUN:
		return "tunnelling"
	case ipvs.NAT:
		return "masquerading"
	default:
		return "direct routing"
	}
}
