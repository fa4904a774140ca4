package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// FromOption is the source of a kernel whose path was named: --kernel
// qemu:/path/to/vmlinuz.
const FromOption = "--kernel"

// Debian is the word for the newest of the kernels that Install put into the
// cache.
const Debian = "debian"

// NotInstalledError says that no installed kernel is the one that was asked for.
type NotInstalledError struct {
	Kind Kind
	// Which was asked for: "6.1", or Debian.
	Which string
	// Here are the releases of those that are installed.
	Here []string
}

func (e *NotInstalledError) Error() string {
	here := ""
	if len(e.Here) > 0 {
		here = " (installed: " + strings.Join(e.Here, ", ") + ")"
	}
	return "no kernel for " + e.Kind.Word(e.Which) + " is installed" + here
}

// Fix is the command that installs it.
func (e *NotInstalledError) Fix() string {
	if e.Which == Debian {
		return e.Kind.InstallCommand()
	}
	return "lvslab kernel install " + e.Kind.Word(e.Which)
}

// WordError says that a word names no kernel, whatever is installed.
type WordError struct {
	Kind  Kind
	Which string
}

func (e *WordError) Error() string {
	return fmt.Sprintf("%s:%s is not understood: wanted %s (the newest installed), a version such as %s, or a path such as %s (with :/path/to/modules behind it, where they are not beside it)",
		e.Kind, e.Which, e.Kind.Word(Debian), e.Kind.Word("6.1"), e.Kind.Word("/path/to/"+e.Kind.imageName()))
}

func (kd Kind) imageName() string {
	if kd == QEMU {
		return "vmlinuz"
	}
	return umlImage
}

// Word is a kernel's word for --kernel: "qemu:6.1", or "qemu" where which is
// empty.
func (kd Kind) Word(which string) string {
	if which == "" {
		return string(kd)
	}
	return string(kd) + ":" + which
}

// CheckWord says whether which can name a kernel at all; the error is a
// *WordError. What it may be is Choose's.
func CheckWord(kd Kind, which string) error {
	isVersion := which != "" && which[0] >= '0' && which[0] <= '9' && !strings.ContainsAny(which, ", \t\n")
	if which == "" || which == Debian || strings.Contains(which, "/") || isVersion {
		return nil
	}
	return &WordError{kd, which}
}

// Choose is the kernel that which names:
//   - "" is what Find takes;
//   - "debian" is the newest that Install put into the cache;
//   - "6.1", "6.1.0-49-amd64" or "6.1.176-1" is the newest installed one whose
//     release or package version begins so, to the end of a number;
//   - "/path/to/vmlinuz", with a slash in it, is that file. Its modules are
//     sought beside it, as packages have them, and in /lib/modules, or are in
//     the folder whose path follows behind another colon.
//
// The error is a *NotInstalledError where such a kernel could be installed, and a
// *WordError where which names none.
func (kd Kind) Choose(env Env, which string) (Kernel, error) {
	if err := CheckWord(kd, which); err != nil {
		return Kernel{}, err
	}
	switch {
	case which == "":
		return kd.Find(env)
	case strings.Contains(which, "/"):
		return kd.fromPath(which)
	}
	all, problems := kd.listCache(env)
	if which == Debian && len(all) > 0 {
		return all[0], nil
	}
	if which != Debian {
		all, problems = kd.List(env)
		slices.SortStableFunc(all, func(a, b Kernel) int { return compareVersions(b.Release, a.Release) })
	}
	none := &NotInstalledError{Kind: kd, Which: which}
	for _, k := range all {
		if which != Debian && (begins(k.Release, which) || begins(k.Version, which)) {
			return k, nil
		}
		none.Here = append(none.Here, k.Release)
	}
	return Kernel{}, errors.Join(append([]error{none}, problems...)...)
}

// begins reports whether a version begins with a prefix that does not end within
// a number: 6.1 begins 6.1.176 and not 6.12.
func begins(version, prefix string) bool {
	rest, ok := strings.CutPrefix(version, prefix)
	return ok && prefix != "" && (rest == "" || !isDigit(rest[0]) || !isDigit(prefix[len(prefix)-1]))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// compareVersions compares the numbers in two versions, and what is between them
// as text: 6.9 comes before 6.12, and 6.12~rc1 after 6.12 (which is good enough
// for a choice among kernels).
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = run(a)
		y, b = run(b)
		if c := compareRuns(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// run cuts the first run of digits, or of anything else, off a version.
func run(s string) (first, rest string) {
	i := 1
	for i < len(s) && isDigit(s[i]) == isDigit(s[0]) {
		i++
	}
	return s[:i], s[i:]
}

func compareRuns(x, y string) int {
	if isDigit(x[0]) && isDigit(y[0]) {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
	}
	return strings.Compare(x, y)
}

// fromPath is the kernel of a file, with modules of the folder behind a colon.
func (kd Kind) fromPath(which string) (Kernel, error) {
	image, modules := which, ""
	if _, err := os.Stat(which); err != nil {
		if i := strings.LastIndexByte(which, ':'); i > 0 && strings.Contains(which[i:], "/") {
			image, modules = which[:i], which[i+1:]
		}
	}
	image, err := filepath.Abs(image)
	if err != nil {
		return Kernel{}, err
	}
	if err := kd.checkImage(image); err != nil {
		return Kernel{}, err
	}
	release := ""
	if kd == QEMU {
		if release, err = imageRelease(image); err != nil {
			return Kernel{}, err
		}
	}
	folders := kd.moduleFolders(image, release)
	if modules != "" {
		if modules, err = filepath.Abs(modules); err != nil {
			return Kernel{}, err
		}
		folders = []string{modules}
	}
	for _, folder := range folders {
		k, err := kd.locate(image, folder, FromOption)
		switch {
		case err != nil && modules != "":
			return Kernel{}, err
		case err != nil:
			continue
		}
		if release == "" {
			return k, nil
		}
		if k.Release != release && filepath.Base(k.Modules) != "modules" {
			return Kernel{}, fmt.Errorf("%s is Linux %s, and the modules in %s are of %s: modules of another kernel do not load", image, release, k.Modules, k.Release)
		}
		k.Release = release
		return k, nil
	}
	return Kernel{}, fmt.Errorf("%s: no modules.dep in any of %s: name the folder behind another colon, %s:/path/to/modules", image, strings.Join(folders, ", "), kd.Word(image))
}

// moduleFolders are where the modules of a kernel may be, the likeliest first.
func (kd Kind) moduleFolders(image, release string) []string {
	dir := filepath.Dir(image)
	if kd == UML {
		return []string{filepath.Join(dir, kd.modulesBeside()), systemModules}
	}
	folders := []string{filepath.Join(dir, kd.modulesBeside(), release), filepath.Join("/lib/modules", release)}
	// Some have the kernel among its modules: /lib/modules/RELEASE/vmlinuz.
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); !errors.Is(err, fs.ErrNotExist) {
		folders = append([]string{dir}, folders...)
	}
	return slices.Compact(folders)
}
