package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// NotFoundError says that a node has no such program. A shell makes it the exit
// status 127.
type NotFoundError struct {
	// Name is the program as it was asked for, Path where it was looked for:
	// PATH, or empty for a name with a slash.
	Name, Path string
}

// Error implements error.
func (e *NotFoundError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("no program %s in this node", e.Name)
	}
	return fmt.Sprintf("no program %s in this node (PATH is %s)", e.Name, e.Path)
}

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// NotExecutableError says that a node has such a file and the kernel does not
// run it. A shell makes it the exit status 126.
type NotExecutableError struct {
	Name string
	// Reason is in the kernel's words: "permission denied".
	Reason string
}

// Error implements error.
func (e *NotExecutableError) Error() string {
	return fmt.Sprintf("the program %s cannot be run: %s", e.Name, e.Reason)
}

// environ is what the environment of all commands and programs begins with.
func environ(node string, v *view) []string {
	return []string{"PATH=" + v.path(), "HOME=" + home, "LC_ALL=C.UTF-8", "LVSLAB_NODE=" + node}
}

// noEnv is the environment of lvslab's own processes in a node: none, and not
// the caller's.
var noEnv = []string{}

// find is where the program of s is, in the calling process's tree. It is
// exec.LookPath with the environment and the folder of s.
func find(s spec) (string, error) {
	name := s.Args[0]
	if strings.Contains(name, "/") {
		at := name
		if !path.IsAbs(at) {
			at = path.Join(s.Dir, at)
		}
		switch err := executable(at); {
		case err == nil:
			return at, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return "", &NotFoundError{Name: name}
		default:
			return "", &NotExecutableError{name, reason(err)}
		}
	}
	folders := variable(s.Env, "PATH")
	var denied error
	for _, folder := range strings.Split(folders, ":") {
		if !path.IsAbs(folder) {
			folder = path.Join(s.Dir, folder)
		}
		at := path.Join(folder, name)
		err := executable(at)
		if err == nil && name != "" {
			return at, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return "", &NotExecutableError{name, reason(denied)}
	}
	return "", &NotFoundError{Name: name, Path: folders}
}

// executable says why a file cannot be a program.
func executable(name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return unix.EISDIR
	case info.Mode()&0o111 == 0:
		return unix.EACCES
	}
	return nil
}

// reason is what is in an error below its path.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// variable is the value of an environment's last variable of that name.
func variable(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// memfile is a file without a name that holds s; unlike a pipe it takes any size.
func memfile(name string, s spec) (*os.File, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	f, err := newMemfile(name)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func newMemfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
