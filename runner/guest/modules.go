package guest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
)

// loader loads modules from a folder. modules.dep is read when it is first
// asked for something, and then never again.
type loader struct {
	dir    int
	mu     sync.Mutex
	known  *kernel.Modules
	loaded map[string]bool
}

func newLoader(dir int) *loader { return &loader{dir: dir, loaded: make(map[string]bool)} }

func (l *loader) load(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	known, err := l.modules()
	if err != nil {
		return err
	}
	order, err := known.Order(names...)
	if err != nil {
		return err
	}
	for _, m := range order {
		if l.has(m.Name) {
			continue
		}
		// Without the lock: what a module does at its start may make the kernel
		// ask for another one.
		if err := l.insert(m, names); err != nil {
			return err
		}
		l.mu.Lock()
		l.loaded[m.Name] = true
		l.mu.Unlock()
	}
	return nil
}

func (l *loader) has(module string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loaded[module]
}

// modules are what the folder holds.
func (l *loader) modules() (*kernel.Modules, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known != nil {
		return l.known, nil
	}
	dep, err := readAt(l.dir, "modules.dep")
	if err != nil {
		return nil, fmt.Errorf("loading modules: %w", err)
	}
	builtin, err := readAt(l.dir, "modules.builtin")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("loading modules: %w", err)
	}
	softdep, err := readAt(l.dir, "modules.softdep")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("loading modules: %w", err)
	}
	known, err := kernel.ParseModules(dep, builtin)
	if err != nil {
		return nil, err
	}
	known.Soften(softdep, func() []byte {
		text, err := readAt(l.dir, "modules.alias")
		if err != nil {
			return nil // what only an alias names is not loaded beforehand
		}
		return text
	})
	l.known = known
	return known, nil
}

// parameters are those that a module is given. Labs are of IPv4, and every plan
// turns IPv6 off in each of its nodes; other modules want ipv6 for its symbols
// alone. Loaded without its function, it costs neither the time to start nor
// some in every namespace (Documentation/networking/ipv6.rst, disable). Who asks
// for ipv6 itself, first, gets it whole.
func parameters(module string, asked []string) string {
	if module == "ipv6" && !slices.Contains(asked, module) {
		return "disable=1"
	}
	return ""
}

func (l *loader) insert(m kernel.Module, asked []string) error {
	f, err := openAt(l.dir, m.Path)
	if err != nil {
		return fmt.Errorf("loading module %s: %w", m.Name, err)
	}
	defer f.Close()
	flags := 0
	if m.Compressed() {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), parameters(m.Name, asked), flags)
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENOENT):
		// finit_module(2) does not list it; the kernel means a symbol that
		// another module should have brought.
		return fmt.Errorf("loading module %s: a symbol it needs is missing, which modules.dep does not tell of: %w", m.Name, err)
	}
	return fmt.Errorf("loading module %s: %w", m.Name, err)
}
