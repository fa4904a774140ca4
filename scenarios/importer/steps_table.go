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
	lines := []string{
		"table:",
		"  node: " + scalar(p.director),
		"  service: " + scalar(s.name),
		"  rules:",
	}
	rules, at := rulesOf(service, s.Pos, servers)
	places := append(make([]source.Pos, len(lines)), at...)
	return assertion{kind: "table", text: strings.Join(append(lines, rules...), "\n"), from: s.Pos, lines: places}
}

// rulesOf are the lines of a table's rules for one service, each with its place.
func rulesOf(service ipvs.Service, pos source.Pos, servers []server) (lines []string, places []source.Pos) {
	e := ipvs.Entry{Service: service}
	for _, d := range servers {
		e.Destinations = append(e.Destinations, d.Destination)
	}
	for i, rule := range strings.Split(strings.TrimSpace(ipvs.FormatCommands(ipvs.Table{e})), "\n") {
		if i > 0 {
			pos = servers[i-1].Pos
		}
		lines, places = append(lines, "  - "+rule), append(places, pos)
	}
	return lines, places
}
