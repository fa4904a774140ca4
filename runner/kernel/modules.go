package kernel

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// Modules is what a kernel's modules.dep and modules.builtin say. The texts are
// searched as they are: a guest asks for a dozen of a thousand modules, and to
// take all of them apart would cost it a tenth of its boot.
type Modules struct {
	dep, builtin []byte
	// Soften's.
	softdep   []byte
	aliases   func() []byte
	aliasText []byte
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
	n := 0
	for line := range bytes.Lines(dep) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		file, _, ok := bytes.Cut(line, []byte{':'})
		if !ok || len(baseName(file)) == 0 {
			return nil, fmt.Errorf("modules.dep:%d: %q is not `path: path...`", n, clip(line))
		}
		if escapes(file) {
			return nil, fmt.Errorf("modules.dep:%d: path %q leads out of the folder of modules.dep", n, clip(file))
		}
	}
	return &Modules{dep: dep, builtin: builtin}, nil
}

// find is the file of a module and the files that it needs.
func (m *Modules) find(name string) (file string, deps []string, ok bool) {
	for line := range bytes.Lines(m.dep) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		f, rest, _ := bytes.Cut(line, []byte{':'})
		if sameName(baseName(f), name) {
			return string(f), strings.Fields(string(rest)), true
		}
	}
	return "", nil, false
}

func (m *Modules) isBuiltin(name string) bool {
	for line := range bytes.Lines(m.builtin) {
		if sameName(baseName(bytes.TrimSpace(line)), name) {
			return true
		}
	}
	return false
}

// baseName is a file's name without its folder and from .ko on.
func baseName(file []byte) []byte {
	base := file[bytes.LastIndexByte(file, '/')+1:]
	if i := bytes.Index(base, []byte(".ko")); i >= 0 {
		base = base[:i]
	}
	return base
}

// sameName compares a file's name with a module's: the kernel takes - for _.
func sameName(file []byte, name string) bool {
	if len(file) != len(name) || len(name) == 0 {
		return false
	}
	for i, c := range file {
		if c == '-' {
			c = '_'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// escapes reports whether a path leads, or might lead, out of its folder.
func escapes(file []byte) bool {
	return file[0] == '/' || bytes.Contains(file, []byte("//")) || bytes.Contains(append([]byte{'/'}, file...), []byte("/.."))
}

func clip(text []byte) string { return string(text[:min(len(text), 200)]) }

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
	_, _, ok := m.find(name)
	return ok || m.isBuiltin(name)
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
		file, deps, ok := m.find(name)
		if !ok {
			if m.isBuiltin(name) {
				return nil
			}
			return &UnknownModuleError{Name: name}
		}
		state[name] = begun
		for _, b := range m.before(name) {
			if state[b] == begun {
				continue // it cannot be had before
			}
			if err := visit(b); err != nil {
				return err
			}
		}
		for i := len(deps) - 1; i >= 0; i-- {
			if err := visit(ModuleName(deps[i])); err != nil {
				return err
			}
		}
		state[name] = done
		order = append(order, Module{Name: name, Path: file})
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
