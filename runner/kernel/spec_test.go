package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBegins(t *testing.T) {
	for version, want := range map[string]string{
		"6.1.0-47-amd64":      "6 6.1 6.1. 6.1.0 6.1.0- 6.1.0-47 6.1.0-47-amd64",
		"6.12.95+deb12-amd64": "6 6.12 6.12.95 6.12.95+deb12",
		"6.1um4+b13":          "6.1 6.1um4",
	} {
		for _, prefix := range strings.Fields(want) {
			if !begins(version, prefix) {
				t.Errorf("%s does not begin %s", prefix, version)
			}
		}
		for _, prefix := range []string{"", "6.1.0-4", "6.11", "6.12.9", "1", "6.1um4+b1", version + "x"} {
			if begins(version, prefix) {
				t.Errorf("%s begins %s", prefix, version)
			}
		}
	}
}

func TestCompareVersions(t *testing.T) {
	ordered := []string{"", "5.10.9", "6.1.0-9-amd64", "6.1.0-47-amd64", "6.1.176", "6.9", "6.12", "6.12.95", "6.012.96", "6.100"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := compareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
}

// release makes a bzImage say its release.
func releaseImage(release string) []byte {
	image := make([]byte, 8<<10)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x20e:], 0x1000)
	copy(image[0x1200:], release+" (someone@somewhere) #1 SMP\x00")
	return image
}

