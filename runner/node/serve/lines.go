package serve

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
)

// Bounds of what a client may send and ask for, in bytes.
const (
	maxLine = 1 << 10
	maxBulk = 64 << 20
)

// serveLines answers each line of a connection, of TCP or SCTP, with "NODE
// PEER\n"; the line "bytes N" is answered with N bytes that begin so. The
// connection stays open until the client closes it.
func serveLines(h host) (Daemon, error) {
	return serveEach(h, func(c net.Conn) {
		in := bufio.NewReaderSize(c, maxLine)
		for {
			line, err := in.ReadSlice('\n')
			if err != nil { // the end, or a line longer than any that is known
				return
			}
			h.asked(c.RemoteAddr(), "line", strings.TrimSpace(string(line)))
			answer := h.line(c.RemoteAddr())
			n, ok := bulk(string(line))
			if !ok {
				n = len(answer)
			}
			if _, err := io.Copy(c, filled(answer, n)); err != nil {
				return
			}
		}
	}), nil
}

// bulk is the N of a line "bytes N".
func bulk(line string) (n int, ok bool) {
	words := strings.Fields(line)
	if len(words) != 2 || words[0] != "bytes" {
		return 0, false
	}
	n, err := strconv.Atoi(words[1])
	return n, err == nil && n >= 0 && n <= maxBulk
}

// filled is text and then dots, n bytes in all.
func filled(text string, n int) io.Reader {
	rest := int64(n - len(text))
	if rest <= 0 {
		return strings.NewReader(text[:n])
	}
	return io.MultiReader(strings.NewReader(text), io.LimitReader(dots{}, rest))
}

// dots is endless filling.
type dots struct{}

func (dots) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}
