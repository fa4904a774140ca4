package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel/scratch"
)

// folderPrefix begins the name of every work folder on the host's disk.
const folderPrefix = "lvslab-guest-"

// places are where a work folder may be made, best first: in dir alone, if one
// is given. All are absolute.
func places(dir string) []string {
	candidates := []string{dir}
	if dir == "" {
		candidates = []string{"/dev/shm", os.Getenv("TMPDIR"), os.Getenv("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"}
	}
	var all []string
	for _, c := range candidates {
		if abs, err := filepath.Abs(c); c != "" && err == nil && !slices.Contains(all, abs) {
			all = append(all, abs)
		}
	}
	return all
}

// makeFolder makes the work folder of a guest without namespaces, which also
// holds the file of the guest's memory, in the first place that will do.
func makeFolder(places []string, mem int64) (*scratch.Dir, error) {
	var errs []error
	for _, p := range places {
		err := fits(p, mem)
		if err == nil {
			var d *scratch.Dir
			if d, err = scratch.New(p, folderPrefix); err == nil {
				return d, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", p, err))
	}
	return nil, fmt.Errorf("no folder for the guest's memory and jobs, set TMPDIR to one that is writable, not mounted noexec, and has %d MB free: %w", mem>>20, errors.Join(errs...))
}

// fits tells what keeps a folder from holding a guest's memory. Being too
// small would show as SIGBUS in the midst of a boot.
func fits(path string, mem int64) error {
	if strings.ContainsAny(path, " \t\n\"\\") {
		return errors.New("has a blank, quote or backslash in its name, at which the guest's kernel would split its command line")
	}
	// The control socket in <folder>/uml must have a name of at most 107 bytes
	// (unix(7)).
	if len(path) > 60 {
		return errors.New("has too long a name")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return errors.New("is mounted noexec")
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return errors.New("is mounted read-only")
	}
	if free := int64(st.Bavail) * st.Bsize; free < mem {
		return fmt.Errorf("has %d MB free of %d", free>>20, mem>>20)
	}
	return nil
}
