package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) kernelCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "kernel",
		Short: "Fetch and list the kernels that guests boot",
		Example: `  lvslab kernel install         fetch one into your cache, without root
  lvslab kernel install qemu    one with more in it, for --kernel qemu
  lvslab kernel list            those that are here, the ones that are taken first`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(c, args[0])
			}
			return c.Help()
		},
	}
	c.AddCommand(a.kernelInstallCmd(), a.kernelListCmd())
	return c
}

func (a *app) kernelInstallCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "install [uml|qemu]",
		Short: "Fetch a kernel of Debian's into your cache, without root",
		Long: `Install downloads a kernel from the apt sources of this machine, unpacks it into
the cache of the user, and verifies it: User-Mode Linux (the package
user-mode-linux), or for --kernel qemu the generic kernel (linux-image-amd64,
from Debian's backports where the mirror has them). It needs apt-get and dpkg and
no root, and changes nothing of the system. Where a kernel is in the cache
already, it does nothing. QEMU itself is not fetched: that takes root.

LVSLAB_UML=/path/to/linux.uml names another kernel and wins over the cache, and so
does LVSLAB_QEMU_KERNEL=/path/to/vmlinuz.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), onlyKinds),
		ValidArgs: []string{string(kernel.UML), string(kernel.QEMU)},
		RunE: func(c *cobra.Command, args []string) error {
			kind := kernel.UML
			if len(args) > 0 {
				kind = kernel.Kind(args[0])
			}
			k, there := installed(kind)
			if there && !force {
				fmt.Fprintf(a.out, "already installed: %s in %s (--force fetches it again)\n", k, filepath.Dir(k.Image))
			} else {
				var err error
				if k, err = kind.Install(c.Context(), os.Getenv, a.err); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s is ready: %s\n", k, k.Image)
			}
			if image := os.Getenv(kind.Variable()); image != "" {
				a.complain("%s is set, so guests boot %s and not this one", kind.Variable(), image)
			}
			if _, err := exec.LookPath(qemu.Program); kind == kernel.QEMU && err != nil {
				a.complain("QEMU itself is not here; get it with: %s", qemu.InstallProgram)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "fetch it even if one is in the cache")
	return c
}

// onlyKinds holds the argument of kernel install to the kinds that there are.
func onlyKinds(c *cobra.Command, args []string) error {
	for _, arg := range args {
		if !slices.Contains(c.ValidArgs, arg) {
			return usageError{errors.New(source.Unknown("kernel", arg, c.ValidArgs))}
		}
	}
	return nil
}

// kinds are those of kernels, the preferred first.
var kinds = [...]kernel.Kind{kernel.UML, kernel.QEMU}

// installed is the kernel of the cache that guests boot, if it is sound.
func installed(kind kernel.Kind) (kernel.Kernel, bool) {
	all, _ := kind.List(os.Getenv) // what is wrong with others is for list
	for _, k := range all {
		if k.Source == kernel.FromCache {
			return k, kernel.Verify(k) == nil
		}
	}
	return kernel.Kernel{}, false
}

func (a *app) kernelListCmd() *cobra.Command {
	var format *formatFlag
	c := &cobra.Command{
		Use:   "list",
		Short: "List the kernels that are here, the ones that are taken first",
		Long: `List names every kernel that guests could boot and verifies it: a kernel of the
cache by its SHA-256, one from elsewhere by reading it. The first of each kind,
uml and qemu, is the one that is taken. LVSLAB_UML=/path/to/linux.uml and
LVSLAB_QEMU_KERNEL=/path/to/vmlinuz come before the cache, the cache before the
system's own.

Exit status: 0 there is a kernel and all are sound, 1 otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l := listKernels()
			if len(l.Kernels) == 0 || len(l.Problems) > 0 {
				a.exit = 1
			}
			for _, k := range l.Kernels {
				if !k.Verified {
					a.exit = 1
				}
			}
			if *format == formatJSON {
				return a.printJSON(l)
			}
			a.printKernels(l)
			return nil
		},
	}
	format = addFormat(c.Flags(), "text or json")
	return c
}

// kernelList is the document of kernel list --format json.
type kernelList struct {
	Version int `json:"version"`
	// Cache is the folder that install fills.
	Cache   string         `json:"cache,omitempty"`
	Kernels []listedKernel `json:"kernels"`
	// Problems are what is wrong with kernels that cannot be taken.
	Problems []string `json:"problems"`
}

type listedKernel struct {
	Name    string `json:"name"`
	Release string `json:"release"`
	Package string `json:"package,omitempty"`
	Source  string `json:"source"`
	Image   string `json:"image"`
	Modules string `json:"modules"`
	// Taken says that this is the one that guests boot.
	Taken    bool   `json:"taken"`
	Verified bool   `json:"verified"`
	Problem  string `json:"problem,omitempty"`
}

func listKernels() kernelList {
	l := kernelList{Version: jsonVersion, Kernels: []listedKernel{}, Problems: []string{}}
	var err error
	if l.Cache, err = cacheFolder(); err != nil {
		l.Problems = append(l.Problems, err.Error())
	}
	for _, kind := range kinds {
		l.add(kind)
	}
	return l
}

func (l *kernelList) add(kind kernel.Kind) {
	taken, _ := kind.Find(os.Getenv) // an error of it is among List's
	all, problems := kind.List(os.Getenv)
	for _, k := range all {
		lk := listedKernel{
			Name: string(k.Name), Release: k.Release, Package: k.Version, Source: k.Source,
			Image: k.Image, Modules: k.Modules, Taken: k.Image == taken.Image, Verified: true,
		}
		if err := kernel.Verify(k); err != nil {
			lk.Verified, lk.Problem = false, err.Error()
		}
		l.Kernels = append(l.Kernels, lk)
	}
	for _, err := range problems {
		l.Problems = append(l.Problems, err.Error())
	}
}

func (a *app) printKernels(l kernelList) {
	for _, k := range l.Kernels {
		line := k.Name + " " + k.Release
		if k.Package != "" {
			line += ", package " + k.Package
		}
		line += ", from " + sourceWords(k.Source)
		if k.Taken {
			line += ", the one that is taken"
		}
		fmt.Fprintln(a.out, visible(line))
		fmt.Fprintln(a.out, "  image    "+visible(k.Image))
		fmt.Fprintln(a.out, "  modules  "+visible(k.Modules))
		switch {
		case !k.Verified:
			fmt.Fprintln(a.out, "  WRONG    "+visible(k.Problem))
		case k.Source == kernel.FromCache:
			fmt.Fprintln(a.out, "  verified as installed")
		default:
			fmt.Fprintln(a.out, "  can be read")
		}
	}
	for _, p := range l.Problems {
		fmt.Fprintln(a.out, "cannot be taken: "+visible(p))
	}
	if len(l.Kernels) == 0 {
		fmt.Fprintln(a.out, "no guest kernel is here; fetch one with: lvslab kernel install")
	}
	if l.Cache != "" {
		fmt.Fprintln(a.out, "cache: "+visible(l.Cache))
	}
}

// sourceWords are a kernel's source for a person.
func sourceWords(source string) string {
	switch source {
	case kernel.FromCache:
		return "the cache"
	case kernel.FromSystem:
		return "the system"
	}
	return source
}

// cacheFolder is where kernel.Install puts kernels, a folder for each kind.
func cacheFolder() (string, error) {
	dir, err := kernel.UML.CacheDir(os.Getenv)
	return filepath.Dir(dir), err
}
