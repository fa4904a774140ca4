package importer

import (
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// step is one step of the lab, before it is written.
type step struct {
	name string
	// service is the virtual service that it is about, nil for the whole.
	service *placed
	// comment stands above it, "" for none.
	comment string
	// do are the stimuli, each as one line of YAML in flow style:
	// "request: {to: web, count: 4}".
	do []assertion
	// expect are the assertions.
	expect []assertion
	// within is the step's own deadline, "" for the default.
	within string
}

// assertion is one entry of a step's lists.
type assertion struct {
	// kind is its key: "rotation".
	kind string
	// text is the entry as one line of YAML in flow style:
	// "rotation: [web1, web2]"; more lines follow it where it has a block.
	text string
	// from is the place in the configuration that it comes from.
	from source.Pos
	// lines are the places of the text's lines, where it has several and they come
	// from different ones; a place that is not known is the zero value.
	lines []source.Pos
}

// write writes the entry of a list of a step's, each line with its place.
func (a assertion) write(p *page, level int) {
	for i, line := range strings.Split(a.text, "\n") {
		var from source.Pos
		switch {
		case a.lines != nil:
			if i < len(a.lines) {
				from = a.lines[i]
			}
		case i == 0:
			from = a.from
		}
		dash := "  "
		if i == 0 {
			dash = "- "
		}
		p.line(level, from, "%s", dash+line)
	}
}
