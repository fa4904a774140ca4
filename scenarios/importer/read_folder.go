package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/source"
)

// openFlags open a file for reading. A named pipe or a terminal must not keep
// whoever asks what it is waiting for its other side.
const openFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// folder is the folder of a keepalived.conf as its reader may see it: the files
// in it and below, those that are regular files of a fair size. The file itself
// was read before and may be a link to anywhere, as a person named it; what it
// includes may not (os.Root).
type folder struct {
	root *os.Root // nil: there are no other files
	main string
	data []byte
}

// Open opens a file or a folder.
func (f *folder) Open(name string) (fs.File, error) {
	if name == f.main {
		return &readBefore{Reader: bytes.NewReader(f.data), name: name}, nil
	}
	fail := func(err error) error { return &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return nil, fail(fs.ErrInvalid)
	}
	if f.root == nil {
		return nil, fail(errors.New("standard input has no folder to include from"))
	}
	file, err := f.root.OpenFile(name, openFlags, 0)
	if err != nil && strings.Contains(err.Error(), "escapes from parent") { // of os.Root, which has no name for it
		return nil, fail(errors.New("a link leads out of the configuration's folder, and an import reads nothing outside it; copy the file there"))
	}
	if err != nil {
		return nil, err
	}
	if err := regular(file); err != nil && !errors.Is(err, errFolder) {
		return nil, errors.Join(fail(err), file.Close())
	}
	return file, nil
}

var errFolder = errors.New("is a folder, wanted a file")

// regular refuses what is no file of a configuration's size.
func regular(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return errFolder
	case mode&fs.ModeNamedPipe != 0:
		return errors.New("is a named pipe, wanted a file")
	case mode&fs.ModeDevice != 0:
		return errors.New("is a device, wanted a file")
	case !mode.IsRegular():
		return fmt.Errorf("is no file (%s)", mode.Type())
	case st.Size() > MaxBytes:
		return fmt.Errorf("is larger than %d MiB; that is no configuration", MaxBytes>>20)
	}
	return nil
}

// readBefore is a file whose text is known.
type readBefore struct {
	*bytes.Reader
	name string
}

func (f *readBefore) Stat() (fs.FileInfo, error) { return knownInfo{f}, nil }
func (f *readBefore) Close() error               { return nil }

// knownInfo describes a readBefore.
type knownInfo struct{ f *readBefore }

func (i knownInfo) Name() string     { return i.f.name }
func (i knownInfo) Size() int64      { return i.f.Size() }
func (knownInfo) Mode() fs.FileMode  { return 0o444 }
func (knownInfo) ModTime() time.Time { return time.Time{} }
func (knownInfo) IsDir() bool        { return false }
func (knownInfo) Sys() any           { return nil }

// place is the line and column, in bytes, of the byte at an offset.
func place(name string, data []byte, offset int) source.Pos {
	before := data[:offset]
	return source.Pos{File: name, Line: 1 + bytes.Count(before, []byte("\n")), Col: offset - bytes.LastIndexByte(before, '\n')}
}

// invalidUTF8 is the offset of the first byte that is part of no letter, or -1.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}
