package scratch_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestRemove(t *testing.T) {
	d, err := scratch.New(t.TempDir(), "x-")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	}
	if exists(d.Path) {
		t.Error("still there")
	}
}

func TestSweepTakesOnlyTheStale(t *testing.T) {
	parent := t.TempDir()
	used, err := scratch.New(parent, "x-")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Remove()
	stale := filepath.Join(parent, "x-stale")
	other := filepath.Join(parent, "y-other")
	file := filepath.Join(parent, "x-file")
	target := t.TempDir()
	link := filepath.Join(parent, "x-link")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(stale, "deep", "er"), 0o700),
		os.Mkdir(other, 0o700),
		os.WriteFile(file, nil, 0o600),
		os.Symlink(target, link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	scratch.Sweep(parent, "x-")
	if exists(stale) {
		t.Error("the stale folder is still there")
	}
	for _, p := range []string{used.Path, other, file, link, target} {
		if !exists(p) {
			t.Errorf("%s is gone", p)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	parent := t.TempDir()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				d, err := scratch.New(parent, "x-")
				if err != nil {
					t.Error(err)
					return
				}
				if !exists(d.Path) {
					t.Error("swept while in use")
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
