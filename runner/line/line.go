// Package line makes a connection of a stream of bytes whose other end must not
// be flooded: a serial line into a guest. What travels are frames; each side
// says how many bytes it has taken, and the other never has more on the way than
// was agreed. A line that goes silent, or that brings something else than
// frames, is an error.
//
// User-Mode Linux needs this: a burst of 4096 unread bytes towards the guest
// stops the input of its serial line for good.
package line

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Windows that have been agreed between host and guest, in bytes.
const (
	// ToGuest is half of the burst that stops the line of User-Mode Linux.
	ToGuest = 2048
	// ToHost is more than a guest writes while it waits for credits.
	ToHost = 4 << 20
	// MinWindow and MaxWindow bound Options.Send and Options.Receive.
	MinWindow = 256
	MaxWindow = 8 << 20
)

// Options are what both ends of a line have agreed upon, and what this one does
// beside.
type Options struct {
	// Send is how many bytes may be on the way to the other side that it has not
	// taken yet, all of a frame included. The other side's Receive is the same.
	Send int
	// Receive is how many bytes the other side may have on the way to this one.
	Receive int
	// Beat is how often to send a sign of life; 0 means never.
	Beat time.Duration
	// Silence ends the line when nothing came for that long; 0 means never.
	// Time in which this process was stopped does not count.
	Silence time.Duration
}

// Conn is one end of a line. It implements net.Conn.
type Conn struct {
	rw io.ReadWriteCloser
	o  Options

	writing sync.Mutex // held by Write, whose frames belong together

	mu         sync.Mutex // guards what follows
	news       *sync.Cond // something of what follows has changed
	received   buffer
	held       int // bytes that came and were not credited yet
	owed       int // those of them that were taken
	inFlight   int // bytes sent and not credited by the other side yet
	readUntil  deadline
	writeUntil deadline
	heard      bool // since watch looked last
	err        error
	// out is what is to be written next; writingOut says that more is being
	// written. outNews is news of these, which who reads need not wake for.
	out        []byte
	writingOut bool
	failed     error // of a write
	outNews    *sync.Cond

	// control wakes the goroutine that sends credits.
	control chan struct{}
	done    chan struct{}
}

var _ net.Conn = (*Conn)(nil)

// New makes a connection of one end of a stream, which belongs to it from now
// on: it is closed with the connection. Windows beyond MinWindow and MaxWindow
// are a programmer's mistake, and a panic.
func New(rw io.ReadWriteCloser, o Options) *Conn {
	for _, w := range []int{o.Send, o.Receive} {
		if w < MinWindow || w > MaxWindow {
			panic(fmt.Sprintf("line: window of %d bytes, wanted %d to %d", w, MinWindow, MaxWindow))
		}
	}
	c := &Conn{rw: rw, o: o, control: make(chan struct{}, 1), done: make(chan struct{})}
	c.news, c.outNews = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	c.readUntil.news, c.writeUntil.news = c.news, c.news
	go c.receive()
	go c.write()
	go c.answer()
	if o.Silence > 0 {
		go c.watch()
	}
	return c
}

// quantum is how many taken bytes are worth a credit, by the window that they
// count against.
func quantum(window int) int { return window / 4 }

// reserve is the part of a window that data leaves to credits and beats. It is
// more than a quantum: the other side, which takes those at once, then owes
// credit for some of them before it is used up, so that credits always get
// through, whoever floods whom and whoever does not read.
func reserve(window int) int { return quantum(window) + 16*headerSize }

// Done is closed when the line has ended, for the reason that Err gives.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the line ended: io.EOF where the other side closed it,
// net.ErrClosed after Close; nil while it has not ended.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close implements net.Conn. What Write has returned from is on its way; what
// came and was not read is lost.
func (c *Conn) Close() error {
	late := time.AfterFunc(drain, func() { c.end(net.ErrClosed) })
	defer late.Stop()
	c.mu.Lock()
	for (len(c.out) > 0 || c.writingOut) && c.err == nil && c.failed == nil {
		c.outNews.Wait()
	}
	c.mu.Unlock()
	c.end(net.ErrClosed)
	return nil
}

// end ends the line. The first reason counts.
func (c *Conn) end(why error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = why
		close(c.done)
		c.news.Broadcast()
		c.outNews.Broadcast()
	}
	c.mu.Unlock()
	if first {
		_ = c.rw.Close()
	}
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "line" }
func (addr) String() string  { return "line" }
