package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept are the folders of modules that labs, and the guest that they run in, can
// have a use for, below lib/modules/RELEASE/kernel. The rest, nine tenths, are
// drivers of hardware.
var kept = []string{
	"arch/x86/crypto/", "crypto/", "lib/", "net/",
	"drivers/virtio/", "drivers/char/", "drivers/net/bonding/", "drivers/net/ipvlan/", "drivers/net/team/", "drivers/net/vxlan/", "drivers/net/wireguard/",
	"fs/9p/", "fs/fscache/", "fs/netfs/", "fs/overlayfs/", "fs/nfs/", "fs/nfs_common/", "fs/nfsd/", "fs/lockd/", "fs/fuse/", "fs/configfs/",
}

// largest bounds one file of a package, in bytes.
const largest = 256 << 20

// unpackGeneric writes the parts of a kernel's package that are kept into tree:
// boot/vmlinuz and lib/modules/RELEASE.
func (a apt) unpackGeneric(ctx context.Context, deb, tree string) error {
	return a.stream(ctx, func(r io.Reader) error {
		t := tar.NewReader(r)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			name := wanted(h.Name)
			if name == "" || h.Typeflag != tar.TypeReg {
				continue
			}
			if h.Size > largest {
				return fmt.Errorf("%s has %d bytes, more than any part of a kernel", h.Name, h.Size)
			}
			if err := writeFile(filepath.Join(tree, name), t); err != nil {
				return err
			}
		}
	}, "dpkg-deb", "--fsys-tarfile", deb)
}

// wanted is where a file of the package goes, or "" for one that is not kept. It
// never leads out of the tree.
func wanted(name string) string {
	name = strings.TrimPrefix(name, "./")
	if !filepath.IsLocal(name) {
		return ""
	}
	if v, ok := strings.CutPrefix(name, "boot/vmlinuz-"); ok && !strings.Contains(v, "/") {
		return "boot/vmlinuz"
	}
	name = strings.TrimPrefix(name, "usr/")
	rest, ok := strings.CutPrefix(name, "lib/modules/")
	if !ok {
		return ""
	}
	_, rest, _ = strings.Cut(rest, "/")
	if rest == "modules.builtin" {
		return name
	}
	rest, ok = strings.CutPrefix(rest, "kernel/")
	if !ok || !strings.Contains(rest, ".ko") {
		return ""
	}
	if below, ok := strings.CutPrefix(rest, "drivers/net/"); ok && !strings.Contains(below, "/") {
		return name // veth, dummy, macvlan and the like
	}
	for _, dir := range kept {
		if strings.HasPrefix(rest, dir) {
			return name
		}
	}
	return ""
}

func writeFile(path string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// stream runs a program and has its standard output read to the end.
func (a apt) stream(ctx context.Context, read func(io.Reader) error, name string, args ...string) error {
	// Pdeathsig counts from the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TMPDIR="+a.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = read(out)
	if err == nil {
		// What follows the end of an archive is padding.
		_, err = io.Copy(io.Discard, out)
	} else {
		_ = cmd.Process.Kill()
	}
	werr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%s %s: %w", name, args[len(args)-1], err)
	case werr != nil:
		return fmt.Errorf("%s %s: %w: %.1000s", name, args[len(args)-1], werr, strings.TrimSpace(errs.String()))
	}
	return nil
}
