package kernel

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// backports names a file of sources that offers the newest kernel that Debian
// has for this release, or is "" where there is none: schedulers such as twos
// came to Debian's kernels after the release. The mirror is the machine's own.
func (a apt) backports(ctx context.Context) (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", nil //nolint:nilerr // os-release(5) may be missing; then there are none
	}
	codename := ""
	for line := range strings.Lines(string(release)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			codename = strings.Trim(v, `"`)
		}
	}
	out, err := a.output(ctx, "indextargets", "--format", "$(COMPONENT) $(RELEASE) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	mirror := mirrorOf(out, codename)
	if mirror == "" {
		return "", nil
	}
	options := ""
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err == nil {
		options = "[signed-by=" + keyring + "] "
	}
	list := filepath.Join(a.dir, "backports.list")
	return list, os.WriteFile(list, []byte("deb "+options+mirror+" "+codename+"-backports main\n"), 0o600)
}

// mirrorOf is the address that serves Debian's release codename, of lines
// "main CODENAME ADDRESS"; "" if none does. Whose packages they are is known to
// apt only after it has fetched lists, so a mirror is told by its name.
func mirrorOf(lines, codename string) string {
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "main" && f[1] == codename && codename != "" && path.Base(f[2]) == "debian" {
			return f[2]
		}
	}
	return ""
}

// fetchGeneric makes a tree of Debian's generic kernel: the uncompressed kernel
// and the modules that labs and their guest need, in the folders boot and
// lib/modules. It returns the package's version. which may be empty.
func fetchGeneric(ctx context.Context, dir, tree, which string, progress io.Writer) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("the generic kernel is fetched for amd64 machines alone, and this is %s", runtime.GOARCH)
	}
	a := apt{dir: dir}
	deb, version, err := a.image(ctx, which, progress)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(progress, "unpacking "+strings.TrimSuffix(filepath.Base(deb), ".deb"))
	if err := a.unpackGeneric(ctx, deb, tree); err != nil {
		return "", err
	}
	image := filepath.Join(tree, "boot", "vmlinuz")
	if err := a.decompressKernel(ctx, image, filepath.Join(tree, "boot", "vmlinux")); err != nil {
		// It boots all the same, three seconds later.
		fmt.Fprintf(progress, "the kernel stays compressed: %v\n", err)
	} else {
		if err := os.Remove(image); err != nil {
			return "", err
		}
		image = filepath.Join(tree, "boot", "vmlinux")
	}
	found, err := filepath.Glob(filepath.Join(tree, "lib", "modules", "*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("the package %s %s has modules for %d kernels, not one", genericPackage, version, len(found))
	}
	if err := a.decompressModules(ctx, found[0]); err != nil {
		return "", err
	}
	if err := writeModulesDep(found[0]); err != nil {
		return "", err
	}
	return version, QEMU.seal(tree, version, image, found[0])
}

// image downloads the package of a kernel.
func (a apt) image(ctx context.Context, which string, progress io.Writer) (deb, version string, err error) {
	if which == "" {
		return a.newest(ctx, progress)
	}
	o, err := QEMU.chosen(ctx, a.dir, which, progress)
	if err != nil {
		return "", "", err
	}
	return o.fetch(ctx, progress)
}

// newest downloads the newest kernel that there is: from Debian's backports
// where its mirror has them, else from the machine's own sources.
func (a apt) newest(ctx context.Context, progress io.Writer) (deb, version string, err error) {
	fmt.Fprintln(progress, "reading the machine's package lists")
	if err := a.run(ctx, "update"); err != nil {
		return "", "", err
	}
	list, err := a.backports(ctx)
	if err != nil {
		return "", "", err
	}
	if list != "" {
		deb, version, err = a.fromBackports(ctx, list, progress)
		if err == nil || ctx.Err() != nil {
			return deb, version, err
		}
		fmt.Fprintf(progress, "no kernel from there: %v\n", err)
	}
	return a.generic(ctx, progress)
}

func (a apt) fromBackports(ctx context.Context, list string, progress io.Writer) (deb, version string, err error) {
	b, err := a.readBackports(ctx, list, progress)
	if err != nil {
		return "", "", err
	}
	return b.generic(ctx, progress)
}

// generic downloads the package that genericPackage depends on.
func (a apt) generic(ctx context.Context, progress io.Writer) (deb, version string, err error) {
	if deb, _, err = a.download(ctx, genericPackage, progress); err != nil {
		return "", "", err
	}
	depends, err := a.command(ctx, "dpkg-deb", "--field", deb, "Depends")
	if err != nil {
		return "", "", err
	}
	name, err := imagePackage(depends)
	if err != nil {
		return "", "", err
	}
	return a.download(ctx, name, progress)
}

// imagePackage finds the package of a kernel in the field Depends of
// genericPackage (deb-control(7)): "linux-image-6.1.0-56-amd64 (= 6.1.192-2)".
func imagePackage(depends string) (string, error) {
	for d := range strings.FieldsFuncSeq(depends, func(r rune) bool { return r == ',' || r == '|' }) {
		name, _, _ := strings.Cut(strings.TrimSpace(d), " ")
		const allowed = "0123456789abcdefghijklmnopqrstuvwxyz+-." // deb-control(7), Package
		if strings.HasPrefix(name, "linux-image-") && strings.Trim(name, allowed) == "" {
			return name, nil
		}
	}
	return "", fmt.Errorf("the package %s depends on no linux-image-RELEASE, only on %.200q", genericPackage, strings.TrimSpace(depends))
}
