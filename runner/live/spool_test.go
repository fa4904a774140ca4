package live

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// What is written reaches the writer whole and in its order.
func TestSpoolPassesOn(t *testing.T) {
	var out bytes.Buffer
	s := newSpool(&out, 1<<20)
	var want strings.Builder
	for range 1000 {
		for _, word := range []string{"one\n", "two\n"} {
			want.WriteString(word)
			if _, err := io.WriteString(s, word); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.end(); err != nil || out.String() != want.String() {
		t.Errorf("%d bytes, %v; wanted %d", out.Len(), err, want.Len())
	}
}

// Who reads nothing keeps nobody waiting, and is told when that is too much.
func TestSpoolKeepsNobodyWaiting(t *testing.T) {
	r, w := io.Pipe()
	s := newSpool(w, 100)
	var err error
	for range 1000 {
		if _, err = s.Write(make([]byte, 10)); err != nil {
			break
		}
	}
	if !errors.Is(err, errSlow) {
		t.Errorf("Write: %v", err)
	}
	why := errors.New("gone")
	r.CloseWithError(why)
	if err := s.end(); !errors.Is(err, errSlow) || !errors.Is(err, why) {
		t.Errorf("end: %v", err)
	}
}
