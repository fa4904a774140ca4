// Package kernel finds, fetches and caches the kernels that guests boot, and
// knows which modules each has and in which order they load.
//
// There are two kinds, both as Debian packages them: User-Mode Linux, a program
// that needs no root, and the generic kernel of PCs, which QEMU boots. Nothing
// here boots anything; that is for the backends.
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
	// FromEnvironmentQEMU: LVSLAB_QEMU_KERNEL names it.
	FromEnvironmentQEMU = "LVSLAB_QEMU_KERNEL"
	// FromCache: Install put it into the user's cache.
	FromCache = "cache"
	// FromSystem: the machine's own package manager installed it.
	FromSystem = "system"
)

const (
	umlImage = "linux.uml"
	// System-wide paths of Debian's package user-mode-linux.
	systemImage   = "/usr/bin/linux.uml"
	systemModules = "/usr/lib/uml/modules"
)

// Kernel is one kernel that a guest can boot.
type Kernel struct {
	// Name is the kind.
	Name Kind
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
	// Source is FromEnvironment, FromEnvironmentQEMU, FromCache or FromSystem.
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
var ErrNone = errors.New("no guest kernel: `lvslab kernel install` fetches one without root")

// Find is UML.Find.
func Find(env Env) (Kernel, error) { return UML.Find(env) }

// Find is the kernel to boot: the one that the kind's variable of the
// environment names, else the newest in the user's cache, else the system's
// (User-Mode Linux only). The check is a cheap one; Verify is the thorough one.
// A kernel that the environment names and that is not there is an error; nothing
// else is tried then. Without any, the error is ErrNone, joined with what is
// wrong with those that were passed over.
func (kd Kind) Find(env Env) (Kernel, error) {
	if image := env(kd.Variable()); image != "" {
		return kd.fromEnvironment(image, env(kd.modulesVariable()))
	}
	all, problems := kd.List(env)
	if len(all) > 0 {
		return all[0], nil
	}
	return Kernel{}, errors.Join(append([]error{ErrNone}, problems...)...)
}

// List is UML.List.
func List(env Env) ([]Kernel, []error) { return UML.List(env) }

// List is every kernel of the kind that Find could take, best first, and what
// is wrong with the others.
func (kd Kind) List(env Env) ([]Kernel, []error) {
	var all []Kernel
	var problems []error
	if image := env(kd.Variable()); image != "" {
		k, err := kd.fromEnvironment(image, env(kd.modulesVariable()))
		if err != nil {
			problems = append(problems, err)
		} else {
			all = append(all, k)
		}
	}
	cached, errs := kd.listCache(env)
	all, problems = append(all, cached...), append(problems, errs...)
	if kd != UML {
		return all, problems
	}
	k, err := kd.locate(systemImage, systemModules, FromSystem)
	switch {
	case err == nil:
		all = append(all, k)
	case !errors.Is(err, fs.ErrNotExist):
		problems = append(problems, err)
	}
	return all, problems
}

func (kd Kind) fromEnvironment(image, modules string) (Kernel, error) {
	image, err := filepath.Abs(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("%s=%s: %w", kd.Variable(), image, err)
	}
	if err := kd.checkImage(image); err != nil {
		return Kernel{}, fmt.Errorf("%s=%s: %w (without it, one that is installed is taken)", kd.Variable(), image, err)
	}
	next := kd.modulesVariable() + " can name the folder"
	if modules == "" {
		modules = filepath.Join(filepath.Dir(image), kd.modulesBeside())
	} else if modules, err = filepath.Abs(modules); err != nil {
		return Kernel{}, fmt.Errorf("%s=%s: %w", kd.modulesVariable(), modules, err)
	} else {
		next = kd.modulesVariable() + " names it"
	}
	k, err := kd.locate(image, modules, kd.Variable())
	if err != nil {
		return Kernel{}, fmt.Errorf("%s=%s: %w (%s)", kd.Variable(), image, err, next)
	}
	return k, nil
}

// checkImage reports whether the file is one that could be booted.
func (kd Kind) checkImage(image string) error {
	info, err := os.Stat(image)
	switch {
	case err != nil:
		return err
	case kd == UML && (!info.Mode().IsRegular() || unix.Access(image, unix.X_OK) != nil):
		return fmt.Errorf("%s is not a program that this user can run", image)
	case kd != UML && (!info.Mode().IsRegular() || unix.Access(image, unix.R_OK) != nil):
		return fmt.Errorf("%s is not a kernel that this user can read", image)
	}
	return nil
}

// locate makes a Kernel of an image and of the folder that holds modules.dep,
// or that holds one folder per release.
func (kd Kind) locate(image, modules, source string) (Kernel, error) {
	k := Kernel{Name: kd, Image: image, Source: source}
	if err := kd.checkImage(image); err != nil {
		return Kernel{}, err
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
		return Kernel{}, fmt.Errorf("%s has modules for several kernels (%s), set %s and %s to choose", modules, strings.Join(names, ", "), kd.Variable(), kd.modulesVariable())
	}
	k.Modules = filepath.Dir(found[0])
	k.Release = filepath.Base(k.Modules)
	return k, nil
}
