package kernel

import (
	"bytes"
	"path"
	"strings"
)

// Aliases are the other names of modules, by which a kernel asks for them
// (modules.alias, depmod(8)).
type Aliases struct{ text []byte }

// ParseAliases takes the text of modules.alias. Lines of another form are passed
// over.
func ParseAliases(text []byte) Aliases { return Aliases{text} }

// Find is the modules that have an alias, in the file's order. An alias may hold
// * and other patterns of a shell; dashes and underscores are the same.
func (a Aliases) Find(name string) []string {
	name = sameDashes(name)
	var found []string
	for line := range bytes.Lines(a.text) {
		f := strings.Fields(string(line))
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		if ok, err := path.Match(sameDashes(f[1]), name); ok && err == nil {
			found = append(found, f[2])
		}
	}
	return found
}

func sameDashes(s string) string { return strings.ReplaceAll(s, "-", "_") }
