package draw

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// svg draws a picture that needs nothing from elsewhere.
func (p *picture) svg() string {
	y := margin + 8
	wide := p.place(0).width - 2*margin
	title := wrap(p.title, int(wide/(charWidth*14/12)))
	faults := wrap(p.about(), int(wide/charWidth))
	l := p.place(y + float64(len(title)+len(faults))*20 + 8)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12">`+"\n", l.width, l.height, l.width, l.height)
	fmt.Fprintf(&b, "<title>%s</title>\n", xmlText(p.title))
	fmt.Fprintf(&b, `<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="%s"/></marker></defs>`+"\n", forwardInk)
	for _, t := range title {
		svgText(&b, margin, y, ink, `font-weight="bold" font-size="14"`, t)
		y += 20
	}
	for _, t := range faults {
		svgText(&b, margin, y, faultInk, "", t)
		y += 20
	}
	for i, n := range p.nodes {
		p.wires(&b, l, l.boxes[i], n)
	}
	for i, w := range p.networks {
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.1f" fill="%s"/>`+"\n", margin, l.bars[i], l.width-2*margin, barHeight, barHeight/2, wireInk)
		svgText(&b, margin+14, l.bars[i]+16, "#0f172a", `font-weight="bold"`, w.name+"  "+w.prefixes)
	}
	for i, f := range p.forwards {
		l.forward(&b, f, i, p.arrowSide(l, f.to))
	}
	for i, n := range p.nodes {
		svgBox(&b, l.boxes[i], n)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// wires draws a node's links: straight to the networks beside its row, and down
// a gutter where other boxes stand in the way.
func (p *picture) wires(b *strings.Builder, l *layout, bx box, n node) {
	links := n.links()
	for i, d := range links {
		w := p.network(d.network)
		stroke, more := wireInk, ""
		if d.cut || n.stopped {
			stroke, more = faultInk, ` stroke-dasharray="2 5"`
		}
		// The bar's edge that faces the row, and the box's that faces the bar.
		barY, boxY, first := l.bars[w], bx.y+bx.h, l.shelves[bx.row]-1
		if w < bx.row {
			barY, boxY, first = l.bars[w]+barHeight, bx.y, 0
		}
		near := (w == bx.row || w == bx.row-1) && bx.shelf == first
		x := bx.x + bx.w*float64(i+1)/float64(len(links)+1)
		// A name stands where no arrow comes from.
		labelX, labelY, anchor := x+5, barY-6, ""
		if p.arrowSide(l, bx.node) > 0 && x < bx.center()+16 {
			labelX, anchor = x-5, ` text-anchor="end"`
		}
		if w < bx.row {
			labelY = barY + 14
		}
		path := fmt.Sprintf("M%.1f %.1fV%.1f", x, boxY, barY)
		if !near {
			lane := bx.x - 8 - float64((bx.shelf*3+i)%5)*4
			path = fmt.Sprintf("M%.1f %.1fH%.1fV%.1f", bx.x, bx.y+14+float64(i)*8, lane, barY)
			labelX = 0
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", path, stroke, more)
		if labelX > 0 {
			svgText(b, labelX, labelY, ink, `font-size="10"`+anchor, d.name)
		}
	}
}

// arrowSide says on which side of its middle a node has its arrows: 1 is to the
// right. A director's leave there, a real server's come from where the director
// stands.
func (p *picture) arrowSide(l *layout, node int) float64 {
	for _, f := range p.forwards {
		if f.from == node {
			return 1
		}
	}
	for _, f := range p.forwards {
		if f.to == node && l.boxes[f.from].center() > l.boxes[node].center() {
			return 1
		}
	}
	return -1
}

// forward draws the way of packets from a director to a real server, side of the
// middle of which it ends. To one that stands behind others it goes down a
// gutter.
func (l *layout) forward(b *strings.Builder, f forward, index int, side float64) {
	from, to := l.boxes[f.from], l.boxes[f.to]
	x1, x2 := from.center()+16+float64(index%5)*5, to.center()+side*16
	y1, y2 := from.y+from.h, to.y
	var path string
	labelY := y2 - 10
	switch {
	case from.row == to.row: // round below both
		y2 = to.y + to.h
		path = curve(x1, y1, x2, y2, y1+34, y2+34)
		labelY = y2 + 16
	case to.row < from.row:
		y1, y2 = from.y, to.y+to.h
		bend := max(30, (y1-y2)/2)
		path = curve(x1, y1, x2, y2, y1-bend, y2+bend)
		labelY = y2 + 16
	case to.shelf > 0:
		x2 = to.x + to.w + 4 + float64(to.shelf%3)*3
		y2 = l.bars[to.row-1] + barHeight + rowGap/2
		path = curve(x1, y1, x2, y2, y1+rowGap, y2-rowGap/2) + fmt.Sprintf("V%.1fH%.1f", to.y+20, to.x+to.w)
		labelY = 0
	default:
		bend := max(30, (y2-y1)/2)
		path = curve(x1, y1, x2, y2, y1+bend, y2-bend)
	}
	weight := ""
	if f.weight == 0 {
		weight = ` opacity="0.45"` // takes no new connections
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="6 4" marker-end="url(#to)"%s><title>%s, weight %d</title></path>`+"\n", path, forwardInk, weight, xmlText(f.method), f.weight)
	if labelY == 0 {
		return
	}
	anchor := ""
	if side < 0 {
		anchor = ` text-anchor="end"`
	}
	svgText(b, x2+side*7, labelY, forwardInk, `font-size="10"`+anchor, fmt.Sprintf("%s w%d", f.method, f.weight))
}

// curve is a path that leaves and comes straight up or down, towards the heights
// bend1 and bend2.
func curve(x1, y1, x2, y2, bend1, bend2 float64) string {
	return fmt.Sprintf("M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", x1, y1, x1, bend1, x2, bend2, x2, y2)
}

// svgBox draws a node with its lines.
func svgBox(b *strings.Builder, bx box, n node) {
	stroke, more := wireInk, ""
	switch {
	case n.stopped:
		stroke, more = faultInk, ` stroke-dasharray="6 4"`
	case len(n.faults) > 0:
		stroke = faultInk
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="6" fill="%s" stroke="%s" stroke-width="1.5"%s/>`+"\n", bx.x, bx.y, bx.w, bx.h, boxGround, stroke, more)
	y := bx.y + padding + 8
	for _, ln := range bx.lines {
		fill, style := boxInk, ""
		switch ln.kind {
		case headLine:
			style = `font-weight="bold"`
		case quietLine:
			fill = quietInk
		case vipLine:
			fill, style = vipInk, `font-weight="bold"`
		case faultLine:
			fill = faultInk
		case plainLine:
		}
		svgText(b, bx.x+padding, y, fill, style, ln.text)
		y += lineHeight
	}
}

func svgText(b *strings.Builder, x, y float64, fill, style, text string) {
	if style != "" {
		style = " " + style
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s"%s xml:space="preserve">%s</text>`+"\n", x, y, fill, style, xmlText(text))
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
