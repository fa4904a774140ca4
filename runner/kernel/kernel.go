// Package kernel finds, fetches and caches the kernels that guests boot, and
// knows which modules each has and in which order they load.
//
// The only kernel so far is User-Mode Linux as Debian packages it: a program
// that needs no root, with its modules beside it. Nothing here boots anything;
// that is for the backends.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where a kernel was found, for Kernel.Source.
const (
	// FromEnvironment: LVSLAB_UML names it.
	FromEnvironment = "LVSLAB_UML"
	// FromCache: Install put it into the user's cache.
	FromCache = "cache"
	// FromSystem: the machine's own package manager installed it.
	FromSystem = "system"
)

const (
	umlName  = "uml"
	umlImage = "linux.uml"
	// System-wide paths of Debian's package user-mode-linux.
	systemImage   = "/usr/bin/linux.uml"
	systemModules = "/usr/lib/uml/modules"
)

// Kernel is one kernel that a guest can boot.
type Kernel struct {
	// Name is the kind: "uml".
	Name string
	// Release is what uname -r says in the guest, and the name of the modules'
	// folder: "6.1.176".
	Release string
	// Version is that of the package, "6.1um4+b13"; empty where the kernel was
	// not fetched by Install.
	Version string
	// Image is the absolute path of the program or kernel file.
	Image string
	// Modules is the absolute path of the folder that holds modules.dep.
	Modules string
	// Source is FromEnvironment, FromCache or FromSystem.
	Source string

	// root is the folder in the cache that holds the manifest.
	root string
}

// String is for people: "uml 6.1.176 (6.1um4+b13, cache)".
func (k Kernel) String() string {
	if k.Version != "" {
		return fmt.Sprintf("%s %s (%s, %s)", k.Name, k.Release, k.Version, k.Source)
	}
	return fmt.Sprintf("%s %s (%s)", k.Name, k.Release, k.Source)
}

// Env looks up an environment variable; os.Getenv is one.
type Env func(name string) string

// ErrNone is returned by Find where there is no kernel at all.
var ErrNone = errors.New("no guest kernel: `lvslab kernel install` fetches one without root, or set LVSLAB_UML to the path of a linux.uml")

// Find is the kernel to boot: the one that LVSLAB_UML names, else the newest
// in the user's cache, else the system's. The check is a cheap one; Verify is
// the thorough one. A kernel that LVSLAB_UML names and that is not there is an
// error; nothing else is tried then. Without any, the error is ErrNone, joined
// with what is wrong with those that were passed over.
func Find(env Env) (Kernel, error) {
	if image := env("LVSLAB_UML"); image != "" {
		return fromEnvironment(image, env("LVSLAB_UML_MODULES"))
	}
	all, problems := List(env)
	if len(all) > 0 {
		return all[0], nil
	}
	return Kernel{}, errors.Join(append([]error{ErrNone}, problems...)...)
}

// List is every kernel that Find could take, best first, and what is wrong
// with the others.
func List(env Env) ([]Kernel, []error) {
	var all []Kernel
	var problems []error
	if image := env("LVSLAB_UML"); image != "" {
		k, err := fromEnvironment(image, env("LVSLAB_UML_MODULES"))
		if err != nil {
			problems = append(problems, err)
		} else {
			all = append(all, k)
		}
	}
	cached, errs := listCache(env)
	all, problems = append(all, cached...), append(problems, errs...)
	k, err := locate(systemImage, systemModules, FromSystem)
	switch {
	case err == nil:
		all = append(all, k)
	case !errors.Is(err, fs.ErrNotExist):
		problems = append(problems, err)
	}
	return all, problems
}

func fromEnvironment(image, modules string) (Kernel, error) {
	image, err := filepath.Abs(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("LVSLAB_UML=%s: %w", image, err)
	}
	next := "LVSLAB_UML_MODULES can name the folder"
	if modules == "" {
		modules = filepath.Join(filepath.Dir(image), "..", "lib", "uml", "modules")
	} else if modules, err = filepath.Abs(modules); err != nil {
		return Kernel{}, fmt.Errorf("LVSLAB_UML_MODULES=%s: %w", modules, err)
	} else {
		next = "LVSLAB_UML_MODULES names it"
	}
	k, err := locate(image, modules, FromEnvironment)
	if err != nil {
		return Kernel{}, fmt.Errorf("LVSLAB_UML=%s: %w (%s)", image, err, next)
	}
	return k, nil
}

// locate makes a Kernel of an image and of the folder that holds modules.dep,
// or that holds one folder per release.
func locate(image, modules, source string) (Kernel, error) {
	k := Kernel{Name: umlName, Image: image, Source: source}
	info, err := os.Stat(image)
	if err != nil {
		return Kernel{}, err
	}
	if !info.Mode().IsRegular() || unix.Access(image, unix.X_OK) != nil {
		return Kernel{}, fmt.Errorf("%s is not a program that this user can run", image)
	}
	if _, err := os.Stat(filepath.Join(modules, "modules.dep")); err == nil {
		k.Modules, k.Release = modules, filepath.Base(modules)
		return k, nil
	}
	found, err := filepath.Glob(filepath.Join(modules, "*", "modules.dep"))
	if err != nil || len(found) == 0 {
		return Kernel{}, fmt.Errorf("no modules.dep in %s nor in a folder below it", modules)
	}
	if len(found) > 1 {
		names := make([]string, len(found))
		for i, f := range found {
			names[i] = filepath.Base(filepath.Dir(f))
		}
		return Kernel{}, fmt.Errorf("%s has modules for several kernels (%s), set LVSLAB_UML and LVSLAB_UML_MODULES to choose", modules, strings.Join(names, ", "))
	}
	k.Modules = filepath.Dir(found[0])
	k.Release = filepath.Base(k.Modules)
	return k, nil
}
