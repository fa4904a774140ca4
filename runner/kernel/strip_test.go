package kernel

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// relocatable compiles a file with debug sections; without a compiler a Go
// object file would do, but none is a relocatable ELF file.
func relocatable(t *testing.T) []byte {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler here to make a file with debug sections")
	}
	dir := t.TempDir()
	src, obj := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.o")
	if err := os.WriteFile(src, []byte("int x; static int y = 3; int f(int a) { return a + x + y; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-g", "-c", "-o", obj, src).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	data, err := os.ReadFile(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestStripDebug(t *testing.T) {
	t.Parallel()
	data := relocatable(t)
	out, err := stripDebug(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) >= len(data) {
		t.Fatalf("%d bytes became %d", len(data), len(out))
	}
	before, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	after, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Sections) != len(after.Sections) {
		t.Fatalf("%d sections became %d; their numbers are referred to", len(before.Sections), len(after.Sections))
	}
	for i, b := range before.Sections {
		a := after.Sections[i]
		if strings.Contains(b.Name, ".debug_") {
			if a.Type != elf.SHT_NULL || a.Size != 0 {
				t.Errorf("section %s is still there: %v", b.Name, a.SectionHeader)
			}
			continue
		}
		if a.Name != b.Name || a.Type != b.Type || a.Flags != b.Flags || a.Link != b.Link || a.Info != b.Info {
			t.Errorf("section %d changed: %v, was %v", i, a.SectionHeader, b.SectionHeader)
		}
		if a.Type == elf.SHT_NOBITS || a.Type == elf.SHT_NULL {
			continue
		}
		want, err := b.Data()
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Data()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || a.Addralign > 1 && a.Offset%a.Addralign != 0 {
			t.Errorf("section %s: its content or alignment changed", b.Name)
		}
	}
	again, err := stripDebug(out)
	if err != nil || !bytes.Equal(again, out) {
		t.Errorf("a second time changes it again (%v)", err)
	}
}

func FuzzStripDebug(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	if exe, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(exe[:4096])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if out, err := stripDebug(data); err == nil {
			if _, err := elf.NewFile(bytes.NewReader(out)); err != nil {
				t.Errorf("what came out is no ELF file: %v", err)
			}
		}
	})
}
