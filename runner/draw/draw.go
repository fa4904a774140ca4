// Package draw draws a lab as it stands: nodes with their roles, addresses and
// MACs, the networks between them, the IPVS tables, and what is broken on
// purpose.
package draw

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/live"
)

// Formats are the words that Draw takes: plain text, Mermaid's flowchart
// (https://mermaid.js.org), Graphviz' DOT, and SVG.
func Formats() []string { return []string{"text", "mermaid", "dot", "svg"} }

// Draw writes a lab in one of Formats.
func Draw(w io.Writer, in *live.Inspection, format string) error {
	if !slices.Contains(Formats(), format) {
		return fmt.Errorf("a lab can be drawn as %s, not as %q", strings.Join(Formats(), ", "), format)
	}
	p := pictureOf(in)
	var text string
	switch format {
	case "mermaid":
		text = p.mermaid()
	case "dot":
		text = p.dot()
	case "svg":
		text = p.svg()
	default:
		text = p.text()
	}
	_, err := io.WriteString(w, text)
	return err
}
