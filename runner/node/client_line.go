package node

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// hello is what a server of lines or datagrams is told; it answers anything.
func (s RequestSpec) hello() string {
	if s.Bytes > 0 {
		return fmt.Sprintf("bytes %d\n", s.Bytes)
	}
	return "hello\n"
}

// line sends one line over TCP or SCTP and reads the answer: a line, or as many
// bytes as were asked for.
func (e *exchange) line() error {
	if _, err := io.WriteString(e.conn, e.spec.hello()); err != nil {
		return err
	}
	var kept bytes.Buffer
	if e.spec.Bytes > 0 {
		n, err := io.CopyN(&firstOf{&kept}, e.conn, int64(e.spec.Bytes))
		if err != nil && n > 0 {
			err = fmt.Errorf("after %d of %d bytes: %w", n, e.spec.Bytes, err)
		}
		return e.told(kept.Bytes(), err)
	}
	in := bufio.NewReader(io.LimitReader(e.conn, MaxBody))
	text, err := in.ReadBytes('\n')
	return e.told(text, err)
}

func (e *exchange) told(text []byte, err error) error {
	e.r.keep(text)
	e.r.who(string(text))
	e.r.Truncated = e.spec.Bytes > MaxBody
	if errors.Is(err, io.EOF) && len(text) == 0 {
		return errEmpty
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// firstOf keeps the first MaxBody bytes of what is written to it.
type firstOf struct{ kept *bytes.Buffer }

// Write implements io.Writer.
func (f *firstOf) Write(p []byte) (int, error) {
	f.kept.Write(p[:min(len(p), MaxBody-f.kept.Len())])
	return len(p), nil
}

// datagram sends one datagram and waits for one back.
func (e *exchange) datagram() error {
	if _, err := io.WriteString(e.conn, e.spec.hello()); err != nil {
		return err
	}
	buf := make([]byte, 64<<10) // more than any datagram carries
	n, err := e.conn.Read(buf)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	e.r.keep(buf[:n])
	e.r.who(string(buf[:n]))
	if e.spec.Bytes > 0 && n != e.spec.Bytes {
		return fmt.Errorf("%d bytes came, not %d", n, e.spec.Bytes)
	}
	return nil
}

// discard throws away the datagrams and errors that a socket has waiting.
func discard(c net.Conn) error {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return errors.New("only datagrams can come too late")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		one := make([]byte, 1)
		for {
			_, _, err := unix.Recvfrom(int(fd), one, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				return true
			}
		}
	})
}
