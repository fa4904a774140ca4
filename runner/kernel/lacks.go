package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadModules reads what the kernel's folder of modules says about them.
func (k Kernel) ReadModules() (*Modules, error) {
	dep, err := os.ReadFile(filepath.Join(k.Modules, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k, err)
	}
	builtin, err := os.ReadFile(filepath.Join(k.Modules, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel %s: %w", k, err)
	}
	m, err := ParseModules(dep, builtin)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k, err)
	}
	softdep, err := os.ReadFile(filepath.Join(k.Modules, "modules.softdep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel %s: %w", k, err)
	}
	m.Soften(softdep, func() []byte {
		text, err := os.ReadFile(filepath.Join(k.Modules, "modules.alias"))
		if err != nil {
			return nil // what only an alias names is not loaded beforehand
		}
		return text
	})
	return m, nil
}
