package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// maxSet bounds one assignment, in bytes: the rules of a director with 10,000 real
// servers and more, all IPv6.
const maxSet = 4 << 20

// shownSet is how much of an assignment stands in errors, in bytes.
const shownSet = 200

// shown is an assignment as errors have it.
func shown(assignment string) string {
	if len(assignment) <= shownSet {
		return assignment
	}
	return strings.ToValidUTF8(assignment[:shownSet], "") + "…"
}

// setter lays assignments over a lab's document, so that somebody can make a
// mistake on purpose without a file of his own. One is
//
//	PATH=VALUE    virtual_services.web.scheduler=wrr
//
// where PATH is keys with dots between, a key that has dots itself being found
// as it is; an entry of a list goes by its word, or by the node or service that
// it names: real_servers.web1.weight=3. VALUE is YAML, and null takes a thing
// out. What a change of a step may change can be set.
type setter struct {
	d *source.Decoder
	// by says which assignment stands at a place of the file.
	by map[source.Pos]string
	// assignment is the one being laid over, value what it assigns.
	assignment string
	value      *yaml.Node
}

// set lays assignments over a document, which stays as it is.
func set(path string, doc *yaml.Node, assignments []string) (*yaml.Node, *setter) {
	s := &setter{d: &source.Decoder{File: path}, by: make(map[source.Pos]string)}
	if len(assignments) == 0 {
		return doc, s
	}
	doc = expandLinks(doc)
	for _, a := range assignments {
		to, value, ok := strings.Cut(a, "=")
		s.assignment = a
		if !ok || to == "" {
			s.fail(doc, "wanted PATH=VALUE, such as virtual_services.web.scheduler=wrr")
			continue
		}
		if top, _, _ := strings.Cut(to, "."); !slices.Contains(changeable(), top) {
			s.fail(doc, "%s", source.Unknown("key", top, changeable()))
			continue
		}
		if s.value = s.parse(doc, value); s.value != nil {
			doc = s.at(doc, to, "")
		}
	}
	return expandLinks(doc), s
}

// parse is the node that a value stands for, nil for none.
func (s *setter) parse(doc *yaml.Node, value string) *yaml.Node {
	if len(value) > maxSet {
		s.fail(doc, "the value has more than %d bytes", maxSet)
		return nil
	}
	docs, err := source.Parse("", []byte("value: "+value))
	switch {
	case err != nil:
		s.fail(doc, "the value: %s", strings.TrimLeft(err.Error(), ": "))
		return nil
	case len(docs) != 1 || docs[0].Kind != yaml.MappingNode || len(docs[0].Content) != 2 || strings.TrimSpace(value) == "":
		s.fail(doc, "wanted one value after the =; null takes a thing out")
		return nil
	}
	return docs[0].Content[1]
}

// at is a copy of n in which what the path leads to is the value. key is what n
// itself stands under.
func (s *setter) at(n *yaml.Node, path, key string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path == "" {
		return s.placed(s.value, n)
	}
	switch {
	case n.Kind == yaml.MappingNode || n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return s.inMapping(n, path, key)
	case n.Kind == yaml.SequenceNode:
		return s.inList(n, path, key)
	default:
		s.fail(n, "%s is %q alone, which has no %s", key, n.Value, path)
		return n
	}
}

// inMapping goes on below the longest key that the path begins with. A new key
// is made; only a name that nothing has is not, when something of it is set.
func (s *setter) inMapping(n *yaml.Node, path, key string) *yaml.Node {
	found := -1
	var keys []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i].Value
		keys = append(keys, k)
		if (path == k || strings.HasPrefix(path, k+".")) && (found < 0 || len(k) > len(n.Content[found].Value)) {
			found = i
		}
	}
	out := *n
	out.Kind, out.Tag, out.Value, out.Anchor = yaml.MappingNode, "!!map", "", ""
	out.Content = slices.Clone(n.Content)
	if found < 0 {
		name, rest, _ := strings.Cut(path, ".")
		switch {
		case key == "sysctls":
			name, rest = path, "" // their names are nothing but dots
		case rest != "" && slices.Contains([]string{"networks", "nodes", "virtual_services", "links"}, key):
			s.fail(n, "%s", source.Unknown("entry of "+key, name, keys))
			return n
		case rest == "" && isNull(s.value):
			s.fail(n, "%s, so it cannot be taken out", source.Unknown("key", name, keys))
			return n
		}
		k := s.placed(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, n)
		below := s.placed(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, n)
		out.Content = append(out.Content, k, s.at(below, rest, name))
		return &out
	}
	k := n.Content[found].Value
	rest := strings.TrimPrefix(path[len(k):], ".")
	if rest == "" && isNull(s.value) {
		out.Content = slices.Delete(out.Content, found, found+2)
		return &out
	}
	out.Content[found+1] = s.at(n.Content[found+1], rest, k)
	return &out
}

// inList goes on below the entry that has the path's first word, or names it.
func (s *setter) inList(n *yaml.Node, path, key string) *yaml.Node {
	name, rest, _ := strings.Cut(path, ".")
	naming := map[string]string{"real_servers": "node", "serve": "service"}[key]
	var words []string
	for i, e := range n.Content {
		if e.Kind == yaml.AliasNode {
			e = e.Alias
		}
		word := e.Value
		if e.Kind == yaml.MappingNode {
			word = ""
			if named := child(e, naming); named != nil {
				word = named.Value
			}
		}
		if words = append(words, word); word != name {
			continue
		}
		out := *n
		out.Content = slices.Clone(n.Content)
		if rest == "" && isNull(s.value) {
			out.Content = slices.Delete(out.Content, i, i+1)
			return &out
		}
		if e.Kind == yaml.ScalarNode && rest != "" && naming != "" {
			// The short form of an entry is its name.
			e = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.Line, Column: e.Column, Content: []*yaml.Node{
				s.placed(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: naming}, e), e,
			}}
		}
		out.Content[i] = s.at(e, rest, name)
		return &out
	}
	s.fail(n, "%s", source.Unknown("entry of "+key, name, words))
	return n
}

// placed is a copy of a node at the place of another, where its errors shall be
// told.
func (s *setter) placed(n, at *yaml.Node) *yaml.Node {
	s.by[s.d.Pos(at)] = s.assignment
	return relocated(n, at)
}

// relocated is a copy of a node, with all that is in it, at the place of another.
func relocated(n, at *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	out := *n
	out.Line, out.Column, out.Anchor, out.Style = at.Line, at.Column, "", 0
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = relocated(c, at)
	}
	return &out
}

func (s *setter) fail(n *yaml.Node, format string, args ...any) {
	s.d.Fail(n, "%s: %s", shown(s.assignment), fmt.Sprintf(format, args...))
}

// explain says of errors where an assignment stands that the file is not to
// blame.
func (s *setter) explain(list source.List) source.List {
	for _, e := range list {
		if a, ok := s.by[e.Pos]; ok {
			e.Msg += " (as set by " + shown(a) + ")"
		}
	}
	return list
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// changeable are the keys of a lab that can be changed.
func changeable() []string { return []string{"networks", "sysctls", "nodes", "virtual_services"} }
