package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// MaxBytes is the largest configuration that is read, each included file by
// itself: a hundred times the 10,000 real servers of a large one.
const MaxBytes = 8 << 20

// Stdin is the path that means standard input.
const Stdin = "-"

// stdinName is what standard input is called in messages and comments.
const stdinName = "stdin"

// ReadOptions say what a configuration's file does not. The zero value is right
// for most.
type ReadOptions struct {
	// As is the kind of the file; "" means the one that its words tell.
	As config.Kind
	// ID is keepalived's --config-id, by which lines that begin with @ID or @^ID
	// are chosen.
	ID string
	// Stdin is what Read reads for "-"; nil means os.Stdin.
	Stdin io.Reader
}

// Read reads a configuration: ipvsadm rules, or a keepalived.conf with what it
// includes from its own folder and those below, and nothing from outside. The
// path "-" is standard input, which can include nothing.
//
// Its error is a source.List or a *source.Error, each with its place, and says
// all that is wrong with the file at once. A file that is no regular one, is
// empty, larger than MaxBytes, or no UTF-8 text is refused.
func Read(path string, o ReadOptions) (*config.Config, error) {
	c, err := read(path, o)
	if err != nil {
		return nil, err
	}
	return withDoubts(c), nil
}

func read(path string, o ReadOptions) (*config.Config, error) {
	data, err := o.readData(path)
	if err != nil {
		return nil, err
	}
	name := path
	if path == Stdin {
		name = stdinName
	}
	kind, err := kindOf(name, data, o.As)
	switch {
	case err != nil:
		return nil, err
	case kind == config.IPVSAdm:
		return readRules(name, data)
	case path == Stdin:
		return parseKeepalived(&folder{main: name, data: data}, name, o.ID)
	}
	return readKeepalived(path, data, o.ID)
}

// readData reads the text of a path of which it is not known yet what it is.
func (o ReadOptions) readData(path string) ([]byte, error) {
	switch {
	case path != Stdin:
		return readFile(path)
	case o.Stdin != nil:
		return readText(stdinName, o.Stdin)
	}
	return readText(stdinName, os.Stdin)
}

// readFile reads the text of a regular file.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	if err := regular(f); err != nil {
		return nil, &source.Error{Pos: source.Pos{File: path}, Msg: err.Error()}
	}
	return readText(path, f)
}

// readText reads all of a text, or refuses it.
func readText(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if pos, err := noText(name, data); err != nil {
		return nil, &source.Error{Pos: pos, Msg: err.Error()}
	}
	return data, nil
}

// noText says why data cannot be a configuration, and where that shows.
func noText(name string, data []byte) (source.Pos, error) {
	whole := source.Pos{File: name}
	if len(data) > MaxBytes {
		return whole, fmt.Errorf("is larger than %d MiB; that is no configuration", MaxBytes>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return whole, errors.New("is empty; wanted ipvsadm rules or a keepalived.conf")
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return whole, errors.New("is UTF-16, which neither ipvsadm nor keepalived reads; save it as UTF-8")
	}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		// Both take it for a part of the first word (run).
		return source.Pos{File: name, Line: 1, Col: 1}, errors.New("begins with a byte order mark (EF BB BF), which ipvsadm and keepalived take for a part of the first word; save it without one")
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return place(name, data, i), fmt.Errorf("a NUL byte, at offset %d: this is no text file", i)
	}
	if i := invalidUTF8(data); i >= 0 {
		return place(name, data, i), fmt.Errorf("byte 0x%02x, at offset %d, is not valid UTF-8; save the file as UTF-8", data[i], i)
	}
	return whole, nil
}

// unreadable tells of a file that the system would not open or read.
func unreadable(path string, err error) error {
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the path stands before it
	}
	msg := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		msg = "no such file" + nearby(path)
	}
	return &source.Error{Pos: source.Pos{File: path}, Msg: msg}
}

// nearby names the file of the same folder that may have been meant.
func nearby(path string) string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if n := source.Nearest(filepath.Base(path), names); n != "" {
		return fmt.Sprintf("; did you mean %q?", filepath.Join(filepath.Dir(path), n))
	}
	return ""
}
