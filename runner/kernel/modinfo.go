package kernel

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modinfo is what a module says of itself, in its section .modinfo: what
// modinfo(8) shows.
type modinfo struct {
	name string
	// path is relative to the folder of modules.dep.
	path string
	// depends are the modules whose symbols it uses. before are those, by name
	// or by alias, that should be there first though no symbol says so.
	depends, before []string
	aliases         []string
}

// parseModinfo reads the text of a .modinfo section: "key=value" strings that
// end with a zero byte each.
func parseModinfo(text string) modinfo {
	var m modinfo
	for entry := range strings.SplitSeq(text, "\x00") {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			m.name = ModuleName(value)
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, ModuleName(d))
				}
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		case "softdep":
			// "pre: a b post: c" (modprobe.d(5)).
			pre := false
			for word := range strings.FieldsSeq(value) {
				switch {
				case strings.HasSuffix(word, ":"):
					pre = word == "pre:"
				case pre:
					m.before = append(m.before, word)
				}
			}
		}
	}
	return m
}

// writeModulesDep makes the modules.dep and modules.alias of a folder of modules,
// which Debian's package leaves to depmod(8) and the machine may lack. It also lists what a
// module wants before it though no symbol says so, as a guest has no modprobe to
// care for that: without crc32c_generic, ip_vs does not load. A module that
// depends on one that is not in the folder is left out.
func writeModulesDep(dir string) error {
	var all []modinfo
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".ko" {
			return err
		}
		m, err := readModinfo(path)
		if err != nil {
			return err
		}
		m.path, err = filepath.Rel(dir, path)
		all = append(all, m)
		return err
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.alias"), []byte(modulesAlias(all)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(modulesDep(all)), 0o644)
}

// modulesAlias is the text of modules.alias, by which a guest's kernel finds the
// modules that it asks for.
func modulesAlias(all []modinfo) string {
	var b strings.Builder
	for _, m := range all {
		for _, a := range m.aliases {
			fmt.Fprintf(&b, "alias %s %s\n", a, m.name)
		}
	}
	return b.String()
}

func readModinfo(path string) (modinfo, error) {
	f, err := elf.Open(path)
	if err != nil {
		return modinfo{}, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return modinfo{}, fmt.Errorf("%s: a module without .modinfo", path)
	}
	text, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("%s: .modinfo: %w", path, err)
	}
	m := parseModinfo(string(text))
	m.name = ModuleName(path)
	return m, nil
}

// modulesDep is the text of modules.dep(5).
func modulesDep(all []modinfo) string {
	slices.SortFunc(all, func(a, b modinfo) int { return cmp.Compare(a.path, b.path) })
	byName := make(map[string]modinfo)
	byAlias := make(map[string][]string)
	for _, m := range all {
		byName[m.name] = m
		for _, a := range m.aliases {
			byAlias[a] = append(byAlias[a], m.name)
		}
	}
	// complete says whether all that a module depends on is there. A circle is
	// not: no kernel loads it.
	known := make(map[string]bool)
	var complete func(name string) bool
	complete = func(name string) bool {
		if v, ok := known[name]; ok {
			return v
		}
		known[name] = false
		m, ok := byName[name]
		ok = ok && !slices.ContainsFunc(m.depends, func(d string) bool { return !complete(d) })
		known[name] = ok
		return ok
	}
	// reaches keeps what is wanted before from making a circle.
	var reaches func(from, to string, seen map[string]bool) bool
	needs := make(map[string][]string)
	reaches = func(from, to string, seen map[string]bool) bool {
		if from == to {
			return true
		}
		if seen[from] {
			return false
		}
		seen[from] = true
		return slices.ContainsFunc(needs[from], func(d string) bool { return reaches(d, to, seen) })
	}
	for _, m := range all {
		needs[m.name] = slices.Clone(m.depends)
	}
	var b strings.Builder
	for _, m := range all {
		if !complete(m.name) {
			continue
		}
		for _, want := range m.before {
			n := provider(want, byName, byAlias)
			if n != "" && complete(n) && !slices.Contains(needs[m.name], n) && !reaches(n, m.name, make(map[string]bool)) {
				needs[m.name] = append(needs[m.name], n)
			}
		}
		b.WriteString(m.path + ":")
		for _, d := range needs[m.name] {
			b.WriteString(" " + byName[d].path)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// provider is the module that a name or an alias stands for, "" for none. Of
// several, such as the implementations of a checksum, the generic one works on
// every processor.
func provider(want string, byName map[string]modinfo, byAlias map[string][]string) string {
	if m, ok := byName[ModuleName(want)]; ok {
		return m.name
	}
	names := byAlias[want]
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, "_generic") }); i >= 0 {
		return names[i]
	}
	if len(names) > 0 {
		return names[0]
	}
	return ""
}
