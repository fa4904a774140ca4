package scenarios

import (
	"bytes"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// Written is the text of a lab file in which assignments are written down, so that
// it says by itself what Load makes of both. What a lab with assignments may say, it
// allows by name. Comments stay; how the lines are broken does not.
func Written(path, labName string, data []byte, assignments ...string) ([]byte, error) {
	docs, err := source.Parse(path, data)
	if err != nil {
		return nil, err
	}
	labs, err := Load(path, labName, data, assignments...)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	for i, doc := range docs {
		laid, setter := set(path, doc, assignments)
		if err := setter.d.Errs.Err(); err != nil {
			return nil, err
		}
		if len(labs) == len(docs) { // a matrix has several, each with its own
			laid = allowing(laid, labs[i])
		}
		if err := e.Encode(laid); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), e.Close()
}

// allowing is a document that allows what its lab has been found to say.
func allowing(doc *yaml.Node, l *Lab) *yaml.Node {
	var codes []string
	for _, f := range l.Findings {
		if !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	out := leftOut(doc, "allow")
	if len(codes) == 0 {
		return out
	}
	list := &yaml.Node{}
	_ = list.Encode(codes) // strings
	list.Style = yaml.FlowStyle
	out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "allow"}, list)
	return out
}
