package importer

import (
	"bytes"
	"fmt"
	"slices"
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
		p.b.WriteString("  # " + originText(from))
	}
	p.b.WriteByte('\n')
}

// comment writes a comment of any length, wrapped.
func (p *page) comment(level int, text string) {
	const width = 96
	for _, line := range wrap(text, width-2*level-2) {
		p.b.WriteString(strings.Repeat("  ", level) + "# " + line + "\n")
	}
}

// wrap breaks a text into lines of at most so many bytes, unless a word is
// longer.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		switch {
		case line == "":
			line = w
		case len(line)+1+len(w) > width:
			lines = append(lines, line)
			line = w
		default:
			line += " " + w
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// space writes an empty line.
func (p *page) space() { p.b.WriteByte('\n') }

// scalar is a string as a YAML scalar that can stand in flow style too.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	n := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}}}
	out, err := yaml.Marshal(&n)
	if err != nil || strings.Contains(strings.TrimSpace(string(out)), "\n") {
		return fmt.Sprintf("%q", s) // a double-quoted scalar may hold anything
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(out)), "["), "]")
}

// blockScalar is a string as a YAML scalar that stands alone behind its key,
// where less needs quotes.
func blockScalar(s string) string {
	if plain(s) {
		return s
	}
	out, err := yaml.Marshal(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s})
	text := strings.TrimSuffix(string(out), "\n")
	if err != nil || strings.Contains(text, "\n") {
		return fmt.Sprintf("%q", s)
	}
	return text
}

// plain reports whether a string is one that YAML takes for a string as it
// stands, without asking YAML, which is slow: words that begin with a letter and
// are no words of YAML's own, addresses of IPv4.
func plain(s string) bool {
	dots := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			dots++
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && i > 0, c == '/' && i > 0:
		case c == ' ' && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	if s == "" || s[0] == '.' {
		return false
	}
	if s[0] <= '9' {
		return dots == 3
	}
	return !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, s)
}

// scalars are strings as scalar writes them.
func scalars(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = scalar(s)
	}
	return out
}
