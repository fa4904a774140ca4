package importer

import (
	"bytes"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// page is a lab file while it is written, line by line: comments stand where a
// person would have put them, which no encoder does.
type page struct{ b bytes.Buffer }

// line writes one line, indented by so many levels. from, where it is known, is
// the place that the line came from, as a comment at its end.
func (p *page) line(level int, from source.Pos, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.b.WriteString(strings.Repeat("  ", level))
	p.b.WriteString(text)
	if from.IsValid() {
		from.Col = 0
		p.b.WriteString("  # " + from.String())
	}
	p.b.WriteByte('\n')
}

// comment writes a comment of any length, wrapped.
func (p *page) comment(level int, text string) {
	const width = 96
	line := ""
	flush := func() {
		if line != "" {
			p.b.WriteString(strings.Repeat("  ", level) + "#" + line + "\n")
			line = ""
		}
	}
	for _, w := range strings.Fields(text) {
		if len(line)+1+len(w) > width-2*level {
			flush()
		}
		line += " " + w
	}
	flush()
}

// space writes an empty line.
func (p *page) space() { p.b.WriteByte('\n') }

// scalar is a string as a YAML scalar that can stand in flow style too.
func scalar(s string) string {
	n := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}}}
	out, err := yaml.Marshal(&n)
	if err != nil || strings.Contains(strings.TrimSpace(string(out)), "\n") {
		return fmt.Sprintf("%q", s) // a double-quoted scalar may hold anything
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(out)), "["), "]")
}
