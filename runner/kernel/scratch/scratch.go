// Package scratch makes temporary folders that belong to a living process: a
// lock on the folder itself, held for as long as the process lives, says that
// it is in use. What a killed process left is found by its free lock and swept
// by the next one that makes a folder in the same place.
package scratch

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a folder in use.
type Dir struct {
	// Path is absolute when the parent given to New was.
	Path string
	lock *os.File
}

// New sweeps parent and makes a folder in it, mode 0700, whose name begins
// with prefix. prefix must be the caller's own: every unlocked folder that
// begins with it and belongs to this user is taken for stale.
func New(parent, prefix string) (*Dir, error) {
	Sweep(parent, prefix)
	for range 100 {
		path := filepath.Join(parent, prefix+strings.ToLower(rand.Text()[:12]))
		if err := os.Mkdir(path, 0o700); err != nil {
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			return nil, err
		}
		f, err := hold(path)
		if err == nil {
			return &Dir{Path: path, lock: f}, nil
		}
		// A sweeper that came between Mkdir and the lock has taken the folder
		// away; anything else will fail again.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path)
			return nil, err
		}
	}
	return nil, fmt.Errorf("no free name for a folder %s* in %s", prefix, parent)
}

// Remove deletes the folder with all that is in it, then lets the lock go.
// Removing twice is no error.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.Path)
	_ = d.lock.Close()
	return err
}

// Sweep removes from parent the folders with this prefix that belong to this
// user and to no living process. It is best effort: what cannot be removed
// stays.
func Sweep(parent, prefix string) {
	matches, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, m := range matches {
		if !m.IsDir() || !strings.HasPrefix(m.Name(), prefix) {
			continue
		}
		info, err := m.Info()
		if err != nil || !mine(info) {
			continue
		}
		path := filepath.Join(parent, m.Name())
		f, err := hold(path)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path)
		_ = f.Close()
	}
}

// hold opens the folder and locks it, and makes sure that the path still names
// what was locked.
func hold(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	locked, err := f.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Lstat(path); err == nil && !os.SameFile(locked, named) {
			err = &fs.PathError{Op: "flock", Path: path, Err: fs.ErrNotExist}
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
