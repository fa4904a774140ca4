package assert

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// decodeResults reads {ok: 4, refused: 2}: how many requests end in which way.
// What is not named must not happen.
func decodeResults(d *source.Decoder, n *yaml.Node, h head) Check {
	want := make(map[string]condition)
	var words []string
	for k, v := range d.Pairs(n) {
		if !slices.Contains(results(), k.Value) {
			d.Fail(k, "%s", source.Unknown("result", k.Value, results()))
			continue
		}
		s, ok := d.Scalar(v, "a number, or a condition such as \">0\"")
		if !ok {
			continue
		}
		cond, err := parseCondition(s)
		if err != nil {
			d.Fail(v, "%v", err)
		}
		want[k.Value] = cond
		words = append(words, k.Value+" "+strings.TrimPrefix(cond.String(), "="))
	}
	if len(words) == 0 {
		d.Fail(n, "results names no result, as in {ok: 4, refused: 2}")
	}
	return &replies{h, "the requests end as: " + strings.Join(words, ", ") + ", and in no other way", nil, func(rs []Reply) string {
		got := make(map[string]uint64)
		for _, r := range rs {
			got[r.Result]++
		}
		pass := true
		var seen []string
		for _, w := range append(results(), Other) {
			cond, named := want[w]
			if !named {
				cond = condition{op: "="}
			}
			pass = pass && cond.holds(got[w])
			if got[w] > 0 {
				seen = append(seen, fmt.Sprintf("%s %d", w, got[w]))
			}
		}
		if pass {
			return ""
		}
		return strings.Join(seen, ", ")
	}}
}

// decodeBodies reads "same": all servers answer with the same bytes, whatever
// they are, as those of one storage must.
func decodeBodies(d *source.Decoder, n *yaml.Node, h head) Check {
	word, ok := d.Scalar(n, "the word same")
	if ok && word != "same" {
		d.Fail(n, "%s", source.Unknown("word", word, []string{"same"}))
	}
	return &replies{h, "all bodies are the same, byte for byte", nil, func(rs []Reply) string {
		if len(rs) < 2 {
			return "only one request; it takes two bodies to compare"
		}
		for i, r := range rs {
			switch {
			case r.Result != OK:
				return summary(rs)
			case r.Body == "":
				return fmt.Sprintf("answer %d of %s has no body", i+1, answer(r))
			case r.Body != rs[0].Body:
				return fmt.Sprintf("%s sent %q, %s sent %q", answer(rs[0]), clip(rs[0].Body), answer(r), clip(r.Body))
			}
		}
		return ""
	}}
}
