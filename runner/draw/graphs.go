package draw

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Colours that keep apart on light and on dark: ink is mid-grey, boxes bring
// their own ground.
const (
	ink        = "#7b8797"
	boxGround  = "#f8fafc"
	boxInk     = "#1f2937"
	quietInk   = "#64748b"
	wireInk    = "#94a3b8"
	vipInk     = "#1d4ed8"
	faultInk   = "#d9480f"
	forwardInk = "#0d9488"
)

// mermaid draws a flowchart. Names are never identifiers there: a lab may call a
// node "end".
func (p *picture) mermaid() string {
	var b strings.Builder
	title, _ := json.Marshal(p.title) // a string in JSON is one in YAML
	// Two of them would begin a directive.
	fmt.Fprintf(&b, "---\ntitle: %s\n---\nflowchart LR\n", strings.ReplaceAll(string(title), "%", `\u0025`))
	for i, w := range p.networks {
		fmt.Fprintf(&b, "  net%d([\"%s<br>%s\"])\n", i, mermaidText(w.name), mermaidText(w.prefixes))
	}
	for i, n := range p.nodes {
		var words []string
		for _, l := range n.lines() {
			text := mermaidText(strings.TrimSpace(l.text))
			if l.kind == headLine || l.kind == vipLine {
				text = "<b>" + text + "</b>"
			}
			words = append(words, text)
		}
		fmt.Fprintf(&b, "  node%d[\"%s\"]\n", i, strings.Join(words, "<br>"))
	}
	edges := 0
	var cut []string
	for i, n := range p.nodes {
		for _, d := range n.links() {
			label := mermaidText(d.name)
			if d.cut {
				label += " " + mermaidText(d.state)
				cut = append(cut, fmt.Sprint(edges))
			}
			fmt.Fprintf(&b, "  node%d ---|\"%s\"| net%d\n", i, label, p.network(d.network))
			edges++
		}
	}
	for _, f := range p.forwards {
		fmt.Fprintf(&b, "  node%d -.->|\"%s, weight %d\"| node%d\n", f.from, mermaidText(f.method), f.weight, f.to)
	}
	if len(cut) > 0 {
		fmt.Fprintf(&b, "  linkStyle %s stroke:%s,stroke-dasharray:4\n", strings.Join(cut, ","), faultInk)
	}
	fmt.Fprintf(&b, "  classDef broken stroke:%s,stroke-width:2px\n", faultInk)
	for i, n := range p.nodes {
		if n.stopped || len(n.faults) > 0 {
			fmt.Fprintf(&b, "  class node%d broken\n", i)
		}
	}
	return b.String()
}

// mermaidText writes what has a meaning to Mermaid, or to the HTML that it makes,
// by its number: "#35;" is "#".
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\"#&;<>`*_|{}[]()\\$~%", r) {
			fmt.Fprintf(&b, "#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dot draws a graph for Graphviz.
func (p *picture) dot() string {
	var b strings.Builder
	b.WriteString("digraph lab {\n")
	fmt.Fprintf(&b, "  graph [label=%s, labelloc=t, fontname=\"sans-serif\", bgcolor=transparent, fontcolor=%q, nodesep=0.4, ranksep=0.7];\n", dotText(p.title), ink)
	fmt.Fprintf(&b, "  node [shape=box, style=\"rounded,filled\", fontname=\"monospace\", fontsize=10, fillcolor=%q, fontcolor=%q, color=%q];\n", boxGround, boxInk, wireInk)
	fmt.Fprintf(&b, "  edge [fontname=\"monospace\", fontsize=9, color=%q, fontcolor=%q];\n", wireInk, ink)
	for i, w := range p.networks {
		fmt.Fprintf(&b, "  net%d [shape=ellipse, label=%s];\n", i, dotText(w.name, w.prefixes))
	}
	for i, n := range p.nodes {
		var words []string
		for _, l := range n.lines() {
			words = append(words, strings.TrimSpace(l.text))
		}
		more := ""
		if n.stopped || len(n.faults) > 0 {
			more = fmt.Sprintf(", color=%q, penwidth=2", faultInk)
		}
		fmt.Fprintf(&b, "  node%d [label=%s%s];\n", i, dotText(words...), more)
	}
	for i, n := range p.nodes {
		for _, d := range n.links() {
			more := ""
			if d.cut {
				more = fmt.Sprintf(", style=dashed, color=%q, xlabel=%s", faultInk, dotText(d.state))
			}
			from, to := fmt.Sprintf("node%d", i), fmt.Sprintf("net%d", p.network(d.network))
			if p.network(d.network) < p.rowOf(n) {
				from, to = to, from // networks stand above those whom they lead to
			}
			fmt.Fprintf(&b, "  %s -> %s [dir=none, label=%s%s];\n", from, to, dotText(d.name), more)
		}
	}
	for _, f := range p.forwards {
		fmt.Fprintf(&b, "  node%d -> node%d [style=dashed, constraint=false, color=%q, label=%s];\n", f.from, f.to, forwardInk, dotText(fmt.Sprintf("%s, weight %d", f.method, f.weight)))
	}
	b.WriteString("}\n")
	return b.String()
}

// dotText is a quoted string of DOT, several lines of which begin at the left.
// There a backslash and a quote have a meaning, and what looks like an entity of
// HTML.
func dotText(lines ...string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, l := range lines {
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;").Replace(l))
		if len(lines) > 1 {
			b.WriteString(`\l`)
		}
	}
	b.WriteByte('"')
	return b.String()
}
