package scenarios

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// WithSteps is the lab with the steps of another file in the place of its own:
// a mapping whose one key is steps, or the list alone. path is the name for
// errors, which come all at once, as a source.List. What the steps' changes
// bring about and cannot work is allowed: who runs steps in a lab that is up
// wants to see it.
func (l *Lab) WithSteps(path string, data []byte) (*Lab, error) {
	steps, err := readSteps(path, data)
	if err != nil {
		return nil, err
	}
	own := leftOut(l.doc, "steps")
	doc := *own
	doc.Content = append(doc.Content[:len(doc.Content):len(doc.Content)],
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "steps", Line: steps.Line, Column: steps.Column}, steps)
	next, list := decode(path, data, &doc)
	next.Name, next.Label, next.Omit, next.Pos, next.Matrix, next.root = l.Name, l.Label, l.Omit, l.Pos, l.Matrix, l.root
	next.set, next.stepsFile = true, path
	if len(list) == 0 {
		list = next.check()
	}
	if len(list) == 0 && next.changes() {
		_, err := next.Plan()
		list.AddError(source.Pos{File: path, Line: steps.Line, Col: steps.Column}, err)
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	return next, nil
}

// readSteps finds the list of steps in its file.
func readSteps(path string, data []byte) (*yaml.Node, error) {
	docs, err := source.Parse(path, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, &source.Error{Pos: source.Pos{File: path}, Msg: fmt.Sprintf("a file of steps is one document, found %d", len(docs))}
	}
	doc := docs[0]
	var errs source.List
	at := func(n *yaml.Node) source.Pos { return source.Pos{File: path, Line: n.Line, Col: n.Column} }
	switch doc.Kind {
	case yaml.SequenceNode:
		return doc, nil
	case yaml.MappingNode:
		for i := 0; i+1 < len(doc.Content); i += 2 {
			if k := doc.Content[i]; k.Value != "steps" {
				errs.Add(at(k), "%s (in a file of steps for a lab that is up; lvslab apply takes whole labs)", source.Unknown("key", k.Value, []string{"steps"}))
			}
		}
		steps := child(doc, "steps")
		if steps == nil || steps.Kind != yaml.SequenceNode {
			errs.Add(at(doc), "a file of steps needs steps:, a list")
		}
		return steps, errs.Err()
	}
	errs.Add(at(doc), "wanted a list of steps")
	return nil, errs.Err()
}
