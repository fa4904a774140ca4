package scenarios

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// Bounds of a matrix. The library's own, of forwarding by protocol by
// scheduler, is a fifth of the first.
const (
	maxCombinations = 1024
	// maxMatrixNodes bounds the values of all its labs together, with aliases
	// followed.
	maxMatrixNodes = 1 << 21
	// maxMatrixText bounds the text of all its labs together, in bytes.
	maxMatrixText = 64 << 20
)

// Combination says which lab of a matrix a lab is.
type Combination struct {
	// Of is the name that all labs of the matrix have in common, and Title the
	// title as the file has it, before anything was put in.
	Of, Title string
	// Name is what stands behind Of in the lab's own name: "dr-tcp-rr".
	Name string
	// Values are the axes with this lab's value of each, in the file's order.
	Values []AxisValue
}

// AxisValue is one axis of a matrix and one of its values.
type AxisValue struct{ Axis, Value string }

// UnmarshalSource is never asked: what a document says under matrix: is taken
// out before it becomes labs. The key is Lab's all the same, so that it stands
// among those that are allowed.
func (*Combination) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	d.Fail(n, "a matrix belongs at the top of a lab file")
}

// variant is one document that a matrix makes of another.
type variant struct {
	doc    *yaml.Node
	name   string
	values []AxisValue
}

// combine names the lab as the variant that it is of its document.
func (l *Lab) combine(doc *yaml.Node, v variant) {
	if v.name == "" {
		return
	}
	l.Matrix = &Combination{Of: l.Name, Title: l.Title, Name: v.name, Values: v.values}
	if title := child(doc, "title"); title != nil {
		l.Matrix.Title = title.Value
	}
	l.Name += "/" + v.name
}

// axis is one dimension of a matrix.
type axis struct {
	name   string
	node   *yaml.Node
	values []axisValue
	used   bool
}

type axisValue struct {
	text, slug string
	patch      *yaml.Node // nil for none
}

// expand turns a document into those that its matrix makes of it, in the order
// of the file, the last axis the fastest. A document without a matrix is one
// variant without a name, untouched: only where there is a matrix does ${…} mean
// something.
func expand(path string, doc *yaml.Node) ([]variant, source.List) {
	d := &source.Decoder{File: path}
	matrix := child(doc, "matrix")
	if matrix == nil {
		return []variant{{doc: doc}}, nil
	}
	for k := range d.Pairs(doc) { // records a second matrix:, which would be lost
		if name := child(doc, "name"); k.Value == "name" && name != nil && strings.Contains(name.Value, "${") {
			d.Fail(name, "name: %q: the labs of a matrix are told apart by its values, which follow the name", name.Value)
		}
	}
	axes, exclude := readMatrix(d, matrix)
	if len(d.Errs) > 0 {
		return nil, d.Errs
	}
	m := &expander{d: d, axes: axes}
	base := leftOut(doc, "matrix")
	var out []variant
	for choice := range choices(axes) {
		v := variant{values: make([]AxisValue, len(axes))}
		var words []string
		for i, a := range axes {
			v.values[i] = AxisValue{a.name, a.values[choice[i]].text}
			words = append(words, a.values[choice[i]].slug)
		}
		if slices.ContainsFunc(exclude, func(e []exclusion) bool { return excludes(e, v.values) }) {
			continue
		}
		v.name = strings.Join(words, "-")
		// Put in before anything is laid over: a patch finds its keys by what
		// they become.
		m.begin(v.values)
		next := m.fill(base)
		for i, a := range axes {
			if p := a.values[choice[i]].patch; p != nil {
				next = source.Merge(expandLinks(next), expandLinks(m.fill(p)))
			}
		}
		v.doc = next
		out = append(out, v)
		if m.count(next); m.tooMuch() {
			d.Fail(matrix, "the labs of this matrix are more than can be held: %d values, %d bytes of text; take some of its values out", m.nodes, m.text)
			break
		}
	}
	if len(out) == 0 {
		d.Fail(matrix, "exclude leaves no combination")
	}
	if len(d.Errs) == 0 {
		for _, a := range axes {
			if !a.used {
				d.Fail(a.node, "axis %s changes nothing: no ${%s} stands anywhere, and no value of it is a patch", a.name, a.name)
			}
		}
	}
	return out, d.Errs
}

