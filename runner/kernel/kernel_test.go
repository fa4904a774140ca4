package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/runner/kernel"
)

// env is an environment of its own, with the real PATH.
func env(vars map[string]string) kernel.Env {
	return func(name string) string { return vars[name] }
}

// fakeKernel makes a tree as the package has it.
func fakeKernel(t *testing.T, root string, releases ...string) (image string) {
	t.Helper()
	image = filepath.Join(root, "usr", "bin", "linux.uml")
	write(t, image, "image", 0o755)
	for _, r := range releases {
		write(t, filepath.Join(root, "usr", "lib", "uml", "modules", r, "modules.dep"), "a.ko:\n", 0o644)
	}
	return image
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestFindFromEnvironment(t *testing.T) {
	root := t.TempDir()
	image := fakeKernel(t, root, "6.1.0")
	k, err := kernel.Find(env(map[string]string{"LVSLAB_UML": image}))
	if err != nil || k.Release != "6.1.0" || k.Image != image || k.Source != kernel.FromEnvironment {
		t.Errorf("%+v, %v", k, err)
	}
	if err := kernel.Verify(k); err != nil {
		t.Error(err)
	}
	two := t.TempDir()
	image2 := fakeKernel(t, two, "1", "2")
	for name, tt := range map[string]struct {
		vars map[string]string
		want string
	}{
		"missing":      {map[string]string{"LVSLAB_UML": "/no/such"}, "no such file"},
		"no program":   {map[string]string{"LVSLAB_UML": filepath.Join(root, "usr/lib/uml/modules/6.1.0/modules.dep")}, "not a program"},
		"folder":       {map[string]string{"LVSLAB_UML": root}, "not a program"},
		"no modules":   {map[string]string{"LVSLAB_UML": image, "LVSLAB_UML_MODULES": "/no/such"}, "no modules.dep in /no/such"},
		"many modules": {map[string]string{"LVSLAB_UML": image2}, "several kernels (1, 2)"},
	} {
		if _, err := kernel.Find(env(tt.vars)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, err = kernel.Find(env(map[string]string{"LVSLAB_UML": image2, "LVSLAB_UML_MODULES": filepath.Join(two, "usr/lib/uml/modules/2")}))
	if err != nil || k.Release != "2" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestFindNothing(t *testing.T) {
	if _, err := os.Stat("/usr/bin/linux.uml"); err == nil {
		t.Skip("this machine has a kernel of its own")
	}
	_, err := kernel.Find(env(map[string]string{"XDG_CACHE_HOME": t.TempDir()}))
	if !errors.Is(err, kernel.ErrNone) {
		t.Errorf("got %v", err)
	}
}

// fakeTools puts an apt-get and a dpkg on PATH that make a package of a shell
// script's.
func fakeTools(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	write(t, filepath.Join(bin, "apt-get"), `#!/bin/sh
for last; do :; done
case "$last" in
update) [ -z "$FAKE_UPDATE" ] || { echo "E: $FAKE_UPDATE" >&2; exit 100; };;
*) : >user-mode-linux_1.deb;;
esac
`, 0o755)
	write(t, filepath.Join(bin, "apt-cache"), `#!/bin/sh
case "$*" in
*madison*) echo "user-mode-linux | ${FAKE_VERSION:-6.1um+b1} | http://deb.example/debian bookworm/main amd64 Packages";;
esac
`, 0o755)
	write(t, filepath.Join(bin, "dpkg-deb"), "#!/bin/sh\necho ${FAKE_VERSION:-6.1um+b1}\n", 0o755)
	write(t, filepath.Join(bin, "dpkg"), `#!/bin/sh
mkdir -p $3/usr/bin $3/usr/lib/uml/modules/6.1.9 $3/usr/share/doc
[ -n "$FAKE_EMPTY" ] || echo image >$3/usr/bin/linux.uml
chmod +x $3/usr/bin/linux.uml
echo a.ko: >$3/usr/lib/uml/modules/6.1.9/modules.dep
`, 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func install(e kernel.Env) (kernel.Kernel, error) {
	return kernel.Install(context.Background(), e, &bytes.Buffer{})
}

func TestInstall(t *testing.T) {
	fakeTools(t)
	cache := t.TempDir()
	e := env(map[string]string{"XDG_CACHE_HOME": cache})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			k, err := install(e)
			if err != nil || k.Version != "6.1um+b1" || k.Release != "6.1.9" || k.Source != kernel.FromCache {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
	wg.Wait()
	left, err := os.ReadDir(filepath.Join(cache, "lvslab", "kernels", "uml"))
	if err != nil || len(left) != 1 || left[0].Name() != "6.1um+b1" {
		t.Errorf("the cache holds %v, %v", left, err)
	}
	k, err := kernel.Find(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.Verify(k); err != nil {
		t.Error(err)
	}

	// Damage of equal size is seen by Verify and mended by Install.
	if err := os.WriteFile(k.Image, []byte("imagf\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := kernel.Find(e); err != nil {
		t.Errorf("the cheap check: %v", err)
	}
	if err := kernel.Verify(k); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("the thorough check: %v", err)
	}
	if k, err = install(e); err != nil || kernel.Verify(k) != nil {
		t.Errorf("mending: %v", err)
	}

	// Damage of another size is seen at once.
	if err := os.Truncate(k.Image, 0); err != nil {
		t.Fatal(err)
	}
	if all, problems := kernel.List(e); len(problems) != 1 || len(all) > 0 && all[0].Source == kernel.FromCache {
		t.Errorf("%v, %v", all, problems)
	}
}

func TestInstallWhich(t *testing.T) {
	fakeTools(t)
	e := env(map[string]string{"XDG_CACHE_HOME": t.TempDir()})
	offers, err := kernel.UML.Available(t.Context(), e, &bytes.Buffer{})
	if err != nil || len(offers) != 1 || offers[0].Word() != "uml:6.1um+b1" || offers[0].Package != "user-mode-linux" || offers[0].Backports {
		t.Errorf("%+v, %v", offers, err)
	}
	k, err := kernel.UML.InstallWhich(t.Context(), e, "6.1", &bytes.Buffer{})
	if err != nil || k.Version != "6.1um+b1" {
		t.Errorf("%v, %v", k, err)
	}
	var none *kernel.NotOfferedError
	if _, err := kernel.UML.InstallWhich(t.Context(), e, "6.12", &bytes.Buffer{}); !errors.As(err, &none) || !strings.Contains(err.Error(), "they offer uml:6.1 (6.1um+b1)") {
		t.Errorf("%v", err)
	}
	var word *kernel.WordError
	if _, err := kernel.UML.InstallWhich(t.Context(), e, "newest", &bytes.Buffer{}); !errors.As(err, &word) {
		t.Errorf("%v", err)
	}
	if _, err := kernel.UML.InstallWhich(t.Context(), e, "/boot/vmlinuz", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("%v", err)
	}
}

func TestInstallFails(t *testing.T) {
	fakeTools(t)
	for name, tt := range map[string]struct {
		set, to, want string
	}{
		"update fails": {"FAKE_UPDATE", "no network", "E: no network"},
		"odd version":  {"FAKE_VERSION", "../../etc", "odd version"},
		"odd package":  {"FAKE_EMPTY", "1", "not as expected"},
		"no apt-get":   {"PATH", "/nowhere", "no apt-get"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tt.set, tt.to)
			cache := t.TempDir()
			_, err := install(env(map[string]string{"XDG_CACHE_HOME": cache}))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "LVSLAB_UML") {
				t.Errorf("got %v, want %q and the other ways", err, tt.want)
			}
			if left, _ := os.ReadDir(filepath.Join(cache, "lvslab", "kernels", "uml")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := kernel.Install(ctx, env(map[string]string{"XDG_CACHE_HOME": t.TempDir()}), &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cache is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		write(t, file, "", 0o644)
		if _, err := install(env(map[string]string{"XDG_CACHE_HOME": file})); err == nil {
			t.Error("no error")
		}
	})
}

// TestHomeUnset: the home is then what the system knows.
func TestHomeUnset(t *testing.T) {
	if _, problems := kernel.List(env(nil)); len(problems) > 0 {
		t.Log(problems) // a user without a home has no cache, and is told so
	}
}
