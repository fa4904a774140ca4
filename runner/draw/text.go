package draw

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// columns is the width that text keeps to where words allow.
const columns = 80

// text draws each network as a trunk from which its nodes hang. A node on several
// networks is told of where it comes first.
func (p *picture) text() string {
	var b strings.Builder
	for _, l := range wrap(p.title, columns) {
		b.WriteString(l + "\n")
	}
	for i, l := range wrap(p.about(), columns-2) {
		b.WriteString([]string{"! ", "  "}[min(i, 1)] + l + "\n")
	}
	told := make(map[string]bool)
	for _, w := range p.networks {
		var on []node
		for _, n := range p.nodes {
			for _, d := range n.devices {
				if d.network == w.name {
					on = append(on, n)
					break
				}
			}
		}
		fmt.Fprintf(&b, "\n%s  %s\n", w.name, w.prefixes)
		for i, n := range on {
			branch, trunk := "├── ", "│   "
			if i == len(on)-1 {
				branch, trunk = "└── ", "    "
			}
			b.WriteString("│\n")
			fmt.Fprintf(&b, "%s%s", branch, n.head())
			if told[n.name] {
				b.WriteString(", as above\n")
				writeLines(&b, trunk, n.deviceLines(func(d device) bool { return d.network == w.name }))
				continue
			}
			told[n.name] = true
			b.WriteString("\n")
			writeLines(&b, trunk, n.textLines())
		}
	}
	// What is on no network, or is switched off.
	for _, n := range p.nodes {
		if !told[n.name] {
			fmt.Fprintf(&b, "\n%s\n", n.head())
			writeLines(&b, "    ", n.textLines())
		}
	}
	return b.String()
}

func writeLines(b *strings.Builder, trunk string, lines []string) {
	for _, l := range lines {
		b.WriteString(strings.TrimRight(trunk+"  "+l, " ") + "\n")
	}
}

func (n node) textLines() []string {
	var lines []string
	if n.stopped {
		lines = append(lines, "switched off")
	}
	lines = append(lines, n.deviceLines(func(device) bool { return true })...)
	for _, s := range n.services {
		lines = append(lines, s.title)
		var rows [][]string
		for _, d := range s.destinations {
			rows = append(rows, []string{"  → " + d.node, d.address, d.forward, d.weight, d.conns})
		}
		lines = append(lines, align(rows)...)
	}
	for _, f := range n.faults {
		lines = append(lines, "! "+f)
	}
	return lines
}

func (n node) deviceLines(which func(device) bool) []string {
	var rows [][]string
	for _, d := range n.devices {
		if !which(d) {
			continue
		}
		name, mac := d.name, d.mac
		for _, a := range d.addresses {
			vip := ""
			if a.vip {
				vip = "VIP"
			}
			rows = append(rows, []string{name, a.text, vip, mac})
			name, mac = "", ""
		}
		if name != "" {
			rows = append(rows, []string{name, "", "", mac})
		}
		if d.state != "" {
			rows = append(rows, []string{"", d.state, "", ""})
		}
	}
	return align(rows)
}

// align fills the columns of a table; one that is empty everywhere is left out.
func align(rows [][]string) []string {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var lines []string
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			if widths[i] > 0 {
				b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// wrap breaks a text at its blanks.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
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
