package draw

import "unicode/utf8"

// Sizes of the drawing, in its units, which are a screen's pixels.
const (
	charWidth  = 7.3 // of the monospace letters of 12 units
	lineHeight = 16.0
	padding    = 10.0
	gutter     = 34.0  // between the boxes of a row, for wires to pass
	margin     = 24.0  // around everything
	rowGap     = 46.0  // between boxes and a network, for wires and their names
	barHeight  = 24.0  // of a network
	rowWidth   = 1240. // a row of boxes is broken when it is wider
	minBox     = 130.0
	minWidth   = 480.0 // of the whole, for the title
)

// box is where a node stands.
type box struct {
	node       int
	x, y, w, h float64
	lines      []line
	// row is the network that it stands above; len(networks) is below all.
	row int
	// shelf is the line of boxes within the row, 0 at the top.
	shelf int
}

func (b box) center() float64 { return b.x + b.w/2 }

// layout is a drawing: networks are bars one below the other, nodes stand between
// the networks that they are on.
type layout struct {
	width, height float64
	boxes         []box     // by node
	bars          []float64 // their upper edges
	shelves       []int     // how many there are in each row
}

// rowOf says where a node stands: one of several networks between the first two
// of them, one of the first network alone above it, or below it when it is a
// real server, so that what a client sees is above and what serves it below.
func (p *picture) rowOf(n node) int {
	first, second := len(p.networks), -1
	for _, d := range n.links() {
		switch w := p.network(d.network); {
		case w < first:
			if first < len(p.networks) {
				second = first
			}
			first = w
		case w > first && (second < 0 || w < second):
			second = w
		}
	}
	switch {
	case first == len(p.networks) || second >= 0:
		return min(first+1, len(p.networks))
	case first == 0 && (!n.realServer || n.director):
		return 0
	}
	return first + 1
}

// place lays a picture out, from y on.
func (p *picture) place(y float64) *layout {
	l := &layout{boxes: make([]box, len(p.nodes)), shelves: make([]int, len(p.networks)+1)}
	rows := make([][]int, len(p.networks)+1)
	for i, n := range p.nodes {
		b := box{node: i, lines: n.lines(), row: p.rowOf(n)}
		b.w = minBox
		for _, ln := range b.lines {
			b.w = max(b.w, float64(utf8.RuneCountInString(ln.text))*charWidth+2*padding)
		}
		b.h = float64(len(b.lines))*lineHeight + 2*padding - 4
		l.boxes[i] = b
		rows[b.row] = append(rows[b.row], i)
	}
	l.width = minWidth
	for r, row := range rows {
		y = l.placeRow(row, y)
		if r < len(p.networks) {
			if len(row) > 0 {
				y += rowGap
			}
			l.bars = append(l.bars, y)
			y += barHeight
			if len(rows[r+1]) > 0 || r+1 < len(p.networks) {
				y += rowGap
			}
		}
	}
	l.height = y + margin
	l.centerRows(rows)
	return l
}

// placeRow puts boxes side by side, on several shelves if they are many; those of
// one row have one width, so that the gutters between them are straight.
func (l *layout) placeRow(row []int, y float64) float64 {
	if len(row) == 0 {
		return y
	}
	w := 0.0
	for _, i := range row {
		w = max(w, l.boxes[i].w)
	}
	perShelf := max(1, int((rowWidth-2*margin+gutter)/(w+gutter)))
	tallest := 0.0
	for at, i := range row {
		b := &l.boxes[i]
		if at > 0 && at%perShelf == 0 {
			y += tallest + gutter
			tallest = 0
		}
		b.shelf = at / perShelf
		b.w = w
		b.x, b.y = margin+gutter+float64(at%perShelf)*(w+gutter), y
		tallest = max(tallest, b.h)
		l.width = max(l.width, b.x+w+margin)
		l.shelves[b.row] = b.shelf + 1
	}
	return y + tallest
}

// centerRows moves rows of a single shelf to the middle. A row above a network
// stands on it, which keeps its wires short.
func (l *layout) centerRows(rows [][]int) {
	for r, row := range rows {
		if len(row) == 0 || l.shelves[r] > 1 {
			continue
		}
		right, bottom := 0.0, 0.0
		for _, i := range row {
			right = max(right, l.boxes[i].x+l.boxes[i].w)
			bottom = max(bottom, l.boxes[i].y+l.boxes[i].h)
		}
		for _, i := range row {
			b := &l.boxes[i]
			b.x += (l.width - margin - right) / 2
			if r == 0 && len(l.bars) > 0 {
				b.y = bottom - b.h
			}
		}
	}
}
