package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	// MaxBytes is the largest file that is read. A lab of thousands of real
	// servers fits many times over.
	MaxBytes = 8 << 20
	// maxDepth is how deep a file may nest; a lab needs 8.
	maxDepth = 64
	// maxNodes bounds what a file may unfold to, its aliases followed: an
	// alias bomb is an error long before it is a full memory.
	maxNodes = 1 << 20
)

// Read reads a lab file, refusing what is too large without reading it whole.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, &Error{Pos: Pos{File: path}, Msg: "is a folder, wanted a lab file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBytes {
		return nil, &Error{Pos: Pos{File: path}, Msg: fmt.Sprintf("is larger than %d MiB; that is no lab file", MaxBytes>>20)}
	}
	return data, nil
}

// Parse splits a file into its YAML documents. The nodes keep their places;
// aliases are followed and nothing is decoded yet.
func Parse(path string, data []byte) (docs []*yaml.Node, err error) {
	// yaml.v3 is known to panic on some inputs; to a person that is a file
	// that cannot be read like any other.
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, &Error{Pos: Pos{File: path}, Msg: fmt.Sprintf("cannot be read as YAML: %v", r)}
		}
	}()
	if len(data) > MaxBytes {
		return nil, &Error{Pos: Pos{File: path}, Msg: fmt.Sprintf("is larger than %d MiB; that is no lab file", MaxBytes>>20)}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, &Error{Pos: place(path, data, i), Msg: "a NUL byte: this is no text file"}
	}
	if i := invalidUTF8(data); i >= 0 {
		return nil, &Error{Pos: place(path, data, i), Msg: fmt.Sprintf("byte 0x%02x is not valid UTF-8", data[i])}
	}
	if pos, deep := tooDeep(path, data); deep {
		return nil, &Error{Pos: pos, Msg: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	count := 0 // of all documents together
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, yamlError(path, err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		n := doc.Content[0]
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			continue // `---` twice, or a document of comments
		}
		if err := bounded(path, n, 0, &count); err != nil {
			return nil, err
		}
		docs = append(docs, n)
	}
	if len(docs) == 0 {
		return nil, &Error{Pos: Pos{File: path}, Msg: "is empty; a lab begins with title: and networks:"}
	}
	return docs, nil
}

// bounded walks a document with its aliases followed, and ends where that
// becomes too much: too deep, too many, an alias inside itself.
func bounded(path string, n *yaml.Node, depth int, count *int) error {
	*count++
	pos := Pos{path, n.Line, n.Column}
	if depth > maxDepth {
		return &Error{Pos: pos, Msg: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	if *count > maxNodes {
		return &Error{Pos: pos, Msg: fmt.Sprintf("unfolds to more than %d values; look at its aliases", maxNodes)}
	}
	if n.Kind == yaml.AliasNode {
		return bounded(path, n.Alias, depth+1, count)
	}
	for _, c := range n.Content {
		if err := bounded(path, c, depth+1, count); err != nil {
			return err
		}
	}
	return nil
}

// tooDeep looks for nesting in flow style before the YAML parser, which takes
// quadratic time over it, is asked.
func tooDeep(path string, data []byte) (Pos, bool) {
	depth := 0
	for i, c := range data {
		switch c {
		case '[', '{':
			if depth++; depth > 16*maxDepth {
				return place(path, data, i), true
			}
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return Pos{}, false
}

// yamlError puts yaml.v3's "yaml: line 3: what" at its line.
func yamlError(path string, err error) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if n, what, ok := strings.Cut(rest, ": "); ok {
			if l, err := strconv.Atoi(n); err == nil {
				line, msg = l, what
			}
		}
	}
	return &Error{Pos: Pos{File: path, Line: line}, Msg: "not YAML: " + msg}
}

func place(path string, data []byte, i int) Pos {
	line := bytes.Count(data[:i], []byte("\n")) + 1
	return Pos{path, line, i - bytes.LastIndexByte(data[:i], '\n')}
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}