func TestReleaseOf(t *testing.T) {
	for name, tt := range map[string]struct {
		image []byte
		want  string
	}{
		"bzImage": {releaseImage("6.1.0-47-amd64"), "6.1.0-47-amd64"},
		"ELF":     {[]byte("\x7fELF...Linux version %s (%s)\x00...Linux version 6.12.95+deb12-amd64 (x)"), "6.12.95+deb12-amd64"},
	} {
		if got, err := releaseOf(tt.image); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	far := releaseImage("6.1")
	binary.LittleEndian.PutUint16(far[0x20e:], 0xffff)
	for name, image := range map[string][]byte{
		"empty": {}, "text": []byte("#!/bin/sh\n"), "ELF": []byte("\x7fELF no kernel"), "far": far,
		"without": releaseImage(""), "long": releaseImage(strings.Repeat("6", 70)), "cut": []byte("\x7fELFLinux version 6.1"),
	} {
		if got, err := releaseOf(image); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzReleaseOf(f *testing.F) {
	f.Add(releaseImage("6.1.0"))
	f.Add([]byte("\x7fELFLinux version 6.1.0 "))
	f.Fuzz(func(t *testing.T, image []byte) {
		if got, err := releaseOf(image); err == nil && (got == "" || strings.ContainsAny(got, "/ \n")) {
			t.Fatalf("%q", got)
		}
	})
}

// cached puts a kernel into a cache.
func cached(t *testing.T, env Env, release, version string) string {
	t.Helper()
	dir, err := QEMU.CacheDir(env)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, version)
	image := filepath.Join(root, "boot", "vmlinux")
	modules := filepath.Join(root, "lib", "modules", release)
	for path, data := range map[string][]byte{image: releaseImage(release), filepath.Join(modules, "modules.dep"): []byte("a.ko:\n")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := QEMU.seal(root, version, image, modules); err != nil {
		t.Fatal(err)
	}
	return image
}

func TestChoose(t *testing.T) {
	vars := map[string]string{"XDG_CACHE_HOME": t.TempDir()}
	env := func(name string) string { return vars[name] }
	var absent *NotInstalledError
	if _, err := QEMU.Choose(env, "debian"); !errors.As(err, &absent) || absent.Fix() != "lvslab kernel install qemu" {
		t.Errorf("%v", err)
	}
	cached(t, env, "6.12.95+deb12-amd64", "6.12.95-1~bpo12+1")
	cached(t, env, "6.1.0-47-amd64", "6.1.170-3")
	cached(t, env, "6.1.0-9-amd64", "6.1.27-1") // the last to come is not the newest
	for which, want := range map[string]string{
		"": "6.12.95+deb12-amd64", "debian": "6.12.95+deb12-amd64", "6": "6.12.95+deb12-amd64", "6.12": "6.12.95+deb12-amd64",
		"6.1": "6.1.0-47-amd64", "6.1.0-9": "6.1.0-9-amd64", "6.1.27": "6.1.0-9-amd64", "6.1.170-3": "6.1.0-47-amd64",
	} {
		if k, err := QEMU.Choose(env, which); err != nil || k.Release != want {
			t.Errorf("%s: %v, %v", which, k, err)
		}
	}
	if _, err := QEMU.Choose(env, "5.10"); !errors.As(err, &absent) || absent.Fix() != "lvslab kernel install qemu:5.10" ||
		err.Error() != "no kernel for qemu:5.10 is installed (installed: 6.12.95+deb12-amd64, 6.1.0-47-amd64, 6.1.0-9-amd64)" {
		t.Errorf("%v", err)
	}
	for _, which := range []string{"debain", "6.1,6.12", "v6.1", " 6.1"} {
		var word *WordError
		if _, err := QEMU.Choose(env, which); !errors.As(err, &word) || !strings.Contains(err.Error(), "qemu:debian") {
			t.Errorf("%s: %v", which, err)
		}
	}
	// A variable names one that has a version as well.
	vars["LVSLAB_QEMU_KERNEL"] = cached(t, func(string) string { return t.TempDir() }, "7.0.1", "7.0.1-1")
	if k, err := QEMU.Choose(env, "7.0"); err != nil || k.Source != FromEnvironmentQEMU {
		t.Errorf("%v, %v", k, err)
	}
}

func TestChoosePath(t *testing.T) {
	env := func(string) string { return "" }
	dir := t.TempDir()
	write := func(path string, data []byte) string {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const release = "9.9.1-test"
	image := write("boot/vmlinuz-"+release, releaseImage(release))
	if _, err := QEMU.Choose(env, image); err == nil || !strings.Contains(err.Error(), "no modules.dep in any of "+dir+"/lib/modules/"+release+", /lib/modules/"+release) {
		t.Errorf("without modules: %v", err)
	}
	beside := filepath.Dir(write("lib/modules/"+release+"/modules.dep", nil))
	other := filepath.Dir(write("other/"+release+"/modules.dep", nil))
	wrong := filepath.Dir(write("other/9.9.2/modules.dep", nil))
	built := filepath.Dir(write("build/modules/modules.dep", nil))
	inside := write("lib/modules/"+release+"/vmlinuz", releaseImage(release))
	t.Chdir(dir)
	for which, want := range map[string]string{
		image: beside, image + ":" + other: other, image + ":" + built: built, inside: beside,
		"./boot/vmlinuz-" + release: beside, "boot/vmlinuz-" + release + ":other/" + release: other,
	} {
		k, err := QEMU.Choose(env, which)
		if err != nil || k.Release != release || k.Modules != want || k.Source != FromOption || !filepath.IsAbs(k.Image) {
			t.Errorf("%s: %+v, %v", which, k, err)
		}
	}
	for which, want := range map[string]string{
		image + ":" + wrong:                     "is Linux 9.9.1-test, and the modules in " + wrong + " are of 9.9.2: modules of another kernel do not load",
		image + ":/nowhere":                     "no modules.dep in /nowhere",
		dir + "/gone":                           "no such file",
		dir:                                     "not a kernel that this user can read",
		write("boot/short", []byte("text")):     "has 4 bytes, which is no kernel",
		write("boot/text", make([]byte, 1<<12)): "neither a bzImage nor an ELF file",
	} {
		if _, err := QEMU.Choose(env, which); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", which, err, want)
		}
	}
	// User-Mode Linux is a program, whose modules say what it is.
	uml := write("usr/bin/linux.uml", nil)
	write("usr/lib/uml/modules/9.9.3/modules.dep", nil)
	if k, err := UML.Choose(env, uml); err != nil || k.Release != "9.9.3" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestParseOffer(t *testing.T) {
	for line, want := range map[string]string{
		"linux-image-6.1.0-47-amd64 | 6.1.170-3 | http://deb.example/debian bookworm/main amd64 Packages\n":                      "qemu:6.1.0-47-amd64 6.1.170-3",
		"linux-image-6.12.95+deb12-amd64 | 6.12.95-1~bpo12+1 | http://deb.example/debian bookworm-backports/main amd64 Packages": "qemu:6.12.95+deb12-amd64 6.12.95-1~bpo12+1",
		"linux-image-6.1.0-47-cloud-amd64 | 6.1.170-3 | http://deb.example/debian bookworm/main amd64 Packages":                  "",
		"linux-image-6.1.0-47-amd64-unsigned | 6.1.170-3 | http://deb.example/debian bookworm/main amd64 Packages":               "",
		"linux-image-6.12-amd64 | 6.12.9-1 | http://deb.example/debian bookworm/main amd64 Packages":                             "",
		"linux-image-amd64 | 6.1.170-3 | http://deb.example/debian bookworm/main amd64 Packages":                                 "",
		"linux-image-6.1.0-47-amd64 | 6.1.170-3 | http://deb.example/debian bookworm/main Sources":                               "",
		"linux-image-6.1.0-47-amd64 | ../etc | http://deb.example/debian bookworm/main amd64 Packages":                           "",
		"nonsense": "", "": "",
	} {
		o, ok := QEMU.parseOffer(line)
		if got := o.Word() + " " + o.Version; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", line, got, ok)
		}
	}
	if o, ok := UML.parseOffer("user-mode-linux | 6.1um4+b13 | http://deb.example/debian bookworm/main amd64 Packages"); !ok || o.Word() != "uml:6.1um4+b13" || !o.Is("6.1") || o.Is("6.12") {
		t.Errorf("%+v, %v", o, ok)
	}
}

func TestNotOffered(t *testing.T) {
	var offers []Offer
	for _, r := range []string{"6.12.117+deb12-amd64", "6.12.95+deb12-amd64", "6.1.0-56-amd64", "6.1.0-47-amd64"} {
		offers = append(offers, Offer{Kind: QEMU, Release: r})
	}
	err := &NotOfferedError{QEMU, "5.10", offers}
	const want = "the package sources do not offer qemu:5.10; they offer qemu:6.12 (6.12.117+deb12-amd64), qemu:6.1 (6.1.0-56-amd64); `lvslab kernel available` names them all"
	if err.Error() != want {
		t.Errorf("%v", err)
	}
	if none := (&NotOfferedError{QEMU, "5.10", nil}).Error(); !strings.Contains(none, "no such kernel at all") {
		t.Error(none)
	}
}

func TestSoften(t *testing.T) {
	m, err := ParseModules([]byte("ip_vs.ko: libcrc32c.ko\nlibcrc32c.ko:\ncrc32c_intel.ko:\ncrc32c_generic.ko:\nround.ko:\n"), []byte("kernel/built.ko\n"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	m.Soften([]byte("# a comment\nsoftdep libcrc32c pre: crc32c built gone post: zlib\nsoftdep round pre: round ip_vs\nsoftdep ip-vs pre: round\nsoftdep\n"), func() []byte {
		asked++
		return []byte("alias crc32c crc32c_intel\nalias crc32c crc32c_generic\n")
	})
	order, err := m.Order("ip_vs")
	if got := fmt.Sprint(order); err != nil || got != "[{round round.ko} {crc32c_generic crc32c_generic.ko} {libcrc32c libcrc32c.ko} {ip_vs ip_vs.ko}]" {
		t.Errorf("%v, %v", order, err)
	}
	if asked != 1 {
		t.Errorf("the aliases were read %d times", asked)
	}
	m.Soften([]byte("softdep libcrc32c pre: crc32c\n"), nil)
	if order, err := m.Order("libcrc32c"); err != nil || len(order) != 1 {
		t.Errorf("without aliases: %v, %v", order, err)
	}
}
