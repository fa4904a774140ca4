package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/lvslab/lvslab/runner/wire"
)

// Captures writes the packets of a run's steps into files below dir, which it
// makes where it is not there: dir/LAB/01-NAME-OF-THE-STEP.pcapng. It passes all
// other events on to next.
//
// What is missing from a file is a line on warn. Close closes next too, and
// returns the first error of either; a file that cannot be written does not end
// the run.
func Captures(dir string, warn io.Writer, next Sink) (Sink, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the folder for captures: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder for captures: %w", err)
	}
	return &captureSink{next: next, root: root, warn: warn, open: make(map[string]*os.File)}, nil
}

type captureSink struct {
	next Sink
	warn io.Writer

	mu   sync.Mutex
	root *os.Root
	open map[string]*os.File
	err  error
}

func (s *captureSink) Event(e wire.Event) {
	if e.Kind != wire.Captured {
		s.next.Event(e)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Capture == nil || s.err != nil {
		return
	}
	name := captureFile(e.Lab, e.Capture)
	if err := s.write(name, e.Capture); err != nil {
		s.err = fmt.Errorf("writing the capture %s: %w", name, err)
		return
	}
	if e.Message != "" {
		if _, err := fmt.Fprintf(s.warn, "lvslab: capture %s is not whole: %s\n", name, inline(e.Message)); err != nil {
			s.err = err
		}
	}
}

func (s *captureSink) write(name string, c *wire.Capture) error {
	f := s.open[name]
	if f == nil {
		if err := s.root.MkdirAll(path.Dir(name), 0o777); err != nil {
			return err
		}
		var err error
		if f, err = s.root.Create(name); err != nil {
			return err
		}
		s.open[name] = f
	}
	if _, err := f.WriteAt(c.Data, c.Offset); err != nil {
		return err
	}
	if !c.Last {
		return nil
	}
	delete(s.open, name)
	return f.Close()
}

func (s *captureSink) Close() error {
	err := s.next.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open { // of a lab that a dead kernel left unfinished
		s.err = errors.Join(s.err, f.Close())
	}
	clear(s.open)
	return errors.Join(err, s.err, s.root.Close())
}

// captureFile is where a step's packets go.
func captureFile(lab string, c *wire.Capture) string {
	return path.Join(append(plainParts(lab), stepFile(c.Step, c.Name)+".pcapng")...)
}

// plainParts are the parts of a lab's name as names of folders.
func plainParts(lab string) []string {
	var parts []string
	for part := range strings.SplitSeq(lab, "/") {
		if part = plainName(part, 63); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// stepFile is a step as the name of a file, without an ending.
func stepFile(step int, name string) string {
	file := fmt.Sprintf("%02d", step)
	if name := plainName(name, 40); name != "" {
		file += "-" + name
	}
	return file
}

// plainName keeps the small letters, digits and underscores of a name, with
// dashes for all else, so that it is a file's name everywhere.
func plainName(s string, most int) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		switch {
		case b.Len() >= most:
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
