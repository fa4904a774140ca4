package scenarios

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// Load reads the labs of one file. path is the name for its errors; labName is
// what a lab in a file of its own is called, and the chapter of several. A
// document with a matrix is as many labs as its matrix has combinations. All
// errors of the file come at once, as a source.List.
//
// Every change of every step is laid over the lab and checked, so that a run
// cannot end in the middle by a mistake of the file.
//
// Assignments, each "PATH=VALUE" such as virtual_services.web.scheduler=wrr, are
// laid over every lab of the file before all else; what cannot work then is
// allowed, since it was asked for.
func Load(path, labName string, data []byte, assignments ...string) ([]*Lab, error) {
	docs, err := source.Parse(path, data)
	if err != nil {
		return nil, err
	}
	var labs []*Lab
	var errs source.List
	seen := make(map[string]source.Pos)
	for i, doc := range docs {
		variants, list := expand(path, doc)
		errs = append(errs, list...)
		if len(list) > 0 {
			continue
		}
		var found alike
		for _, v := range variants {
			laid, setter := set(path, v.doc, assignments)
			lab, list := decode(path, data, laid)
			lab.set = len(assignments) > 0
			list = append(list, setter.d.Errs...)
			lab.Name = labName
			switch {
			case lab.Label != "":
				lab.Name = labName + "/" + lab.Label
			case len(docs) > 1:
				lab.Name = fmt.Sprintf("%s/%d", labName, i+1)
			}
			lab.combine(doc, v)
			if err := CheckName(lab.Name); err != nil {
				list.Add(lab.Pos, "%v", err)
			}
			if first, twice := seen[lab.Name]; twice {
				list.Add(lab.Pos, "a second lab is called %s; the first is at %s", lab.Name, first)
			}
			seen[lab.Name] = lab.Pos
			if len(list) == 0 {
				list = append(list, lab.check()...)
			} else {
				list = append(list, lab.readable()...)
			}
			if len(list) == 0 && lab.changes() {
				// What a change cannot do shows only in its ops.
				_, err := lab.Plan()
				list.AddError(lab.Pos, err)
			}
			found.add(v.name, setter.explain(list))
			labs = append(labs, lab)
		}
		errs = append(errs, found.list()...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return labs, nil
}

// changes reports whether any step changes the lab.
func (l *Lab) changes() bool {
	return slices.ContainsFunc(l.Steps, func(s Step) bool {
		return slices.ContainsFunc(s.Do, func(a Action) bool { return a.Changes() })
	})
}

// readable looks at what could be read of a lab that has errors already, so that
// all of them come at once. What could not be read is empty, and is not
// complained of a second time.
func (l *Lab) readable() source.List {
	if len(l.Networks) == 0 || len(l.Nodes) == 0 {
		return nil // every name would lead nowhere
	}
	return slices.DeleteFunc(l.structure(), func(e *source.Error) bool { return strings.Contains(e.Msg, `""`) })
}

// LoadFile reads a lab file from disk; its base name without the ending names
// the lab.
func LoadFile(path string) ([]*Lab, error) {
	data, err := source.Read(path)
	if err != nil {
		return nil, err
	}
	return Load(path, NameOf(path), data)
}

// NameOf is the lab's name that a file's path gives.
func NameOf(path string) string {
	base := filepath.Base(path)
	return strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))
}

// decode turns one document into a lab.
func decode(path string, data []byte, doc *yaml.Node) (*Lab, source.List) {
	d := &source.Decoder{File: path, Data: data}
	lab := &Lab{doc: doc, data: data}
	d.Decode(doc, lab)
	return lab, d.Errs
}

// patched is the lab after a change: the patch laid over its document, without
// its steps. What a change cannot change (its name, its steps) is an error.
func (l *Lab) patched(patch *yaml.Node) (*Lab, source.List) {
	file := l.Pos.File
	if l.stepsFile != "" {
		file = l.stepsFile
	}
	var errs source.List
	for i := 0; i+1 < len(patch.Content); i += 2 {
		if k := patch.Content[i]; !slices.Contains(changeable(), k.Value) {
			errs.Add(source.Pos{File: file, Line: k.Line, Col: k.Column}, "%s",
				source.Unknown("key", k.Value, changeable())+" (in a change)")
		}
	}
	// A node that a change names first is a new one; without links it would
	// be a word misspelt.
	if nodes := child(patch, "nodes"); nodes != nil && nodes.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(nodes.Content); i += 2 {
			k := nodes.Content[i]
			if _, ok := l.Nodes.Get(k.Value); !ok && child(nodes.Content[i+1], "links") == nil {
				errs.Add(source.Pos{File: file, Line: k.Line, Col: k.Column}, "%s (in a change; a new node needs links)",
					source.Unknown("node", k.Value, l.Nodes.Names()))
			}
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	next, list := decode(file, l.data, source.Merge(expandLinks(leftOut(l.doc, "steps")), expandLinks(patch)))
	next.Name, next.stepsFile = l.Name, l.stepsFile
	if next.root = l.root; next.root == nil {
		next.root = l
	}
	return next, list
}

// leftOut is a copy of a mapping without a key.
func leftOut(doc *yaml.Node, key string) *yaml.Node {
	out := *doc
	out.Content = nil
	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value != key {
			out.Content = append(out.Content, doc.Content[i], doc.Content[i+1])
		}
	}
	return &out
}

// expandLinks writes the short forms of links out, so that a change of one part
// of a link keeps the others.
func expandLinks(doc *yaml.Node) *yaml.Node {
	return mapValue(doc, "nodes", func(nodes *yaml.Node) *yaml.Node {
		return mapValues(nodes, func(node *yaml.Node) *yaml.Node {
			return mapValue(node, "links", func(links *yaml.Node) *yaml.Node {
				return mapValues(links, func(l *yaml.Node) *yaml.Node {
					if l.Tag == "!!null" {
						return l
					}
					return expandLink(l)
				})
			})
		})
	})
}

// mapValues is a copy of a mapping with f over each value.
func mapValues(n *yaml.Node, f func(*yaml.Node) *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return n
	}
	out := *n
	out.Content = append([]*yaml.Node(nil), n.Content...)
	for i := 1; i < len(out.Content); i += 2 {
		out.Content[i] = f(out.Content[i])
	}
	return &out
}

// mapValue is a copy of a mapping with f over the value of one key.
func mapValue(n *yaml.Node, key string, f func(*yaml.Node) *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	i := -1
	return mapValues(n, func(v *yaml.Node) *yaml.Node {
		i += 2
		if n.Content[i-1].Value == key {
			return f(v)
		}
		return v
	})
}

// withLink is the lab after a link change, made as a patch of its file.
func (l *Lab) withLink(c *LinkChange) (*Lab, source.List) {
	scalar := func(tag, v string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v, Line: c.Pos.Line, Column: c.Pos.Col}
	}
	mapping := func(k string, v *yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: c.Pos.Line, Column: c.Pos.Col, Content: []*yaml.Node{scalar("!!str", k), v}}
	}
	var value *yaml.Node
	if c.Down != nil {
		value = mapping("down", scalar("!!bool", fmt.Sprint(*c.Down)))
	} else {
		value = mapping("delay", scalar("!!str", c.Delay.String()))
	}
	next := l
	for _, node := range c.Nodes {
		var errs source.List
		patch := mapping("nodes", mapping(node, mapping("links", mapping(c.Device, value))))
		if next, errs = next.patched(patch); len(errs) > 0 {
			return nil, errs
		}
	}
	return next, nil
}
