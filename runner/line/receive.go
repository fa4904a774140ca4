package line

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// ErrSilent is within the error of a line on which nothing came for
// Options.Silence.
var ErrSilent = errors.New("not a sign of life")

// Read implements net.Conn. What came before the line's end is read first.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.received.size == 0 && c.err == nil && !c.readUntil.passed() {
		if len(p) == 0 {
			return 0, nil
		}
		c.news.Wait()
	}
	switch {
	case errors.Is(c.err, net.ErrClosed):
		return 0, c.err
	case c.err == nil && c.readUntil.passed():
		return 0, os.ErrDeadlineExceeded
	case c.received.size == 0:
		return 0, c.err
	}
	n := c.received.read(p)
	c.take(n)
	return n, nil
}

// take counts bytes that came and are out of the way. mu is held.
func (c *Conn) take(n int) {
	c.owed += n
	if c.owed >= quantum(c.o.Receive) {
		c.wakeControl()
	}
}

func (c *Conn) wakeControl() {
	select {
	case c.control <- struct{}{}:
	default:
	}
}

// receive reads frames until the line ends. It waits for nobody: what it may
// have to keep is bounded by the window.
func (c *Conn) receive() {
	r := bufio.NewReaderSize(heardReader{c}, maxData+headerSize)
	scratch := make([]byte, maxData)
	for {
		f, err := readHeader(r)
		if err == nil {
			err = c.count(f)
		}
		if err == nil && f.kind == dataFrame {
			err = c.data(r, f.number, scratch)
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// heardReader notes that something came.
type heardReader struct{ c *Conn }

func (h heardReader) Read(p []byte) (int, error) {
	n, err := h.c.rw.Read(p)
	if n > 0 {
		h.c.mu.Lock()
		h.c.heard = true
		h.c.mu.Unlock()
	}
	return n, err
}

// count takes note of a frame whose header has come.
func (c *Conn) count(f frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := headerSize
	if f.kind == dataFrame {
		size += f.number
	}
	if c.held += size; c.held > c.o.Receive {
		return fmt.Errorf("the other side has %d bytes on the way that were not taken, wanted at most %d: use the same lvslab on both sides", c.held, c.o.Receive)
	}
	c.take(headerSize)
	if f.kind == creditFrame {
		if f.number > c.inFlight {
			return fmt.Errorf("%w: credit for %d bytes, and %d were on the way", ErrGarbage, f.number, c.inFlight)
		}
		c.inFlight -= f.number
		c.news.Broadcast()
		c.wakeControl()
	}
	return nil
}

// data passes on the bytes of a frame, as they come.
func (c *Conn) data(r io.Reader, left int, scratch []byte) error {
	for left > 0 {
		n, err := r.Read(scratch[:left])
		if n > 0 {
			left -= n
			c.mu.Lock()
			c.received.write(scratch[:n])
			c.news.Broadcast()
			c.mu.Unlock()
		}
		switch {
		case left == 0:
			return nil // an error comes again
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: a frame lacks its last %d bytes", io.ErrUnexpectedEOF, left)
		case err != nil:
			return err
		}
	}
	return nil
}

// watch ends the line when nothing comes. It looks several times in the time
// that is to pass: one that was stopped meanwhile, together with this process,
// has not been silent.
func (c *Conn) watch() {
	const looks = 8
	tick := time.NewTicker(max(c.o.Silence/looks, time.Millisecond))
	defer tick.Stop()
	for missed := 0; missed <= looks; {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		missed++
		if c.heard {
			missed, c.heard = 0, false
		}
		c.mu.Unlock()
	}
	c.end(fmt.Errorf("%w for %v", ErrSilent, c.o.Silence))
}
