package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// InitArg is the first argument that makes a program the init of a guest. It
// is an explicit word, because lvslab may be PID 1 of a container too.
const InitArg = "lvslab-guest-init"

// HostInitArg is the first argument that makes a program run labs in the
// machine's own kernel, in a user namespace.
const HostInitArg = "lvslab-host-init"

const (
	// MaxEvent bounds a line towards the host, in bytes. Evidence (tables,
	// captures) is the largest thing in it and is bounded well below this by
	// those who collect it.
	MaxEvent = 16 << 20
	// MaxCommand bounds a line towards the guest, in bytes. A burst of 4096
	// unread bytes stops the input of User-Mode Linux's serial line for good;
	// half of that has always been safe.
	MaxCommand = 2048
)

// Command is what a host asks of a guest, one line each. It is short on
// purpose (see MaxCommand): the job itself is a file.
type Command struct {
	Version int `json:"version"`
	// Run is the name of the file that holds the Job, relative to the work
	// folder that the guest was booted with.
	Run string `json:"run,omitempty"`
	// Up is, in place of Run, the file of a Job whose one lab is to be brought
	// up and kept. The guest answers with the event Up, see there, or with Done
	// and the reason why not.
	Up string `json:"up,omitempty"`
}

// ErrTooLong is returned for a line beyond MaxEvent or MaxCommand. The reader
// cannot be used any further.
var ErrTooLong = errors.New("line too long")

// ErrOver is returned by a Writer after its Last.
var ErrOver = errors.New("the stream carries something else by now")

// VersionError is returned by a Reader for a line of another version.
type VersionError struct {
	// Got is the version that the line names; 0 when it names none.
	Got int
	// What is "event", "command" or "job".
	What string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has version %d, this lvslab speaks version %d: use the same lvslab on both sides", e.What, e.Got, Version)
}

// CheckVersion is a *VersionError unless got is Version. What names the thing
// that carries it.
func CheckVersion(what string, got int) error {
	if got != Version {
		return &VersionError{Got: got, What: what}
	}
	return nil
}

// Writer writes events, commands and heartbeats, one compact JSON object a
// line. It is safe for concurrent use: lines are never mixed.
type Writer struct {
	mu   sync.Mutex
	w    io.Writer
	over bool
}

// NewWriter writes to w, one Write call a line.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Event writes e with this Version, and with the present time where e has
// none. An event beyond MaxEvent is an error and nothing is written.
func (w *Writer) Event(e Event) error { return w.event(e, false) }

// Last is Event for the last line of all: every later one, heartbeats included,
// is refused with ErrOver, and the stream is free for something else.
func (w *Writer) Last(e Event) error { return w.event(e, true) }

func (w *Writer) event(e Event, last bool) error {
	e.Version = Version
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	return w.line(e, MaxEvent, last)
}

// Command writes c with this Version. One beyond MaxCommand is an error and
// nothing is written.
func (w *Writer) Command(c Command) error {
	c.Version = Version
	return w.line(c, MaxCommand, false)
}

// Beat writes an empty line, which readers skip: a sign of life.
func (w *Writer) Beat() error { return w.write([]byte{'\n'}, false) }

func (w *Writer) line(v any, limit int, last bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", v, err)
	}
	if len(b) >= limit {
		return fmt.Errorf("%T of %d bytes, at most %d: %w", v, len(b), limit-1, ErrTooLong)
	}
	return w.write(append(b, '\n'), last)
}

func (w *Writer) write(b []byte, last bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return ErrOver
	}
	w.over = last
	_, err := w.w.Write(b)
	return err
}

// Reader reads what a Writer wrote. It is not safe for concurrent use.
type Reader struct {
	r     *bufio.Reader
	line  []byte
	lines int
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 16<<10)} }

// Event reads the next event. It returns io.EOF at an end between two lines
// and io.ErrUnexpectedEOF at one within a line. An error that is none of the
// underlying reader's quotes the line, shortened.
func (r *Reader) Event() (Event, error) {
	var e Event
	err := r.decode("event", MaxEvent, &e, &e.Version)
	if err != nil {
		return Event{}, err
	}
	return e, nil
}

// Command reads the next command, with the errors of Event.
func (r *Reader) Command() (Command, error) {
	var c Command
	err := r.decode("command", MaxCommand, &c, &c.Version)
	if err != nil {
		return Command{}, err
	}
	return c, nil
}

// Line is the number, from 1, of the line that was read last, empty ones counted;
// after an error, of the line that it is about. 0 means that none was read.
func (r *Reader) Line() int { return r.lines }

// Wait returns when there is something to read, and reads nothing itself. The
// error is the underlying reader's, io.EOF at its end.
func (r *Reader) Wait() error {
	_, err := r.r.Peek(1)
	return err
}

// Rest is the stream behind the last line that was read: what the Reader has
// read ahead, and then the underlying reader. The Reader must not be used any
// more.
func (r *Reader) Rest() io.Reader { return r.r }

func (r *Reader) decode(what string, limit int, v any, version *int) error {
	line, err := r.next(limit)
	if err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		// Another version may have another shape, and that is the better
		// thing to say.
		var only struct {
			Version *int `json:"version"`
		}
		if json.Unmarshal(line, &only) == nil && only.Version != nil && *only.Version != Version {
			return CheckVersion(what, *only.Version)
		}
		return fmt.Errorf("reading %s: not a line of lvslab's: %s: %w", what, Quote(line), err)
	}
	return CheckVersion(what, *version)
}

// next is the next line that is not empty, without its end. It is valid until
// the following call.
func (r *Reader) next(limit int) ([]byte, error) {
	for {
		r.line = r.line[:0]
		for {
			part, err := r.r.ReadSlice('\n')
			if len(r.line) == 0 && len(part) > 0 {
				r.lines++
			}
			if len(r.line)+len(part) > limit {
				return nil, fmt.Errorf("%w: more than %d bytes, beginning with %s", ErrTooLong, limit, Quote(append(r.line, part...)))
			}
			r.line = append(r.line, part...)
			if err == nil {
				break
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if errors.Is(err, io.EOF) && len(r.line) > 0 {
				return nil, fmt.Errorf("%w in the middle of %s", io.ErrUnexpectedEOF, Quote(r.line))
			}
			return nil, err
		}
		line := r.line[:len(r.line)-1]
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			return line, nil
		}
	}
}

// Quote is b as a quoted string of at most some 120 characters, fit for an
// error.
func Quote(b []byte) string {
	const most = 100
	if len(b) <= most {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
}
