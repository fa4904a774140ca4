package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"strings"
)

// Modules is what a kernel's modules.dep and modules.builtin say.
type Modules struct {
	byName  map[string]module
	builtin map[string]bool
}

type module struct {
	path string
	// deps are names, in the order of the file: modprobe loads them from the
	// last to the first.
	deps []string
}

// Module is one file to load.
type Module struct {
	// Name as the kernel writes it, with underscores: "ip_vs_rr".
	Name string
	// Path is relative to the folder of modules.dep.
	Path string
}

// UnknownModuleError is returned for a module that the kernel does not have,
// neither as a file nor built in.
type UnknownModuleError struct{ Name string }

func (e *UnknownModuleError) Error() string {
	return fmt.Sprintf("this kernel has no module %q", e.Name)
}

// ParseModules reads the text of modules.dep and modules.builtin, whose form
// is that of modules.dep(5). builtin may be empty.
func ParseModules(dep, builtin []byte) (*Modules, error) {
	m := &Modules{byName: make(map[string]module, bytes.Count(dep, []byte{'\n'})), builtin: make(map[string]bool, bytes.Count(builtin, []byte{'\n'}))}
	lines := bufio.NewScanner(bytes.NewReader(dep))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		file, rest, ok := strings.Cut(line, ":")
		if !ok || ModuleName(file) == "" {
			return nil, fmt.Errorf("modules.dep:%d: %q is not `path: path...`", n, line)
		}
		if err := local(file); err != nil {
			return nil, fmt.Errorf("modules.dep:%d: %w", n, err)
		}
		mod := module{path: file}
		for _, d := range strings.Fields(rest) {
			mod.deps = append(mod.deps, ModuleName(d))
		}
		m.byName[ModuleName(file)] = mod
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("modules.dep: %w", err)
	}
	for line := range bytes.Lines(builtin) {
		if name := ModuleName(string(bytes.TrimSpace(line))); name != "" {
			m.builtin[name] = true
		}
	}
	return m, nil
}

// local refuses a path that leads out of the modules' folder.
func local(file string) error {
	if path.IsAbs(file) || path.Clean(file) != file || strings.HasPrefix(file, "../") {
		return fmt.Errorf("path %q leads out of the folder of modules.dep", file)
	}
	return nil
}

// ModuleName is the kernel's name for a module's file or for what a person
// writes: "kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz" and "ip-vs-rr" are both
// "ip_vs_rr".
func ModuleName(file string) string {
	name := path.Base(file)
	if name == "." || name == "/" {
		return ""
	}
	if i := strings.Index(name, ".ko"); i >= 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, "-", "_")
}

// Has reports whether the kernel has the module, as a file or built in.
func (m *Modules) Has(name string) bool {
	name = ModuleName(name)
	_, ok := m.byName[name]
	return ok || m.builtin[name]
}

// Order is what to load for names, each after all that it depends on, each
// once. Modules that are built in need no loading. The error is an
// *UnknownModuleError, or tells of a circle.
func (m *Modules) Order(names ...string) ([]Module, error) {
	const (
		begun = 1
		done  = 2
	)
	state := make(map[string]int)
	var order []Module
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case begun:
			return fmt.Errorf("modules.dep: %s depends on itself", name)
		}
		mod, ok := m.byName[name]
		if !ok {
			if m.builtin[name] {
				return nil
			}
			return &UnknownModuleError{Name: name}
		}
		state[name] = begun
		for i := len(mod.deps) - 1; i >= 0; i-- {
			if err := visit(mod.deps[i]); err != nil {
				return err
			}
		}
		state[name] = done
		order = append(order, Module{Name: name, Path: mod.path})
		return nil
	}
	for _, name := range names {
		if err := visit(ModuleName(name)); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// Compressed reports whether the file is compressed, which finit_module(2)
// must be told.
func (m Module) Compressed() bool { return !strings.HasSuffix(m.Path, ".ko") }
