package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/topology/source"
)

func (a *app) kernelCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "kernel",
		Short: "Fetch and list the kernels that guests boot",
		Long: `Guests boot User-Mode Linux (--kernel uml) or the generic kernel of PCs in QEMU
(--kernel qemu). Of either there may be several, and a colon chooses one:

  qemu:6.1                     the newest installed whose release or package
                               version begins so
  qemu:debian                  the newest that kernel install has fetched
  qemu:/path/to/vmlinuz        any other: its modules are in ../lib/modules or
                               /lib/modules, or in a folder behind another colon
                               (qemu:/path/to/vmlinuz:/path/to/modules)

QEMU runs guests by KVM where one has booted so: the first guest tries that for five
seconds, and what came of it is remembered. LVSLAB_KVM=0 has the processor emulated,
LVSLAB_KVM=1 has KVM untried. A guest that has booted is kept in the cache as it was
before it became this one, 100 MB, and the next ones start from there in under a
second, with a clock and random numbers of their own. LVSLAB_SNAPSHOT=0 has none kept
or used. Of either, lvslab run --verbose and lvslab doctor tell.`,
		Example: `  lvslab kernel install             fetch one into your cache, without root
  lvslab kernel install qemu        one with more in it, for --kernel qemu
  lvslab kernel available           those that the package sources offer
  lvslab kernel install qemu:6.1    one of them, for --kernel qemu:6.1
  lvslab kernel list                those that are here, and their words for --kernel`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(c, args[0])
			}
			return c.Help()
		},
	}
	c.AddCommand(a.kernelInstallCmd(), a.kernelListCmd(), a.kernelAvailableCmd())
	return c
}

func (a *app) kernelInstallCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "install [uml|qemu][:VERSION]",
		Short: "Fetch a kernel of Debian's into your cache, without root",
		Long: `Install downloads a kernel from the apt sources of this machine, unpacks it into
the cache of the user, and verifies it: User-Mode Linux (the package
user-mode-linux), or for --kernel qemu the generic kernel (linux-image-amd64,
from Debian's backports where the mirror has them). It needs apt-get and dpkg and
no root, and changes nothing of the system. Where a kernel is in the cache
already, it does nothing. QEMU itself is not fetched: that takes root.

With a version, or the beginning of one, it is the newest kernel whose release or
package version begins so: qemu:6.1, qemu:6.12, qemu:6.1.0-47-amd64. Those that
there are lvslab kernel available lists. Several live side by side in the cache,
and --kernel takes the same words; --kernel qemu takes the newest.

LVSLAB_UML=/path/to/linux.uml names another kernel and wins over the cache, and so
does LVSLAB_QEMU_KERNEL=/path/to/vmlinuz.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), onlyKernels),
		ValidArgs: kindWords(),
		RunE: func(c *cobra.Command, args []string) error {
			kind, which := kernelWord(args)
			k, there := installed(kind, which)
			if there && !force {
				fmt.Fprintf(a.out, "already installed: %s in %s (--force fetches it again)\n", k, filepath.Dir(k.Image))
			} else {
				var err error
				if k, err = kind.InstallWhich(c.Context(), os.Getenv, which, a.err); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s is ready: %s\n", k, k.Image)
			}
			if image := os.Getenv(kind.Variable()); image != "" && which == "" {
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

// kernelWord takes an argument apart: the kind, and which kernel of it.
func kernelWord(args []string) (kind kernel.Kind, which string) {
	if len(args) == 0 {
		return kernel.UML, ""
	}
	word, which, _ := strings.Cut(args[0], ":")
	return kernel.Kind(word), which
}

// onlyKernels holds an argument to the kernels that packages can have.
func onlyKernels(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	kind, which := kernelWord(args)
	if !slices.Contains(kinds[:], kind) {
		return usageError{errors.New(source.Unknown("kernel", string(kind), kindWords()))}
	}
	if strings.Contains(which, "/") {
		return usageError{fmt.Errorf("%s: a kernel that is a file needs no install: --kernel %[1]s boots it", args[0])}
	}
	if err := kernel.CheckWord(kind, which); err != nil {
		return usageError{err}
	}
	return nil
}

// kindWords are the words of the kinds.
func kindWords() []string {
	var words []string
	for _, k := range kinds {
		words = append(words, string(k))
	}
	return words
}

// kinds are those of kernels, the preferred first.
var kinds = [...]kernel.Kind{kernel.UML, kernel.QEMU}

// installed is the kernel of the cache that which names, and whether it is sound.
func installed(kind kernel.Kind, which string) (kernel.Kernel, bool) {
	if which == "" {
		which = kernel.Debian
	}
	k, err := kind.Choose(os.Getenv, which) // what is wrong with others is for list
	if err != nil || k.Source != kernel.FromCache {
		return kernel.Kernel{}, false
	}
	return k, kernel.Verify(k) == nil
}

func (a *app) kernelListCmd() *cobra.Command {
	var format *formatFlag
	var key bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the kernels that are here, the ones that are taken first",
		Long: `List names every kernel that guests could boot and verifies it: a kernel of the
