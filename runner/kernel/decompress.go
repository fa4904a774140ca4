package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// formats are those of compressed files by how they begin, and the ending by
// which dpkg-deb knows each (deb(5)).
var formats = []struct{ magic, ending string }{
	{"\xfd7zXZ\x00", "xz"},
	{"\x28\xb5\x2f\xfd", "zst"},
	{"\x1f\x8b", "gz"},
}

// decompress writes to path what data is the compressed form of. A machine with
// dpkg can decompress whatever packages are compressed with, while it may lack
// the programs xz and zstd: so the data is handed to dpkg-deb as the content of
// a package, which it writes as it is.
func (a apt) decompress(ctx context.Context, data []byte, path string) error {
	ending := ""
	for _, f := range formats {
		if bytes.HasPrefix(data, []byte(f.magic)) {
			ending = f.ending
		}
	}
	if ending == "" {
		return fmt.Errorf("compressed in a way that is not known here: it begins with % x", data[:min(len(data), 6)])
	}
	deb := path + ".deb"
	defer os.Remove(deb)
	if err := os.WriteFile(deb, packageOf(ending, data), 0o600); err != nil {
		return err
	}
	return a.stream(ctx, func(r io.Reader) error { return writeFile(path, io.LimitReader(r, largest)) }, "dpkg-deb", "--fsys-tarfile", deb)
}

// packageOf is a package (deb(5)) with this content: an archive of ar's.
func packageOf(ending string, data []byte) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", nil}, {"data.tar." + ending, data}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// decompressKernel takes the kernel itself, an ELF file, out of a bzImage. QEMU
// boots it in a third of the time: nothing is slower in an emulated processor
// than to decompress.
func (a apt) decompressKernel(ctx context.Context, image, to string) error {
	data, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	payload, err := payloadOf(data)
	if err != nil {
		return err
	}
	if err := a.decompress(ctx, payload, to); err != nil {
		return err
	}
	f, err := elf.Open(to)
	if err != nil {
		_ = os.Remove(to)
		return fmt.Errorf("what was compressed in it is no kernel: %w", err)
	}
	return f.Close()
}

// payloadOf is the compressed kernel in a bzImage, by the header that
// Documentation/arch/x86/boot.rst of Linux describes, version 2.08 or later.
func payloadOf(image []byte) ([]byte, error) {
	const (
		setupSects    = 0x1f1 // sectors of 512 bytes before the kernel, less one; 0 means 4
		magic         = 0x202
		payloadOffset = 0x248
		payloadLength = 0x24c
		headerEnd     = 0x250
	)
	if len(image) < headerEnd || string(image[magic:magic+4]) != "HdrS" {
		return nil, errors.New("no bzImage")
	}
	sectors := int64(image[setupSects])
	if sectors == 0 {
		sectors = 4
	}
	begin := (sectors+1)*512 + int64(binary.LittleEndian.Uint32(image[payloadOffset:]))
	end := begin + int64(binary.LittleEndian.Uint32(image[payloadLength:]))
	// The last four bytes are the size of what is compressed.
	if end-4 <= begin || end > int64(len(image)) {
		return nil, fmt.Errorf("a bzImage of %d bytes whose content is from %d to %d", len(image), begin, end)
	}
	return image[begin : end-4], nil
}

// decompressModules turns all modules below a folder into plain .ko files, which
// load faster, and whose dependencies can be read.
func (a apt) decompressModules(ctx context.Context, dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko.") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	work := make(chan string)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for path := range work {
				if oerr := a.decompressModule(ctx, path); oerr != nil {
					mu.Lock()
					err = errors.Join(err, oerr)
					mu.Unlock()
				}
			}
		})
	}
	for _, path := range paths {
		if ctx.Err() != nil {
			break
		}
		work <- path
	}
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (a apt) decompressModule(ctx context.Context, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	plain := path[:strings.LastIndex(path, ".ko.")+len(".ko")]
	if err := a.decompress(ctx, data, plain); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return os.Remove(path)
}
