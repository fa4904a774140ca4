package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
)

// folders are the conditions of the places that lvslab uses: the cache, and
// where a guest without namespaces would have its memory.
func folders() []trait {
	all := []trait{cacheTrait()}
	var seen []string
	for _, dir := range []string{"/dev/shm", os.Getenv("TMPDIR"), os.Getenv("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"} {
		if dir == "" || slices.Contains(seen, filepath.Clean(dir)) {
			continue
		}
		seen = append(seen, filepath.Clean(dir))
		t := trait{Name: dir, Verdict: yes}
		free, err := usable(dir, true)
		switch {
		case err != nil:
			t.Verdict, t.Why = no, err.Error()
		case free < uml.DefaultMem:
			t.Verdict, t.Why = no, fmt.Sprintf("%d MB free, a guest's memory takes %d", free>>20, int64(uml.DefaultMem)>>20)
		default:
			t.Why = fmt.Sprintf("%d MB free", free>>20)
		}
		all = append(all, t)
	}
	return all
}

func cacheTrait() trait {
	dir, err := cacheFolder()
	if err != nil {
		return trait{Name: "cache", Verdict: no, Why: err.Error() + ": kernel install has no place", Fix: []string{"export HOME=/path/to/a/folder/of/yours"}}
	}
	t := trait{Name: dir, Verdict: yes}
	free, err := usable(dir, false)
	switch {
	case err != nil:
		t.Verdict, t.Why = no, err.Error()+": kernel install cannot use it; XDG_CACHE_HOME names another"
	case free < kernel.RoomNeeded:
		t.Verdict, t.Why = no, fmt.Sprintf("%d MB free, kernel install takes %d", free>>20, int64(kernel.RoomNeeded)>>20)
	default:
		t.Why = fmt.Sprintf("kernel install writes here; %d MB free", free>>20)
	}
	return t
}

// usable is how many bytes are free in a folder, or in the nearest above it
// that is there unless it must be there itself. One that cannot be written, or
// from which nothing can be executed, is an error.
func usable(dir string, there bool) (int64, error) {
	for {
		_, err := os.Stat(dir)
		if err == nil {
			break
		}
		if there || !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return 0, plainError(err)
		}
		dir = filepath.Dir(dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return 0, fmt.Errorf("cannot be written (%w)", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return 0, errors.New("is mounted noexec")
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// plainError is an error of a file without the file's name.
func plainError(err error) error {
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
