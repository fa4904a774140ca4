package line

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Write implements net.Conn. It returns when all of p is on its way, for which the
// other side must take what it gets.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	done := 0
	for {
		n, err := c.admit(len(p) - done)
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, nil
		}
		if err := c.put(frame{dataFrame, n}, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
}

// admit waits until data may be sent and says how much of it.
func (c *Conn) admit(size int) (int, error) {
	room := c.o.Send - reserve(c.o.Send)
	// Frames of a few bytes each are not worth their headers. So much becomes
	// free whatever the other side still owes.
	worth := min(size+headerSize, quantum(c.o.Send))
	c.mu.Lock()
	defer c.mu.Unlock()
	for size > 0 && room-c.inFlight < worth && c.err == nil && !c.writeUntil.passed() {
		c.news.Wait()
	}
	switch {
	case errors.Is(c.err, io.EOF):
		return 0, fmt.Errorf("the other side has closed the line: %w", io.ErrClosedPipe)
	case c.err != nil:
		return 0, c.err
	case c.writeUntil.passed():
		return 0, os.ErrDeadlineExceeded
	case size == 0:
		return 0, nil
	}
	n := min(size, room-c.inFlight-headerSize, maxData)
	c.inFlight += headerSize + n
	return n, nil
}

// drain is how long a line that takes nothing any more may still bring what is on
// its way to this side.
const drain = time.Second

// put sends a frame that has been counted as in flight, which bounds what waits
// here. What comes together is written at once: a turn of a serial line is dear.
func (c *Conn) put(f frame, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	if errors.Is(c.err, net.ErrClosed) {
		return c.err
	}
	c.out = append(appendHeader(c.out, f), data...)
	if !c.writingOut {
		c.outNews.Broadcast()
	}
	return nil
}

// write passes what was put to the stream until the line ends. An error is the
// end of the line, but what came before it is still to be read.
func (c *Conn) write() {
	var spare []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.out) == 0 && c.err == nil {
			c.outNews.Wait()
		}
		if c.err != nil {
			return
		}
		batch := c.out
		c.out = spare[:0]
		c.writingOut = true
		c.mu.Unlock()
		_, err := c.rw.Write(batch)
		spare = batch
		c.mu.Lock()
		c.writingOut = false
		if err == nil {
			if len(c.out) == 0 {
				c.outNews.Broadcast() // Close may wait for that
			}
			continue
		}
		c.outNews.Broadcast()
		if c.failed = err; !errors.Is(c.err, net.ErrClosed) {
			time.AfterFunc(drain, func() { c.end(err) })
		}
		return
	}
}

// answer sends credits and beats until the line ends.
func (c *Conn) answer() {
	var beat <-chan time.Time
	if c.o.Beat > 0 {
		tick := time.NewTicker(c.o.Beat)
		defer tick.Stop()
		beat = tick.C
	}
	for {
		var f frame
		var ok bool
		select {
		case <-c.done:
			return
		case <-c.control:
			f, ok = c.credit()
		case <-beat:
			f, ok = c.beat()
		}
		if ok && c.put(f, nil) != nil {
			return
		}
	}
}

// credit is the credit that is due, if any is and may be sent. Who makes room
// for one wakes answer again.
func (c *Conn) credit() (frame, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owed < quantum(c.o.Receive) || c.inFlight+headerSize > c.o.Send {
		return frame{}, false
	}
	f := frame{creditFrame, min(c.owed, maxNumber)}
	c.owed -= f.number
	c.held -= f.number
	c.inFlight += headerSize
	return f, true
}

// beat is a sign of life, if it may be sent.
func (c *Conn) beat() (frame, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inFlight+headerSize > c.o.Send {
		return frame{}, false
	}
	c.inFlight += headerSize
	return frame{beatFrame, 0}, true
}
