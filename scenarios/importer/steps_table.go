package importer

import (
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// table expects that the director's table has the service with these real
// servers and no others. Each rule has a line of its own, so that what is
// otherwise is told at the place that it came from.
func (p *planner) table(s *placed, service ipvs.Service, servers []server) assertion {
	e := ipvs.Entry{Service: service}
	for _, d := range servers {
		e.Destinations = append(e.Destinations, d.Destination)
	}
	rules := strings.Split(strings.TrimSpace(ipvs.FormatCommands(ipvs.Table{e})), "\n")
	lines := []string{
		"table:",
		"  node: " + scalar(p.director),
		"  service: " + scalar(s.name),
		"  rules:",
	}
	places := make([]source.Pos, len(lines))
	for i, rule := range rules {
		pos := s.Pos
		if i > 0 {
			pos = servers[i-1].Pos
		}
		lines, places = append(lines, "  - "+rule), append(places, pos)
	}
	return assertion{kind: "table", text: strings.Join(lines, "\n"), from: s.Pos, lines: places}
}
