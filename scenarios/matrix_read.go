package scenarios

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// exclusion is one axis of an item of exclude:, with the values that it names.
type exclusion struct {
	axis   string
	values []string
}

// excludes reports whether a combination has one of the values on every axis
// that an item of exclude: names.
func excludes(item []exclusion, values []AxisValue) bool {
	for _, e := range item {
		if !slices.ContainsFunc(values, func(v AxisValue) bool { return v.Axis == e.axis && slices.Contains(e.values, v.Value) }) {
			return false
		}
	}
	return true
}

// readMatrix reads {forwarding: [dr, tun], scheduler: {rr: PATCH, …}, exclude:
// [{forwarding: tun, scheduler: rr}]}.
func readMatrix(d *source.Decoder, n *yaml.Node) ([]*axis, [][]exclusion) {
	var axes []*axis
	var excludeNode *yaml.Node
	count := 1
	for k, v := range d.Pairs(n) {
		if k.Value == "exclude" {
			excludeNode = v
			continue
		}
		if !validName(k.Value) {
			d.Fail(k, "axis %q: %s", k.Value, nameRule)
			continue
		}
		a := readAxis(d, k, v)
		axes = append(axes, a)
		count = min(count*max(1, len(a.values)), maxCombinations+1)
	}
	if len(d.Errs) > 0 {
		return nil, nil
	}
	if len(axes) == 0 {
		d.Fail(n, "a matrix needs an axis, as in forwarding: [dr, tun]")
	}
	if count > maxCombinations {
		d.Fail(n, "the matrix has more than %d combinations, of %s", maxCombinations, sizes(axes))
	}
	if longest := longestName(axes); len(longest) > maxLabWord {
		d.Fail(n, "the lab %s has a name of more than %d characters; shorten the values", longest, maxLabWord)
	}
	return axes, readExclude(d, excludeNode, axes)
}

// maxLabWord is what CheckName takes between two slashes.
const maxLabWord = 63

func longestName(axes []*axis) string {
	var words []string
	for _, a := range axes {
		longest := ""
		for _, v := range a.values {
			if len(v.slug) > len(longest) {
				longest = v.slug
			}
		}
		words = append(words, longest)
	}
	return strings.Join(words, "-")
}

// readAxis reads a list of values, or a mapping of values with their patches.
func readAxis(d *source.Decoder, k, n *yaml.Node) *axis {
	a := &axis{name: k.Value, node: k}
	add := func(at *yaml.Node, text string, patch *yaml.Node) {
		v := axisValue{text, slug(text), patch}
		switch {
		case v.slug == "":
			d.Fail(at, "value %q of axis %s has no letter or digit, which the names of its labs need", text, a.name)
		case slices.ContainsFunc(a.values, func(o axisValue) bool { return o.slug == v.slug }):
			d.Fail(at, "value %q of axis %s is here a second time; both make labs called %s", text, a.name, v.slug)
		}
		a.values = append(a.values, v)
	}
	switch n.Kind {
	case yaml.MappingNode:
		for value, patch := range d.Pairs(n) {
			if patch.Kind == yaml.ScalarNode && patch.Tag == "!!null" {
				patch = nil // a value without a patch
			}
			if patch != nil {
				checkPatch(d, patch)
				a.used = a.used || len(patch.Content) > 0
			}
			add(value, value.Value, patch)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if text, ok := d.Scalar(item, "a value of the axis (for one with a patch make the axis a mapping)"); ok {
				add(item, text, nil)
			}
		}
	default:
		d.Fail(n, "axis %s: wanted a list of values, or a mapping of values with what each changes", a.name)
		return a
	}
	if len(a.values) == 0 {
		d.Fail(n, "axis %s has no value", a.name)
	}
	return a
}

// checkPatch finds what laying a patch over a document would pass over: keys
// that come twice, and what no combination may change.
func checkPatch(d *source.Decoder, patch *yaml.Node) {
	for k := range d.Pairs(patch) {
		if k.Value == "matrix" || k.Value == "name" {
			d.Fail(k, "a value of a matrix cannot change %s", k.Value)
		}
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.MappingNode {
			for range d.Pairs(n) { // records keys that come twice
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	for _, c := range patch.Content {
		walk(c)
	}
}

// readExclude reads the combinations to leave out.
func readExclude(d *source.Decoder, n *yaml.Node, axes []*axis) [][]exclusion {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		d.Fail(n, "exclude: wanted a list of combinations, as in [{forwarding: nat, protocol: sctp}]")
		return nil
	}
	var names []string
	for _, a := range axes {
		names = append(names, a.name)
	}
	var out [][]exclusion
	for _, item := range n.Content {
		var parts []exclusion
		before := len(d.Errs)
		for k, v := range d.Pairs(item) {
			i := slices.Index(names, k.Value)
			if i < 0 {
				d.Fail(k, "%s", source.Unknown("axis", k.Value, names))
				continue
			}
			e := exclusion{axis: k.Value}
			d.Decode(v, &e.values)
			var known []string
			for _, o := range axes[i].values {
				known = append(known, o.text)
			}
			for _, word := range e.values {
				if !slices.Contains(known, word) {
					d.Fail(v, "%s", source.Unknown("value of axis "+k.Value, word, known))
				}
			}
			parts = append(parts, e)
		}
		if len(parts) == 0 && len(d.Errs) == before {
			d.Fail(item, "exclude: an item names an axis and its value, as in {forwarding: nat}")
		}
		out = append(out, parts)
	}
	return out
}

// sizes is how many values the axes have: "forwarding 4 × scheduler 14".
func sizes(axes []*axis) string {
	var words []string
	for _, a := range axes {
		words = append(words, a.name+" "+strconv.Itoa(len(a.values)))
	}
	return strings.Join(words, " × ")
}

// slug is what of a value may stand in the name of a lab: "tun gue 6080" is
// tun-gue-6080.
func slug(text string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(text)) {
		switch {
		case lower(c) || digit(c) || c == '_':
			b.WriteByte(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-_")
}
