package kernel

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// manifestFile is written last into a kernel's folder in the cache.
const manifestFile = "manifest.json"

// manifestVersion is that of manifest.
const manifestVersion = 1

// manifest says what Install put into the cache.
type manifest struct {
	Version int    `json:"version"`
	Name    Kind   `json:"name"`
	Release string `json:"release"`
	// Package is the version of the package.
	Package   string    `json:"package"`
	Installed time.Time `json:"installed"`
	Image     file      `json:"image"`
	// Modules is modules.dep, whose folder holds the modules.
	Modules file `json:"modules"`
}

// file is one that a manifest vouches for.
type file struct {
	// Path is relative to the manifest, with slashes.
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Cache is lvslab's folder in the user's cache: lvslab in $XDG_CACHE_HOME, else in
// .cache of $HOME, else of the home that the system knows for this user.
func Cache(env Env) (string, error) {
	base := env("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) { // the XDG specification has relative ones ignored
		home := env("HOME")
		if !filepath.IsAbs(home) {
			u, err := user.Current()
			if err != nil || !filepath.IsAbs(u.HomeDir) {
				return "", errors.New("no place for a cache of kernels: set HOME or XDG_CACHE_HOME")
			}
			home = u.HomeDir
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "lvslab"), nil
}

// CacheDir is where kernels of this kind are kept: kernels/uml in Cache.
func (kd Kind) CacheDir(env Env) (string, error) {
	base, err := Cache(env)
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "kernels", string(kd)), nil
}

// listCache is what the cache holds, the newest release first, and what is wrong with the
// rest.
func (kd Kind) listCache(env Env) ([]Kernel, []error) {
	dir, err := kd.CacheDir(env)
	if err != nil {
		return nil, []error{err}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("cache of kernels: %w", err)}
	}
	type aged struct {
		Kernel
		at time.Time
	}
	var all []aged
	var problems []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		root := filepath.Join(dir, e.Name())
		k, m, err := kd.openCached(root)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, aged{k, m.Installed})
	}
	slices.SortFunc(all, func(a, b aged) int {
		// A kernel that is fetched beside another, for the sake of comparing, does
		// not take its place.
		return cmp.Or(compareVersions(b.Release, a.Release), b.at.Compare(a.at), compareVersions(b.Version, a.Version))
	})
	kernels := make([]Kernel, len(all))
	for i := range all {
		kernels[i] = all[i].Kernel
	}
	return kernels, problems
}

// openCached reads a kernel's manifest and checks cheaply that what it names is
// there.
func (kd Kind) openCached(root string) (Kernel, manifest, error) {
	fail := func(err error) (Kernel, manifest, error) {
		return Kernel{}, manifest{}, fmt.Errorf("cached kernel %s: %w (remove the folder and run `%s`)", root, err, kd.InstallCommand())
	}
	data, err := readBounded(filepath.Join(root, manifestFile), 1<<20)
	if err != nil {
		return fail(err)
	}
	m, err := parseManifest(data)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", manifestFile, err))
	}
	if m.Name != kd {
		return fail(fmt.Errorf("%s: the kind is %q, not %q", manifestFile, m.Name, kd))
	}
	for _, f := range []file{m.Image, m.Modules} {
		info, err := os.Stat(filepath.Join(root, f.Path))
		if err != nil {
			return fail(err)
		}
		if !info.Mode().IsRegular() || info.Size() != f.Size {
			return fail(fmt.Errorf("%s has %d bytes, installed were %d", f.Path, info.Size(), f.Size))
		}
	}
	return Kernel{
		Name: m.Name, Release: m.Release, Version: m.Package, Source: FromCache, root: root,
		Image:   filepath.Join(root, m.Image.Path),
		Modules: filepath.Dir(filepath.Join(root, m.Modules.Path)),
	}, m, nil
}

func parseManifest(data []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, err
	}
	switch {
	case m.Version != manifestVersion:
		return manifest{}, fmt.Errorf("version %d, this lvslab knows %d", m.Version, manifestVersion)
	case m.Name != UML && m.Name != QEMU:
		return manifest{}, fmt.Errorf("kernel of the unknown kind %q", m.Name)
	case m.Release == "":
		return manifest{}, errors.New("names no release")
	}
	for _, f := range []file{m.Image, m.Modules} {
		if !filepath.IsLocal(f.Path) {
			return manifest{}, fmt.Errorf("path %q leads out of the folder", f.Path)
		}
	}
	return m, nil
}

// Verify compares a kernel of the cache with what was installed, by SHA-256 of
// the image and of modules.dep. Of a kernel from elsewhere it checks that both
// can be read.
func Verify(k Kernel) error {
	if k.root == "" {
		for _, path := range []string{k.Image, filepath.Join(k.Modules, "modules.dep")} {
			if _, err := sum(path); err != nil {
				return fmt.Errorf("kernel %s: %w", k, err)
			}
		}
		return nil
	}
	_, m, err := k.Name.openCached(k.root)
	if err != nil {
		return err
	}
	for _, f := range []file{m.Image, m.Modules} {
		got, err := sum(filepath.Join(k.root, f.Path))
		if err != nil {
			return fmt.Errorf("kernel %s: %w", k, err)
		}
		if got != f.SHA256 {
			return fmt.Errorf("kernel %s: %s has SHA-256 %s, installed was %s (remove %s and run `%s`)", k, f.Path, got, f.SHA256, k.root, k.Name.InstallCommand())
		}
	}
	return nil
}

// vouch describes a file for the manifest.
func vouch(root, path string) (file, error) {
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return file{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	hash, err := sum(path)
	return file{Path: filepath.ToSlash(rel), Size: info.Size(), SHA256: hash}, err
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
