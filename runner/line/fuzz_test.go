package line_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/lvslab/lvslab/runner/line"
)

// replay is a stream on which one thing comes, in small pieces, and to which
// anything may be written.
type replay struct {
	*bytes.Reader
	piece int
}

func (r replay) Read(p []byte) (int, error)  { return r.Reader.Read(p[:min(len(p), r.piece)]) }
func (r replay) Write(p []byte) (int, error) { return len(p), nil }
func (r replay) Close() error                { return nil }

// FuzzReceive has anything come over a line: what is read is never more than
// what came, and the line ends with a reason. The corpus is in testdata.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("d\x00\x00\x02abb\x00\x00\x00d\x00\x00\x01c"), 3)
	f.Add([]byte("{\"version\":1,\"event\":\"log\"}\n"), 100)
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		c := line.New(replay{bytes.NewReader(sent), max(1, piece)}, line.Options{Send: line.ToHost, Receive: line.ToGuest})
		defer c.Close()
		got, err := io.ReadAll(c)
		if len(got) > len(sent) {
			t.Errorf("read %d bytes of %d", len(got), len(sent))
		}
		<-c.Done()
		if why := c.Err(); why == nil || err != nil && !errors.Is(why, err) {
			t.Errorf("reading ended with %v, the line with %v", err, why)
		}
	})
}
