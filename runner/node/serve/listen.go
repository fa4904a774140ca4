package serve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// listen opens the server's sockets: at 0.0.0.0 and at [::], or at its address
// alone. Two sockets, and not one for both: package net decides once per
// process, in whatever namespace it happens to be, whether one can serve both,
// and lets nodes without IPv6 decide for the others.
func (h *host) listen(networks []string) error {
	at := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if h.d.Address.IsValid() {
		at = []netip.Addr{h.d.Address}
	}
	for _, network := range networks {
		for _, a := range at {
			err := h.open(network, netip.AddrPortFrom(a, h.d.Port))
			if a == netip.IPv6Unspecified() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
				continue // a kernel without the ipv6 module
			}
			if err != nil {
				h.close()
				return err
			}
		}
	}
	return nil
}

// portFree is how long a UDP port may take to be free after its socket's end.
const portFree = time.Second

func (h *host) open(network string, addr netip.AddrPort) error {
	if network == "udp" {
		c, err := h.ns.ListenPacket(context.Background(), network, addr)
		// What streamSocket says of copies holds for these sockets, too, and
		// nothing but the end of the last one frees their port.
		for until := time.Now().Add(portFree); errors.Is(err, unix.EADDRINUSE) && time.Now().Before(until); {
			time.Sleep(portFree / 200)
			c, err = h.ns.ListenPacket(context.Background(), network, addr)
		}
		if err == nil {
			h.packets = append(h.packets, c)
		}
		return err
	}
	l, err := h.ns.Listen(context.Background(), network, addr)
	if err == nil {
		h.streams = append(h.streams, streamSocket{l, h.gate})
	}
	return err
}

func (h *host) close() {
	for _, l := range h.streams {
		l.Close()
	}
	for _, c := range h.packets {
		c.Close()
	}
}

// streamSocket is a listener that is none any more when Close returns. A process
// that is being started has a copy of every descriptor until it becomes another
// program, in which a socket that is only closed would go on listening, and
// keep its port, for that while.
type streamSocket struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener.
func (s streamSocket) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := s.gate.pass(); err != nil {
		c.Close()
		return nil, err
	}
	return accepted{gated{c, s.gate}}, nil
}

// accepted is a connection that ends for all at its Close, whoever has a copy.
type accepted struct{ gated }

// Close implements net.Conn.
func (a accepted) Close() error { return netns.HangUp(a.Conn) }

// Close implements net.Listener.
func (s streamSocket) Close() error {
	if c, ok := s.Listener.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			// It ends the listening of all copies. Where it cannot, Close has
			// the last word.
			_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
		}
	}
	return s.Listener.Close()
}

// streams is a server of connections: it knows those that are open, so that
// they can be cut.
type streams struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	tasks  sync.WaitGroup
	host   host
	once   sync.Once
}

// serveEach runs f for every connection, each in a goroutine of its own, and
// closes the connection when f returns.
func serveEach(h host, f func(c net.Conn)) *streams {
	s := &streams{open: make(map[net.Conn]struct{}), host: h}
	for _, l := range h.streams {
		s.tasks.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed: clients see it
				}
				if !s.add(c) {
					c.Close()
					return
				}
				s.tasks.Go(func() {
					defer s.remove(c)
					f(c)
				})
			}
		})
	}
	return s
}

func (s *streams) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.open[c] = struct{}{}
	}
	return !s.closed
}

func (s *streams) remove(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// Close implements Daemon.
func (s *streams) Close() error {
	s.once.Do(func() {
		s.host.close()
		s.mu.Lock()
		s.closed = true
		for c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		s.tasks.Wait()
	})
	return nil
}

// oneConn is a listener that hands out one connection, for servers of others
// that take a listener and nothing less: their Serve then ends when the
// connection does.
type oneConn struct {
	conn  net.Conn
	given bool
	done  chan struct{}
	once  sync.Once
}

func newOneConn(c net.Conn) *oneConn { return &oneConn{conn: c, done: make(chan struct{})} }

// Accept implements net.Listener.
func (o *oneConn) Accept() (net.Conn, error) {
	if !o.given {
		o.given = true
		return &closing{Conn: o.conn, listener: o}, nil
	}
	<-o.done
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (o *oneConn) Close() error {
	o.once.Do(func() { close(o.done) })
	return nil
}

// Addr implements net.Listener.
func (o *oneConn) Addr() net.Addr { return o.conn.LocalAddr() }

// closing is a connection whose end ends its listener.
type closing struct {
	net.Conn
	listener *oneConn
}

// Close implements net.Conn.
func (c *closing) Close() error {
	_ = c.listener.Close()
	return c.Conn.Close()
}
