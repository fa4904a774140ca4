package assert

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// decodeAnswers reads {web1: 3, web2: 1}: how many of the step's requests each
// server answers, whatever their order. Others answer none, and no request is
// left unanswered.
func decodeAnswers(d *source.Decoder, n *yaml.Node, h head) Check {
	want := make(map[string]bound)
	var names, words []string
	for k, v := range d.Pairs(n) {
		s, ok := d.Scalar(v, "a number, a range such as 2..4, or a condition such as \">0\"")
		if !ok {
			continue
		}
		b, err := parseBound(s)
		if err != nil {
			d.Fail(v, "%v", err)
		}
		want[k.Value] = b
		names = append(names, k.Value)
		words = append(words, k.Value+" "+strings.TrimPrefix(b.String(), "="))
	}
	if len(names) == 0 {
		d.Fail(n, "answers names no server, as in {web1: 3, web2: 1}")
	}
	wanted := "the answers are by " + strings.Join(words, ", ") + ", and by no other"
	return &replies{h, wanted, nodeRefs(h.pos, names...), func(rs []Reply) string {
		if s := answered(rs); s != "" {
			return s
		}
		got := make(map[string]uint64)
		all := slices.Clone(names)
		for _, r := range rs {
			if got[r.Server]++; !slices.Contains(all, r.Server) {
				all = append(all, r.Server)
			}
		}
		pass := true
		var seen []string
		for _, name := range all {
			b, named := want[name]
			pass = pass && named && b.holds(got[name], 1)
			seen = append(seen, fmt.Sprintf("%s %d", name, got[name]))
		}
		if pass {
			return ""
		}
		return strings.Join(seen, ", ")
	}}
}
