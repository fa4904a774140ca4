package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// mostPoolText bounds what is added to a lab for its sorry servers, in bytes: each
// of their steps has all rules of the director.
const mostPoolText = 2 << 20

// pools plays keepalived for a configuration that is held against an older one:
// what the older one's lab does to its own services when all real servers of one
// are gone, and when they are back, is done to the rules of the director.
type pools struct {
	now   *config.Config
	lines [][]byte
	added int
}

// play rewrites the line of a step's change of services, and reports whether it
// could: whether that is a change of real servers alone, to others than the service
// has, or back to them, on one line.
func (p *pools) play(l *scenarios.Lab, s *scenarios.Step) bool {
	var change *scenarios.Action
	for i := range s.Do {
		switch a := &s.Do[i]; {
		case !a.ChangesServices():
		case change != nil:
			return false
		default:
			change = a
		}
	}
	name, nodes, ok := change.RealServers()
	v, known := l.VirtualServices.Get(name)
	service, _ := l.Service(name)
	if !ok || !known {
		return false
	}
	table := p.now.Table()
	switch {
	case poolGone(v, nodes):
		p.gone(table, service)
	case !slices.Equal(nodesOf(v), nodes): // they are not back
		return false
	}
	return p.rewrite(change.Pos.Line, v.Directors, table)
}

// nodesOf are the nodes of a service's real servers.
func nodesOf(v *scenarios.VirtualService) []string {
	nodes := make([]string, len(v.RealServers))
	for i, r := range v.RealServers {
		nodes[i] = r.Node
	}
	return nodes
}

// poolGone reports whether a service that is to have real servers on some nodes has
// none of its own any more.
func poolGone(v *scenarios.VirtualService, nodes []string) bool {
	return !slices.ContainsFunc(nodesOf(v), func(n string) bool { return slices.Contains(nodes, n) })
}

// gone puts the sorry server of a service in the place of its real servers; none
// where the configuration has none.
func (p *pools) gone(t ipvs.Table, s ipvs.Service) {
	for i := range p.now.Services {
		if now := &p.now.Services[i]; now.Same(s) {
			t[i].Destinations = nil
			if now.Sorry != nil {
				t[i].Destinations = []ipvs.Destination{now.Sorry.Destination}
			}
		}
	}
}

// rewrite puts a change of the directors' rules into a line of the lab, beside that
// of one of its virtual services, which gives the real servers what they need.
func (p *pools) rewrite(n int, directors []string, t ipvs.Table) bool {
	const change = "change: "
	line := string(p.lines[n-1])
	from := strings.Index(line, change+"{virtual_services:")
	if from < 0 {
		return false
	}
	length := flowLength(line[from+len(change):])
	rules, err := json.Marshal(ipvs.FormatCommands(t)) // which YAML reads as it is
	if length == 0 || err != nil {
		return false
	}
	var nodes []string
	for _, d := range directors {
		nodes = append(nodes, d+": {rules: "+string(rules)+"}")
	}
	text := ", nodes: {" + strings.Join(nodes, ", ") + "}"
	if p.added += len(text); p.added > mostPoolText {
		return false
	}
	end := from + len(change) + length - len("}")
	p.lines[n-1] = []byte(line[:end] + text + line[end:])
	return true
}

// flowLength is how long the mapping in flow style is that a line begins with; 0
// if it does not end there.
func flowLength(line string) int {
	depth := 0
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote == '"' && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// lastLine is the line behind the last that belongs to the list of steps in which a
// step begins at line n: that of the document's next key, or of the next document.
func lastLine(lines [][]byte, n int) int {
	for i := n; i < len(lines); i++ {
		if line := bytes.TrimRight(lines[i], "\r"); len(line) > 0 && !bytes.ContainsAny(line[:1], " \t#-") || bytes.HasPrefix(line, []byte("---")) {
			return i + 1
		}
	}
	return len(lines) + 1
}
