package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

// Offer is a kernel that the machine's package sources have.
type Offer struct {
	Kind Kind
	// Package and Version are apt's: "linux-image-6.1.0-47-amd64", "6.1.170-3".
	Package string
	Version string
	// Release is what uname -r will say; of User-Mode Linux only the package
	// knows.
	Release string
	// Backports says that it is from Debian's backports, which the machine need
	// not have among its sources.
	Backports bool

	from apt
}

// Word is the offer's word for `lvslab kernel install` and for --kernel.
func (o Offer) Word() string {
	if o.Release != "" {
		return o.Kind.Word(o.Release)
	}
	return o.Kind.Word(o.Version)
}

// Is says whether which names the offer, as Choose takes it.
func (o Offer) Is(which string) bool {
	return which == "" || which == Debian || begins(o.Release, which) || begins(o.Version, which)
}

// NotOfferedError says that the package sources do not have a kernel.
type NotOfferedError struct {
	Kind  Kind
	Which string
	// Offers are what they have.
	Offers []Offer
}

func (e *NotOfferedError) Error() string {
	offered := "no such kernel at all"
	if all := series(e.Offers); len(all) > 0 {
		offered = strings.Join(all, ", ") + "; `lvslab kernel available` names them all"
	}
	return fmt.Sprintf("the package sources do not offer %s; they offer %s", e.Kind.Word(e.Which), offered)
}

// series are the offers, a word for each series of kernels with its newest.
func series(offers []Offer) []string {
	var all []string
	last := ""
	for _, o := range offers {
		first := seriesName.FindString(cmp.Or(o.Release, o.Version))
		if first == last {
			continue
		}
		last = first
		all = append(all, fmt.Sprintf("%s (%s)", o.Kind.Word(first), cmp.Or(o.Release, o.Version)))
	}
	return all
}

// seriesName is "6.1" of "6.1.0-47-amd64".
var seriesName = regexp.MustCompile(`^\d+\.\d+`)

// Available is what the package sources offer of this kind, the newest first.
// What it does goes to progress, a line each.
func (kd Kind) Available(ctx context.Context, env Env, progress io.Writer) ([]Offer, error) {
	if err := tools(); err != nil {
		return nil, err
	}
	cache, err := kd.CacheDir(env)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	tmp, err := scratch.New(cache, tmpPrefix)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tmp.Remove() }() // what is left is swept by the next one
	return kd.offers(ctx, tmp.Path, progress)
}

// offers asks the machine's own sources, and for kernels of PCs Debian's
// backports too.
func (kd Kind) offers(ctx context.Context, dir string, progress io.Writer) ([]Offer, error) {
	a := apt{dir: dir}
	fmt.Fprintln(progress, "reading the machine's package lists")
	if err := a.run(ctx, "update"); err != nil {
		return nil, err
	}
	all, err := kd.offersOf(ctx, a)
	if err != nil || kd != QEMU {
		return all, err
	}
	list, err := a.backports(ctx)
	if err != nil {
		return nil, err
	}
	if list != "" {
		b, err := a.readBackports(ctx, list, progress)
		var more []Offer
		if err == nil {
			more, err = kd.offersOf(ctx, b)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintf(progress, "no kernels from there: %v\n", err)
		}
		for _, o := range more {
			o.Backports = true
			if !slices.ContainsFunc(all, func(own Offer) bool { return own.Package == o.Package && own.Version == o.Version }) {
				all = append(all, o)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Offer) int {
		return cmp.Or(compareVersions(b.Release, a.Release), compareVersions(b.Version, a.Version))
	})
	return all, nil
}

// imageName is a package of Debian's generic kernel for PCs: not one that depends
// on the newest, nor one of another flavour. Its release is the first group.
var imageName = regexp.MustCompile(`^linux-image-(\d+\.\d+\.\d+(?:-\d+|\+[a-z0-9]+)?-amd64)$`)

func (kd Kind) offersOf(ctx context.Context, a apt) ([]Offer, error) {
	names := []string{umlPackage}
	if kd == QEMU {
		out, err := a.cache(ctx, "pkgnames", "linux-image-")
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(strings.Fields(out), func(n string) bool { return !imageName.MatchString(n) })
		slices.Sort(names)
	}
	if len(names) == 0 {
		return nil, nil
	}
	out, err := a.cache(ctx, append([]string{"madison"}, names...)...)
	if err != nil {
		return nil, err
	}
	var all []Offer
	for line := range strings.Lines(out) {
		o, ok := kd.parseOffer(line)
		if ok && !slices.ContainsFunc(all, func(p Offer) bool { return p.Package == o.Package && p.Version == o.Version }) {
			o.from = a
			all = append(all, o)
		}
	}
	return all, nil
}

// parseOffer reads a line of apt-cache madison (apt-cache(8)):
// "linux-image-6.1.0-47-amd64 | 6.1.170-3 | https://… bookworm/main amd64 Packages".
func (kd Kind) parseOffer(line string) (Offer, bool) {
	f := strings.Split(line, "|")
	if len(f) < 3 || !strings.HasSuffix(strings.TrimSpace(f[2]), "Packages") {
		return Offer{}, false
	}
	o := Offer{Kind: kd, Package: strings.TrimSpace(f[0]), Version: strings.TrimSpace(f[1])}
	if checkVersion(o.Version) != nil {
		return Offer{}, false
	}
	if kd == UML {
		return o, o.Package == umlPackage
	}
	m := imageName.FindStringSubmatch(o.Package)
	if m == nil {
		return Offer{}, false
	}
	o.Release = m[1]
	return o, true
}

// chosen is the newest of the offers that which names, as Choose takes it.
func (kd Kind) chosen(ctx context.Context, dir, which string, progress io.Writer) (Offer, error) {
	all, err := kd.offers(ctx, dir, progress)
	if err != nil {
		return Offer{}, err
	}
	for _, o := range all {
		if o.Is(which) {
			return o, nil
		}
	}
	return Offer{}, &NotOfferedError{kd, which, all}
}

// fetch downloads the offer.
func (o Offer) fetch(ctx context.Context, progress io.Writer) (deb, version string, err error) {
	return o.from.download(ctx, o.Package+"="+o.Version, progress)
}

// errPath says that a kernel that is a file needs no install.
var errPath = errors.New("a kernel that is named by its path is there already: give that path to --kernel")

// readBackports reads the lists of a file of sources.
func (a apt) readBackports(ctx context.Context, list string, progress io.Writer) (apt, error) {
	b := apt{dir: filepath.Join(a.dir, "backports"), list: list}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return b, err
	}
	fmt.Fprintln(progress, "reading the package lists of Debian's backports")
	return b, b.run(ctx, "update")
}