// choices walks all combinations of the axes' values, by their places.
func choices(axes []*axis) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		choice := make([]int, len(axes))
		for {
			if !yield(choice) {
				return
			}
			i := len(axes) - 1
			for ; i >= 0; i-- {
				if choice[i]++; choice[i] < len(axes[i].values) {
					break
				}
				choice[i] = 0
			}
			if i < 0 {
				return
			}
		}
	}
}

// expander puts the values of one combination in the place of ${axis}.
type expander struct {
	d      *source.Decoder
	axes   []*axis
	values map[string]string
	// done keeps what was filled already, so that an alias is followed once.
	done map[*yaml.Node]*yaml.Node
	// nodes and text count what all combinations unfold to.
	nodes, text int
	told        map[*yaml.Node]bool
}

func (m *expander) begin(values []AxisValue) {
	m.values = make(map[string]string)
	for _, v := range values {
		m.values[v.Axis] = v.Value
	}
	m.done = make(map[*yaml.Node]*yaml.Node)
}

// count adds what a document unfolds to.
func (m *expander) count(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if m.nodes++; m.tooMuch() {
		return
	}
	for _, c := range n.Content {
		m.count(c)
	}
}

func (m *expander) tooMuch() bool { return m.nodes > maxMatrixNodes || m.text > maxMatrixText }

// fill is a node with the values put in, in keys as well. What holds no ${…} is
// shared by all combinations.
func (m *expander) fill(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if f, ok := m.done[n]; ok {
		return f
	}
	if m.tooMuch() {
		return n
	}
	out := n
	switch n.Kind {
	case yaml.ScalarNode:
		if text := m.fillText(n); text != n.Value {
			copied := *n
			copied.Value = text
			m.text += len(text)
			out = &copied
		}
	default:
		for i, c := range n.Content {
			f := m.fill(c)
			if f == c {
				continue
			}
			if out == n {
				copied := *n
				copied.Content = slices.Clone(n.Content)
				out = &copied
			}
			out.Content[i] = f
		}
	}
	m.done[n] = out
	return out
}

// fillText puts the values into a scalar. $${ stands for ${ itself.
func (m *expander) fillText(n *yaml.Node) string {
	if !strings.Contains(n.Value, "${") {
		return n.Value
	}
	var b strings.Builder
	rest := n.Value
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			break
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		b.WriteString(rest[:i])
		name, after, closed := strings.Cut(rest[i+2:], "}")
		value, known := m.values[name]
		switch {
		case !closed:
			m.fail(n, "${ without a } behind it; the axes of this matrix are %s, and $${ stands for ${ itself", m.names())
			return n.Value
		case !known:
			m.fail(n, "%s; $${ stands for ${ itself", source.Unknown("axis", name, m.axisNames()))
			return n.Value
		}
		for _, a := range m.axes {
			a.used = a.used || a.name == name
		}
		b.WriteString(value)
		rest = after
	}
	return b.String() + rest
}

// fail records a mistake at a place once, however many combinations meet it.
func (m *expander) fail(n *yaml.Node, format string, args ...any) {
	if m.told == nil {
		m.told = make(map[*yaml.Node]bool)
	}
	if !m.told[n] {
		m.told[n] = true
		m.d.Fail(n, format, args...)
	}
}

func (m *expander) axisNames() []string {
	var names []string
	for _, a := range m.axes {
		names = append(names, a.name)
	}
	return names
}

func (m *expander) names() string { return strings.Join(m.axisNames(), ", ") }