cache by its SHA-256, one from elsewhere by reading it. The first of each kind,
uml and qemu, is the one that is taken. LVSLAB_UML=/path/to/linux.uml and
LVSLAB_QEMU_KERNEL=/path/to/vmlinuz come before the cache, the newest of the cache
before the system's own. Each has its word for --kernel.

The last line tells of the guests in QEMU that are kept, so that the next ones
start in under a second: LVSLAB_SNAPSHOT=0 has none kept.

The cache key is by what CI keeps the cache: it changes with the kernels in it.
With --cache-key it is all that is printed, as key=…, with prefix=…, which begins
every key of use on such a machine (for a job that has no kernel yet), and path=…,
the folder to keep: as GitHub takes them in $GITHUB_OUTPUT.

Exit status: 0 there is a kernel and all are sound, 1 otherwise; with --cache-key
0, even if there is none.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if key {
				if c.Flags().Changed("format") {
					return usageError{errors.New("--cache-key has a format of its own; --format json has the key, too, in cache_key")}
				}
				return a.printKey()
			}
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
	c.Flags().BoolVar(&key, "cache-key", false, "print the key of the cache for CI, and nothing else")
	return c
}

// kernelList is the document of kernel list --format json.
type kernelList struct {
	Version int `json:"version"`
	// Cache is the folder that install fills.
	Cache string `json:"cache,omitempty"`
	// CacheKey is by what CI keeps that folder.
	CacheKey *cacheKey      `json:"cache_key,omitempty"`
	Kernels  []listedKernel `json:"kernels"`
	// Snapshots are the guests in QEMU that are kept.
	Snapshots snapshotDoc `json:"snapshots"`
	// Problems are what is wrong with kernels that cannot be taken.
	Problems []string `json:"problems"`
}

type listedKernel struct {
	Name string `json:"name"`
	// Word is what --kernel calls it.
	Word    string `json:"word"`
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
	release := osRelease()
	if key, err := cachedKernels(release); err == nil { // an error of it is the cache's, told above
		l.CacheKey = &key
	}
	release.Close()
	for _, kind := range kinds {
		l.add(kind)
	}
	l.Snapshots = snapshotsHere()
	return l
}

func (l *kernelList) add(kind kernel.Kind) {
	taken, _ := kind.Find(os.Getenv) // an error of it is among List's
	all, problems := kind.List(os.Getenv)
	for _, k := range all {
		lk := listedKernel{
			Name: string(k.Name), Word: wordOf(k, taken), Release: k.Release, Package: k.Version, Source: k.Source,
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
		fmt.Fprintln(a.out, "  word     --kernel "+visible(k.Word))
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
	if l.CacheKey != nil {
		fmt.Fprintln(a.out, "cache key: "+visible(l.CacheKey.Key))
	}
	if s := l.Snapshots; s.Count > 0 {
		fmt.Fprintf(a.out, "snapshots: %d, %d MB; to remove them is harmless: rm -r %s\n", s.Count, s.Bytes>>20, shellWord(visible(s.Folder)))
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
