package kernel

import (
	"bytes"
	"slices"
	"strings"
)

// Soften adds what modules want before them though no symbol says so
// (modules.softdep, depmod(8)): without a crc32c, libcrc32c does not load, and
// ip_vs neither. What is wanted may be an alias; aliases is asked for the text of
// modules.alias then, once. A folder that Install has filled has it all in its
// modules.dep.
func (m *Modules) Soften(softdep []byte, aliases func() []byte) {
	m.softdep = softdep
	m.aliases = aliases
}

// before are the modules that should be loaded before one, where they are there.
func (m *Modules) before(name string) []string {
	var all []string
	for line := range bytes.Lines(m.softdep) {
		f := strings.Fields(string(line))
		if len(f) < 3 || f[0] != "softdep" || !sameName([]byte(f[1]), name) {
			continue
		}
		pre := false
		for _, word := range f[2:] {
			if strings.HasSuffix(word, ":") {
				pre = word == "pre:"
				continue
			}
			if p := m.provides(word); pre && p != "" {
				all = append(all, p)
			}
		}
	}
	return all
}

// provides is the module that has a name or an alias, "" for none that is to be
// loaded. Of several the generic one works on every processor.
func (m *Modules) provides(name string) string {
	module := ModuleName(name)
	if _, _, ok := m.find(module); ok || m.isBuiltin(module) {
		return module
	}
	if m.aliases == nil {
		return ""
	}
	if m.aliasText == nil {
		m.aliasText = append([]byte{}, m.aliases()...)
	}
	found := ParseAliases(m.aliasText).Find(name)
	if i := slices.IndexFunc(found, func(n string) bool { return strings.HasSuffix(n, "_generic") }); i >= 0 {
		return ModuleName(found[i])
	}
	if len(found) > 0 {
		return ModuleName(found[0])
	}
	return ""
}
