package source

import "gopkg.in/yaml.v3"

// Merge lays a patch over a document and returns a new one; neither is
// changed. Mappings merge key by key, a key set to null is taken out, anything
// else replaces what was there.
func Merge(base, patch *yaml.Node) *yaml.Node {
	base, patch = resolve(base), resolve(patch)
	if base.Kind != yaml.MappingNode || patch.Kind != yaml.MappingNode {
		return patch
	}
	out := *base
	out.Content = append([]*yaml.Node(nil), base.Content...)
	for i := 0; i+1 < len(patch.Content); i += 2 {
		k, v := resolve(patch.Content[i]), patch.Content[i+1]
		at := -1
		for j := 0; j+1 < len(out.Content); j += 2 {
			if resolve(out.Content[j]).Value == k.Value {
				at = j
				break
			}
		}
		switch {
		case isNull(resolve(v)):
			if at >= 0 {
				out.Content = append(out.Content[:at:at], out.Content[at+2:]...)
			}
		case at >= 0:
			out.Content[at+1] = Merge(out.Content[at+1], v)
		default:
			out.Content = append(out.Content, k, v)
		}
	}
	return &out
}
