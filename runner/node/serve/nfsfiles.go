package serve

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5"
)

// exported is the folder as the library sees it. Paths are below it, and
// nothing outside of it can be reached (os.Root); symbolic links are the
// clients' to follow.
type exported struct {
	root    *os.Root
	handles *handles
}

var (
	_ billy.Filesystem = (*exported)(nil)
	_ billy.Change     = (*exported)(nil)
)

// subfolder is a folder below, as a client has mounted it: it is there for its
// handle alone.
type subfolder struct {
	*exported
	base string
}

// exportedFile is an open file. Its name is that below the exported folder,
// which the library looks it up by.
type exportedFile struct {
	*os.File
	name string
}

func (f exportedFile) Name() string  { return f.name }
func (f exportedFile) Lock() error   { return billy.ErrNotSupported }
func (f exportedFile) Unlock() error { return billy.ErrNotSupported }

func (e *exported) Join(elem ...string) string { return inside(path.Join(elem...)) }
func (e *exported) Root() string               { return "/" }

func (e *exported) Create(name string) (billy.File, error) {
	return e.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (e *exported) Open(name string) (billy.File, error) { return e.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens regular files alone: another one could hold the server.
func (e *exported) OpenFile(name string, flag int, perm os.FileMode) (billy.File, error) {
	name = inside(name)
	if flag&os.O_CREATE == 0 {
		flag &^= os.O_EXCL // without O_CREAT it means nothing, open(2)
	}
	f, err := e.root.OpenFile(name, flag|nonblock, perm.Perm())
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return exportedFile{f, name}, nil
}

func (e *exported) Stat(name string) (os.FileInfo, error)  { return e.root.Stat(inside(name)) }
func (e *exported) Lstat(name string) (os.FileInfo, error) { return e.root.Lstat(inside(name)) }

func (e *exported) Rename(from, to string) error {
	from, to = inside(from), inside(to)
	if err := e.root.Rename(from, to); err != nil {
		return err
	}
	e.handles.move(from, to)
	return nil
}

func (e *exported) Remove(name string) error { return e.root.Remove(inside(name)) }

func (e *exported) MkdirAll(name string, perm os.FileMode) error {
	return e.root.MkdirAll(inside(name), perm.Perm())
}

// ReadDir implements billy.Filesystem; the library wants it sorted.
func (e *exported) ReadDir(name string) ([]os.FileInfo, error) {
	dir, err := e.root.Open(inside(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var infos []os.FileInfo
	for _, n := range names {
		info, err := e.root.Lstat(path.Join(inside(name), n))
		if err != nil {
			continue // gone since
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return infos, nil
}

func (e *exported) Symlink(target, link string) error { return e.root.Symlink(target, inside(link)) }

func (e *exported) Readlink(link string) (string, error)        { return e.root.Readlink(inside(link)) }
func (e *exported) TempFile(string, string) (billy.File, error) { return nil, errNoTemporary }
func (e *exported) Chroot(string) (billy.Filesystem, error)     { return nil, errNoTemporary }

func (e *exported) Chmod(name string, mode os.FileMode) error {
	return e.root.Chmod(inside(name), mode)
}

func (e *exported) Chown(name string, uid, gid int) error {
	return e.root.Chown(inside(name), uid, gid)
}

func (e *exported) Lchown(name string, uid, gid int) error {
	return e.root.Lchown(inside(name), uid, gid)
}

func (e *exported) Chtimes(name string, atime, mtime time.Time) error {
	return e.root.Chtimes(inside(name), atime, mtime)
}
