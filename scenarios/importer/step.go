package importer

import "github.com/lvslab/lvslab/topology/source"

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
}
