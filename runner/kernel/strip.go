package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// stripModules takes the debug sections out of all modules below a folder, as
// strip --strip-debug of binutils does, which a machine may lack. They are three
// quarters of a module's size, and a guest reads a module page by page through
// hostfs: without them loading the modules of a lab takes half the time.
func stripModules(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".ko" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, err := stripDebug(data)
		if err != nil {
			// What is not understood is left as it is; it loads all the same.
			return nil //nolint:nilerr // see above
		}
		return os.WriteFile(path, out, 0o644)
	})
}

// errNotModule is a file that is no relocatable ELF file of 64 bits.
var errNotModule = errors.New("no 64-bit little-endian relocatable ELF file")

// stripDebug is a relocatable ELF file without the content of its debug
// sections. Their headers stay, as empty ones of type SHT_NULL, so that no
// number of a section changes (elf(5); the kernel's loader passes such over,
// elf_validity_check in kernel/module/main.c).
func stripDebug(data []byte) ([]byte, error) {
	var h elf.Header64
	if len(data) < binary.Size(h) {
		return nil, errNotModule
	}
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	if string(h.Ident[:4]) != elf.ELFMAG || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB || elf.Type(h.Type) != elf.ET_REL {
		return nil, errNotModule
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const headerSize = 64 // sizeof(Elf64_Shdr)
	if h.Shentsize != headerSize || int(h.Shnum) != len(f.Sections) || h.Shoff > uint64(len(data)) ||
		uint64(len(data))-h.Shoff < uint64(h.Shnum)*headerSize {
		return nil, fmt.Errorf("section headers of %d bytes, %d of them, at %d do not fit", h.Shentsize, h.Shnum, h.Shoff)
	}
	sections := make([]elf.Section64, h.Shnum)
	if err := binary.Read(bytes.NewReader(data[h.Shoff:]), binary.LittleEndian, sections); err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(append([]byte(nil), data[:binary.Size(h)]...))
	pad := func(align uint64) {
		for align > 1 && uint64(out.Len())%align != 0 {
			out.WriteByte(0)
		}
	}
	for i := range sections {
		s := &sections[i]
		name := strings.TrimPrefix(f.Sections[i].Name, ".rela") //nolint:misspell // elf(5)
		if strings.HasPrefix(name, ".debug_") && elf.SectionFlag(s.Flags)&elf.SHF_ALLOC == 0 {
			*s = elf.Section64{Name: s.Name}
			continue
		}
		if t := elf.SectionType(s.Type); t == elf.SHT_NULL || t == elf.SHT_NOBITS {
			continue
		}
		if s.Off > uint64(len(data)) || s.Size > uint64(len(data))-s.Off {
			return nil, fmt.Errorf("section %s does not fit", f.Sections[i].Name)
		}
		if s.Addralign > 1<<16 {
			return nil, fmt.Errorf("section %s wants to be aligned to %d", f.Sections[i].Name, s.Addralign)
		}
		pad(s.Addralign)
		at := uint64(out.Len())
		out.Write(data[s.Off : s.Off+s.Size])
		s.Off = at
	}
	pad(8)
	h.Shoff = uint64(out.Len())
	if err := binary.Write(out, binary.LittleEndian, sections); err != nil {
		return nil, err
	}
	var head bytes.Buffer
	if err := binary.Write(&head, binary.LittleEndian, h); err != nil {
		return nil, err
	}
	stripped := out.Bytes()
	copy(stripped, head.Bytes())
	return stripped, nil
}
