package kernel

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fetchUML makes a tree of Debian's User-Mode Linux, in dir, and returns the
// package's version. which may be empty.
func fetchUML(ctx context.Context, dir, tree, which string, progress io.Writer) (string, error) {
	a := apt{dir: dir}
	deb, version, err := a.uml(ctx, which, progress)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(progress, "unpacking "+umlPackage+" "+version)
	if _, err := a.command(ctx, "dpkg", "-x", deb, tree); err != nil {
		return "", err
	}
	if err := os.RemoveAll(filepath.Join(tree, "usr", "share")); err != nil {
		return "", err
	}
	return version, UML.seal(tree, version, filepath.Join(tree, "usr", "bin", umlImage), filepath.Join(tree, "usr", "lib", "uml", "modules"))
}

// uml downloads the package.
func (a apt) uml(ctx context.Context, which string, progress io.Writer) (deb, version string, err error) {
	if which != "" {
		o, err := UML.chosen(ctx, a.dir, which, progress)
		if err != nil {
			return "", "", err
		}
		return o.fetch(ctx, progress)
	}
	fmt.Fprintln(progress, "reading the machine's package lists")
	if err := a.run(ctx, "update"); err != nil {
		return "", "", err
	}
	return a.download(ctx, umlPackage, progress)
}

// download fetches one package, and returns its file and version.
func (a apt) download(ctx context.Context, name string, progress io.Writer) (deb, version string, err error) {
	fmt.Fprintln(progress, "downloading "+name)
	before, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil {
		return "", "", err
	}
	for _, old := range before {
		if err := os.Remove(old); err != nil {
			return "", "", err
		}
	}
	if err := a.run(ctx, "download", name); err != nil {
		return "", "", err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", "", fmt.Errorf("apt-get download left %d packages in %s, not one", len(debs), a.dir)
	}
	if version, err = a.command(ctx, "dpkg-deb", "--field", debs[0], "Version"); err != nil {
		return "", "", err
	}
	version = strings.TrimSpace(version)
	return debs[0], version, checkVersion(version)
}
