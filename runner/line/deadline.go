package line

import (
	"sync"
	"time"
)

// deadline is a time that wakes who waits. The lock of news guards it.
type deadline struct {
	news  *sync.Cond
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			d.news.L.Lock()
			defer d.news.L.Unlock()
			d.news.Broadcast()
		})
	}
	d.news.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// SetDeadline implements net.Conn. A frame that is being written is not cut
// short: a stream that takes no bytes any more ends by Silence, or by Close.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readUntil.set(t)
	c.writeUntil.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readUntil.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn, with what SetDeadline says of it.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeUntil.set(t)
	return nil
}
