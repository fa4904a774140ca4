package qemu

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/machine"
)

// stageModules are the modules for the root and for the line to the host.
var stageModules = []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p"}

// initramfs makes the first root of a guest: this program as /init, and the
// modules that it loads before it can mount the host's files. It is a file of
// memory, which nobody else sees and which vanishes with its last user.
func initramfs(k kernel.Kernel, self string) (*os.File, error) {
	if err := static(self); err != nil {
		return nil, err
	}
	order, err := stageOrder(k)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("lvslab-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making room for an initramfs: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	if err := writeStage(f, k, order, self); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("making the guest's initramfs: %w", err)
	}
	return f, nil
}

// stageOrder is what the guest's init loads, in that order.
func stageOrder(k kernel.Kernel) ([]kernel.Module, error) {
	all, err := k.ReadModules()
	if err != nil {
		return nil, err
	}
	order, err := all.Order(stageModules...)
	if err != nil {
		return nil, fmt.Errorf("%s cannot boot by 9p and virtio: %w", k, err)
	}
	return order, nil
}

// static makes sure that a program needs no other file, as the first root of the
// guest has none.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is to be the guest's init: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is to be the guest's init and is not static: build it with CGO_ENABLED=0 and without -race", path)
		}
	}
	return nil
}

func writeStage(f io.Writer, k kernel.Kernel, order []kernel.Module, self string) error {
	w := bufio.NewWriterSize(f, 1<<20)
	c := cpio{w: w}
	c.folder(machine.StageModules[1:])
	for i, m := range order {
		name := fmt.Sprintf("%s/%03d-%s", machine.StageModules[1:], i, filepath.Base(m.Path))
		if err := c.file(name, filepath.Join(k.Modules, m.Path), 0o644); err != nil {
			return err
		}
	}
	if err := c.file("init", self, 0o755); err != nil {
		return err
	}
	c.end()
	if c.err != nil {
		return c.err
	}
	return w.Flush()
}

// cpio writes an archive of the form newc, which an initramfs has
// (Documentation/driver-api/early-userspace/buffer-format.rst of Linux). The
// first error of a write stays in err.
type cpio struct {
	w   io.Writer
	ino int
	err error
}

func (c *cpio) folder(name string) { c.entry(name, unix.S_IFDIR|0o755, nil) }

func (c *cpio) file(name, path string, mode uint32) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c.entry(name, unix.S_IFREG|mode, data)
	return c.err
}

func (c *cpio) end() { c.entry("TRAILER!!!", 0, nil) }

func (c *cpio) entry(name string, mode uint32, data []byte) {
	c.ino++
	const uid, gid, links, mtime, devMajor, devMinor, rdevMajor, rdevMinor, check = 0, 0, 1, 0, 0, 0, 0, 0, 0
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, uid, gid, links, mtime, len(data), devMajor, devMinor, rdevMajor, rdevMinor, len(name)+1, check, name)
	c.padded([]byte(head))
	c.padded(data)
}

// padded writes data and zeroes up to the next multiple of four.
func (c *cpio) padded(data []byte) {
	for _, part := range [][]byte{data, bytes.Repeat([]byte{0}, -len(data)&3)} {
		if c.err == nil {
			_, c.err = c.w.Write(part)
		}
	}
}
