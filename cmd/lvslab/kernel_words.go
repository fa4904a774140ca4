package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
)

// wordOf is a word for --kernel by which a kernel is taken: the shortest that no
// other kernel here answers to.
func wordOf(k, taken kernel.Kernel) string {
	if k.Image == taken.Image {
		return string(k.Name)
	}
	for _, which := range []string{k.Release, k.Version} {
		if got, err := k.Name.Choose(os.Getenv, which); which != "" && err == nil && got.Image == k.Image {
			return k.Name.Word(which)
		}
	}
	return k.Name.Word(k.Image + ":" + k.Modules)
}

// snapshotDoc are the guests in QEMU that are kept.
type snapshotDoc struct {
	Folder string `json:"folder,omitempty"`
	Count  int    `json:"count"`
	Bytes  int64  `json:"bytes"`
}

func snapshotsHere() snapshotDoc {
	cache, err := kernel.Cache(os.Getenv)
	if err != nil {
		return snapshotDoc{} // the kernels' list tells of it
	}
	s := qemu.SnapshotsOf(cache)
	return snapshotDoc{Folder: s.Dir, Count: s.Count, Bytes: s.Bytes}
}

func (a *app) kernelAvailableCmd() *cobra.Command {
	var format *formatFlag
	c := &cobra.Command{
		Use:   "available [uml|qemu][:VERSION]",
		Short: "List the kernels that the package sources offer",
		Long: `Available reads the lists of the apt sources of this machine, and for --kernel qemu
of Debian's backports, without root and without changing the system's, and names
the kernels that lvslab kernel install can fetch, the newest first. With a version,
it names those that begin so.

Exit status: 0 some are offered, 1 none are, 3 the lists could not be read.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), onlyKernels),
		ValidArgs: kindWords(),
		RunE: func(c *cobra.Command, args []string) error {
			ask := kinds[:]
			_, which := kernelWord(args)
			if len(args) > 0 {
				kind, _ := kernelWord(args)
				ask = []kernel.Kind{kind}
			}
			doc := availableDoc{Version: jsonVersion, Kernels: []availableKernel{}}
			for _, kind := range ask {
				offers, err := kind.Available(c.Context(), os.Getenv, a.err)
				if err != nil {
					return fmt.Errorf("asking what kernels there are: %w", err)
				}
				for _, o := range offers {
					if o.Is(which) {
						_, here := installed(kind, o.Version)
						doc.Kernels = append(doc.Kernels, availableKernel{o.Word(), o.Package, o.Version, o.Backports, here})
					}
				}
			}
			if len(doc.Kernels) == 0 {
				a.exit = 1
			}
			if *format == formatJSON {
				return a.printJSON(doc)
			}
			a.printAvailable(doc)
			return nil
		},
	}
	format = addFormat(c.Flags(), "text or json")
	return c
}

// availableDoc is the document of kernel available --format json.
type availableDoc struct {
	Version int               `json:"version"`
	Kernels []availableKernel `json:"kernels"`
}

type availableKernel struct {
	// Word is what kernel install, and then --kernel, calls it.
	Word    string `json:"word"`
	Package string `json:"package"`
	Version string `json:"package_version"`
	// Backports says that it is from Debian's backports.
	Backports bool `json:"backports"`
	// Installed says that it is in the cache.
	Installed bool `json:"installed"`
}

func (a *app) printAvailable(doc availableDoc) {
	width := 0
	for _, k := range doc.Kernels {
		width = max(width, len(k.Word))
	}
	for _, k := range doc.Kernels {
		line := pad(k.Word, width) + "  " + k.Version
		if k.Backports {
			line += ", backports"
		}
		if k.Installed {
			line += ", installed"
		}
		fmt.Fprintln(a.out, visible(line))
	}
	if len(doc.Kernels) == 0 {
		fmt.Fprintln(a.out, "the package sources offer no such kernel")
		return
	}
	fmt.Fprintln(a.out, "fetch one with: lvslab kernel install "+visible(doc.Kernels[0].Word))
}
