package qemu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/topology"
)

// TestCpio reads back what was written, by the form's description.
func TestCpio(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := cpio{w: &b}
	c.folder("modules")
	if err := c.file("init", path, 0o755); err != nil {
		t.Fatal(err)
	}
	c.end()
	var got []string
	for rest := b.Bytes(); len(rest) > 0; {
		var fields [13]int
		if string(rest[:6]) != "070701" {
			t.Fatalf("magic %q", rest[:6])
		}
		for i := range fields {
			if _, err := fmt.Sscanf(string(rest[6+8*i:14+8*i]), "%x", &fields[i]); err != nil {
				t.Fatal(err)
			}
		}
		const mode, size, nameSize = 1, 6, 11
		up := func(n int) int { return (n + 3) &^ 3 }
		name := strings.TrimSuffix(string(rest[110:110+fields[nameSize]]), "\x00")
		data := rest[up(110+fields[nameSize]):]
		got = append(got, fmt.Sprintf("%s %o %q", name, fields[mode], data[:fields[size]]))
		rest = data[up(fields[size]):]
	}
	want := `[modules 40755 "" init 100755 "hello" TRAILER!!! 0 ""]`
	if fmt.Sprint(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := c.file("gone", filepath.Join(dir, "gone"), 0o644); err == nil {
		t.Error("a file that is not there")
	}
}

func TestCan(t *testing.T) {
	modules := t.TempDir()
	if err := os.WriteFile(filepath.Join(modules, "modules.dep"), []byte("a/ip_vs.ko:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k := kernel.Kernel{Name: kernel.QEMU, Release: "9.9", Image: "/kernel", Modules: modules}
	env := func(string) string { return "" }
	named := func(f topology.Feature) [][]string { return [][]string{{string(f)}} }
	b := &Backend{Config: Config{Kernel: k, Program: "/qemu"}, Env: env, Modules: named}
	if a := b.Can(t.Context(), []topology.Feature{"ip_vs", "program:nginx"}); a.Verdict != runner.Yes {
		t.Errorf("%+v", a)
	}
	a := b.Can(t.Context(), []topology.Feature{"ip_vs", "ip_vs_twos"})
	if a.Verdict != runner.No || !a.Partly || fmt.Sprint(a.Lacks) != "[ip_vs_twos]" || a.Why != "Linux 9.9 lacks ip_vs_twos" {
		t.Errorf("%+v", a)
	}
	// Without QEMU, and without a kernel, the commands that bring them.
	t.Setenv("PATH", t.TempDir())
	b = &Backend{Env: func(name string) string { return map[string]string{"XDG_CACHE_HOME": modules}[name] }, Modules: named}
	a = b.Can(t.Context(), nil)
	if a.Verdict != runner.No || a.Partly || fmt.Sprint(a.Fix) != "[sudo apt-get install --no-install-recommends qemu-system-x86 lvslab kernel install qemu]" {
		t.Errorf("%+v", a)
	}
	if _, err := (&Backend{Config: Config{Kernel: k}, Env: env}).Boot(t.Context()); err == nil || !strings.Contains(err.Error(), InstallProgram) {
		t.Errorf("booting without QEMU: %v", err)
	}
}
