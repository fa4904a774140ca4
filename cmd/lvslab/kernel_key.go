package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/kernel"
)

// keyVersion is that of the cache's layout and of the keys: another one makes
// what CI has kept useless to this lvslab.
const keyVersion = 1

// mostKey bounds a key, in bytes: GitHub takes 512.
const mostKey = 256

// cacheKey is by what CI keeps the kernels of the cache.
type cacheKey struct {
	// Key is of the kernels that are in the cache, and changes with each of them.
	Key string `json:"key"`
	// Prefix begins the keys of all caches that are of use on such a machine, for
	// a job that has none yet: which kernel it would install, only the package
	// sources know.
	Prefix string `json:"prefix"`
	// Path is the folder to keep.
	Path string `json:"path"`
}

// cachedKernels makes the key.
func cachedKernels(release io.Reader) (cacheKey, error) {
	dir, err := cacheFolder()
	if err != nil {
		return cacheKey{}, err
	}
	k := cacheKey{Prefix: fmt.Sprintf("lvslab-kernels-%d-%s-%s-", keyVersion, systemName(release), runtime.GOARCH), Path: dir}
	var parts, sums []string
	for _, kind := range kinds {
		all, _ := kind.List(os.Getenv) // what is wrong with others is for list to tell
		for _, one := range all {
			if one.Source != kernel.FromCache {
				continue
			}
			sum, err := kernel.Digest(one)
			if err != nil {
				continue // it has gone since, as has what is wrong with others
			}
			parts, sums = append(parts, string(kind)+"-"+plainKey(one.Version)), append(sums, sum)
		}
	}
	if len(parts) == 0 {
		k.Key = k.Prefix + "none"
		return k, nil
	}
	slices.Sort(parts)
	slices.Sort(sums)
	sum := sha256.Sum256([]byte(strings.Join(sums, " ")))
	names := strings.Join(slices.Compact(parts), "-")
	names = names[:min(len(names), mostKey-len(k.Prefix)-17)]
	k.Key = k.Prefix + names + "-" + hex.EncodeToString(sum[:8])
	return k, nil
}

// systemName is the machine's system and its version, "debian-12", by
// os-release(5): kernels are those of its package sources.
func systemName(release io.Reader) string {
	values := make(map[string]string)
	lines := bufio.NewScanner(release)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	id, version := values["ID"], values["VERSION_ID"]
	if id == "" {
		id = "linux" // the standard's default
	}
	if version == "" {
		return plainKey(id)
	}
	return plainKey(id) + "-" + plainKey(version)
}

// plainKey keeps what every CI service takes in a key.
func plainKey(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".+~_", r) {
			return r
		}
		return '_'
	}, s[:min(len(s), 64)])
}

// osRelease opens the machine's os-release file; a machine without one is told
// by what it is.
func osRelease() io.ReadCloser {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if f, err := os.Open(filepath.Clean(name)); err == nil {
			return f
		}
	}
	return io.NopCloser(strings.NewReader(""))
}

// printKey writes the key as lines that GitHub takes in GITHUB_OUTPUT, and GitLab
// in a report of the kind dotenv.
func (a *app) printKey() error {
	release := osRelease()
	defer release.Close()
	k, err := cachedKernels(release)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "key=%s\nprefix=%s\npath=%s\n", k.Key, k.Prefix, k.Path)
	return nil
}
