package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/lvslab/lvslab/runner/wire"
)

// JSON writes every event as one line of JSON, in one Write, the moment it
// comes; a w that has a Flush method is flushed. Fields keep the order of
// wire.Event, and an event without a version gets wire.Version.
//
// Characters that a terminal might obey are written as \u escapes, so that
// reading along is as safe as parsing.
func JSON(w io.Writer) Sink {
	return &jsonSink{out: output{w: w}}
}

type jsonSink struct {
	mu  sync.Mutex
	out output
}

func (s *jsonSink) Event(e wire.Event) {
	if e.Version == 0 {
		e.Version = wire.Version
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// Only a number or a time that JSON cannot hold comes here.
		if s.out.err == nil {
			s.out.err = fmt.Errorf("writing the event %s of lab %q as JSON: %w", e.Kind, e.Lab, err)
		}
		return
	}
	// "##[" can only stand in a string. GitHub's runner would take it for a
	// command.
	s.out.write(bytes.ReplaceAll(escapeUnprintable(b.Bytes()), []byte("##["), []byte(`\u0023#[`)))
}

func (s *jsonSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.err
}

// escapeUnprintable writes as \u escapes what encoding/json leaves as it is:
// DEL, the C1 controls and characters that change the direction of text. In
// JSON they can stand in strings only, where the escape means the same.
func escapeUnprintable(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case r == '\n' || strconv.IsPrint(r):
			out = append(out, line[:n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		line = line[n:]
	}
	return out
}
