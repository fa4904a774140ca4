package serve

import (
	"net"
	"sync"
	"sync/atomic"
)

// Pauser is a daemon that can be stopped in its tracks.
type Pauser interface {
	// Pause makes the daemon hang, as SIGSTOP does: the kernel goes on taking
	// connections and datagrams for it, and nobody answers, neither those nor
	// what is open already. It is an error only where the daemon has ended.
	Pause() error
	// Resume lets it go on with what has come in meanwhile.
	Resume() error
}

// gate stands between a server and its sockets. It is open but for a pause.
type gate struct {
	shut atomic.Bool // what there is to look at while it is open

	mu    sync.Mutex
	open  chan struct{} // closed when the gate opens; nil while it is open
	ended bool
}

// close shuts the gate. One that has ended stays open.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil && !g.ended {
		g.open = make(chan struct{})
		g.shut.Store(true)
	}
}

// lift opens the gate again.
func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		g.shut.Store(false)
		close(g.open)
		g.open = nil
	}
}

// end opens the gate for good. Whoever waits there goes away empty-handed.
func (g *gate) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.lift()
}

// pass waits while the gate is shut. It is net.ErrClosed where the server was
// closed meanwhile, which then must not answer any more.
func (g *gate) pass() error {
	for g.shut.Load() {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		if open == nil {
			break
		}
		<-open
		g.mu.Lock()
		ended := g.ended
		g.mu.Unlock()
		if ended {
			return net.ErrClosed
		}
	}
	return nil
}

// running is a started server with its gate and its log.
type running struct {
	Daemon
	gate *gate
	log  *accessLog
}

// Close implements Daemon.
func (r *running) Close() error {
	r.gate.end() // what waits there could not be waited for
	return r.Daemon.Close()
}

// Pause implements Pauser.
func (r *running) Pause() error {
	r.gate.close()
	return nil
}

// Resume implements Pauser.
func (r *running) Resume() error {
	r.gate.lift()
	return nil
}

// Log implements Logger.
func (r *running) Log() []string { return r.log.lines() }

// gated are the connection's ends of a gate: nothing is read or written while it
// is shut.
type gated struct {
	net.Conn
	gate *gate
}

// Read implements net.Conn. What has come is kept back, so that a pause holds one
// who waits in here already.
func (c gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if closed := c.gate.pass(); closed != nil {
		return 0, closed
	}
	return n, err
}

// Write implements net.Conn.
func (c gated) Write(p []byte) (int, error) {
	if err := c.gate.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
