package main

import (
	"strings"
	"testing"
)

func TestSystemName(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n":              "debian-12",
		"NAME=x\nVERSION_ID='24.04'\nID=\"ubuntu\"\n": "ubuntu-24.04",
		"ID=arch\n":                   "arch",
		"":                            "linux",
		"ID=a,b c\nVERSION_ID=../1\n": "a_b_c-.._1",
		"ID=" + strings.Repeat("x", 100) + "\nnoise\n": strings.Repeat("x", 64),
	} {
		if got := systemName(strings.NewReader(release)); got != want {
			t.Errorf("%q: %q, wanted %q", release, got, want)
		}
	}
}

// A key is of the kernels in the cache, is no longer than CI services take it,
// and begins with the prefix.
func TestCacheKey(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	k, err := cachedKernels(strings.NewReader("ID=debian\nVERSION_ID=12\n"))
	if err != nil || k.Key != k.Prefix+"none" || !strings.HasPrefix(k.Prefix, "lvslab-kernels-1-debian-12-") || !strings.HasSuffix(k.Path, "/lvslab/kernels") {
		t.Errorf("without kernels: %+v, %v", k, err)
	}
}
