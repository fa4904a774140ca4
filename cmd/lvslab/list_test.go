package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/scenarios"
)

// TestListed shows that a matrix is one line, and where.
func TestListed(t *testing.T) {
	of := func(name, combination string) *scenarios.Lab {
		l := &scenarios.Lab{Name: name, Title: "By " + combination, Steps: make([]scenarios.Step, 2)}
		if combination != "" {
			l.Name += "/" + combination
			l.Matrix = &scenarios.Combination{Of: name, Title: "By ${a}", Name: combination}
		}
		return l
	}
	got := listed([]*scenarios.Lab{of("m/one", ""), of("m/all", "dr"), of("m/all", "tun"), of("m/last", ""), of("m/more", "x")})
	want := []listedLab{
		{Name: "m/one", Title: "By ", Steps: 2},
		{Name: "m/all", Title: "By ${a}", Steps: 2, Combinations: 2},
		{Name: "m/last", Title: "By ", Steps: 2},
		{Name: "m/more", Title: "By ${a}", Steps: 2, Combinations: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got[1].line() != "By a (2 combinations)" || got[0].line() != "By " {
		t.Errorf("%q, %q", got[0].line(), got[1].line())
	}
}

// TestRerun shows that a few labs of a matrix are named one by one, and many by
// their file; and that the same run is one with the same flags.
func TestRerun(t *testing.T) {
	c := &chosen{argOf: make(map[string]string), fileOf: make(map[string]string)}
	var many []string
	for _, l := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		name := "all/" + l
		many = append(many, name)
		c.argOf[name], c.fileOf[name] = "all.yaml/"+l, "all.yaml"
	}
	c.argOf["one"], c.fileOf["one"] = "one.yaml", "one.yaml"
	for _, w := range []struct {
		names []string
		want  string
	}{
		{[]string{"all/b", "one"}, "lvslab run all.yaml/b one.yaml"},
		{append([]string{"one"}, many...), "lvslab run one.yaml all.yaml"},
		{many[:8], "lvslab run all.yaml/a all.yaml/b all.yaml/c all.yaml/d all.yaml/e all.yaml/f all.yaml/g all.yaml/h"},
	} {
		if got := c.rerun(w.names); got != w.want {
			t.Errorf("%s, want %s", got, w.want)
		}
	}
	c.flags = sameRun("uml", []string{"arp-ignore"}, []string{"nodes.web1.serve=[http 81]"})
	c.args, c.labs = []string{"all.yaml"}, make([]*scenarios.Lab, len(many))
	for _, w := range []struct {
		names []string
		want  string
	}{
		{many[:1], "lvslab run --kernel uml --omit arp-ignore --set 'nodes.web1.serve=[http 81]' all.yaml/a"},
		{many, "lvslab run --kernel uml --omit arp-ignore --set 'nodes.web1.serve=[http 81]' all.yaml"},
	} {
		if got := c.rerun(w.names); got != w.want {
			t.Errorf("%s, want %s", got, w.want)
		}
	}
}
