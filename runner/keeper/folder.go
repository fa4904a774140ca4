package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
)

// Files of a lab's folder.
const (
	lockFile   = "lock"     // held (flock(2)) by the keeper for as long as it lives
	socketFile = "socket"   // answers, see package live
	infoFile   = "lab.json" // a live.Info
	logFile    = "log"      // what the keeper wrote
)

// Env looks up environment variables.
type Env func(string) string

// roots are the folders that hold the folders of labs, the one for new labs
// first. The state folder comes before the runtime folder, since that goes when
// its user logs out, and labs stay.
func roots(env Env) []string {
	var all []string
	add := func(dir string, below ...string) {
		if filepath.IsAbs(dir) {
			all = append(all, filepath.Join(append([]string{dir}, below...)...))
		}
	}
	add(env("XDG_STATE_HOME"), "lvslab", "labs")
	if env("XDG_STATE_HOME") == "" {
		add(env("HOME"), ".local", "state", "lvslab", "labs")
	}
	add(env("XDG_RUNTIME_DIR"), "lvslab", "labs")
	add(os.TempDir(), fmt.Sprintf("lvslab-%d", os.Geteuid()), "labs")
	return all
}

// folderName is a lab's name as that of a folder.
func folderName(name string) string { return strings.ReplaceAll(name, "/", "~") }

func labName(folder string) string { return strings.ReplaceAll(folder, "~", "/") }

// trusted are those roots that nobody but the caller can put anything into: in
// /tmp another user may have made the one of our name.
func trusted(env Env) []string {
	return slices.DeleteFunc(roots(env), func(dir string) bool {
		return private(filepath.Dir(dir)) != nil || private(dir) != nil
	})
}

// makeRoot makes the first of the roots that can be made, for its owner alone.
func makeRoot(env Env) (string, error) {
	var errs []error
	for _, dir := range roots(env) {
		// Each is looked at before something is made in it: in /tmp it may be
		// another user's, or a link to somewhere else.
		own := filepath.Dir(dir)
		err := os.MkdirAll(filepath.Dir(own), 0o700)
		for _, d := range []string{own, dir} {
			if err == nil {
				err = ours(d)
			}
		}
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no folder for labs that are up; set XDG_STATE_HOME to one of yours: %w", errors.Join(errs...))
}

// ours makes a folder for its owner alone, unless it is there.
func ours(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return private(dir)
}

// private makes sure that nobody but its owner, who is the caller, can enter a
// folder.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", dir)
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", dir)
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// folder is that of one lab.
type folder struct {
	name, path string
	// lock is held where it is not nil.
	lock *os.File
}

// find looks for a lab's folder.
func find(env Env, name string) (folder, bool) {
	for _, root := range trusted(env) {
		f := folder{name: name, path: filepath.Join(root, folderName(name))}
		if info, err := os.Lstat(f.path); err == nil && info.IsDir() && private(f.path) == nil {
			return f, true
		}
	}
	return folder{}, false
}

// folders are those of all labs, sorted by name.
func folders(env Env) []folder {
	var all []folder
	for _, root := range trusted(env) {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue
		}
		for _, e := range entries {
			f := folder{name: labName(e.Name()), path: filepath.Join(root, e.Name())}
			if e.IsDir() && private(f.path) == nil && !slices.ContainsFunc(all, func(o folder) bool { return o.name == f.name }) {
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b folder) int { return strings.Compare(a.name, b.name) })
	return all
}

// errHeld means that a keeper lives, or that somebody is about to start one.
var errHeld = errors.New("its keeper lives")

// take makes the folder where it is missing, and takes its lock. Whoever holds
// that may remove the folder: so it is looked whether it is still there.
func (f *folder) take() error {
	for {
		if err := os.Mkdir(f.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := private(f.path); err != nil {
			return err
		}
		lock, err := os.OpenFile(filepath.Join(f.path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed between the two
		}
		if err != nil {
			return err
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = lock.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return errHeld
			}
			return fmt.Errorf("locking %s: %w", lock.Name(), err)
		}
		mine, err1 := lock.Stat()
		there, err2 := os.Stat(lock.Name())
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			f.lock = lock
			return nil
		}
		_ = lock.Close()
	}
}

// alive reports whether the lock is held by somebody.
func (f *folder) alive() bool {
	lock, err := os.OpenFile(filepath.Join(f.path, lockFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// clear removes all but the lock, remove that, too. The lock must be held.
func (f *folder) clear() error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.path, e.Name())))
		}
	}
	return err
}

func (f *folder) remove() error {
	defer f.lock.Close()
	return os.RemoveAll(f.path)
}

// info is what the folder says of its lab; the zero Info with the name alone
// where it says nothing that can be read.
func (f *folder) info() live.Info {
	i := live.Info{Name: f.name}
	if data, err := os.ReadFile(filepath.Join(f.path, infoFile)); err == nil {
		_ = json.Unmarshal(data, &i)
	}
	i.Name = f.name
	return i
}

// write puts the info into the folder, whole or not at all.
func (f *folder) write(i live.Info) error {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	part := filepath.Join(f.path, infoFile+".new")
	if err := os.WriteFile(part, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(f.path, infoFile))
}
