package node

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Ports gives requests source ports one after another, each once. The kernel's
// own choice comes to a port a second time now and then, and IPVS still knows
// the connection that had it before: the request would go to that one's server,
// whatever the scheduler says. The zero value is ready; its methods may be
// called from any goroutine.
type Ports struct{ taken atomic.Uint32 }

// The range of ip_local_port_range, as the kernel has it (ip-sysctl.rst).
const (
	firstPort = 32768
	lastPort  = 60999
)

func (p *Ports) take() uint16 {
	n := p.taken.Add(1) - 1
	return uint16(firstPort + n%(lastPort-firstPort+1))
}

// portTries is how many ports are tried where others of the node's have them.
const portTries = 100

// lastWords is how long a port may still be busy with the end of its earlier
// connection: with the last acknowledgement of the other end, which is under
// way.
const lastWords = 2 * time.Second

// dialAgain connects from a port that may have had a connection a moment ago.
// Nothing is sent while the kernel says that the pair of addresses is in use.
func (e *exchange) dialAgain(network string) (net.Conn, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(lastWords); ; {
		conn, err := e.ns.DialFrom(e.ctx, network, e.spec.Source, e.spec.Addr)
		var call *os.SyscallError
		if !errors.Is(err, unix.EADDRNOTAVAIL) || !errors.As(err, &call) || call.Syscall != "connect" || time.Now().After(until) {
			return conn, err
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return nil, err
		}
	}
}

// dial connects, from a port of Ports where there is no other wish.
func (e *exchange) dial(network string) (net.Conn, error) {
	from := e.spec.Source
	if from.Port() != 0 {
		return e.dialAgain(network)
	}
	if e.spec.Ports == nil {
		return e.ns.DialFrom(e.ctx, network, from, e.spec.Addr)
	}
	addr := from.Addr()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	var conn net.Conn
	var err error
	for range portTries {
		conn, err = e.ns.DialFrom(e.ctx, network, netip.AddrPortFrom(addr, e.spec.Ports.take()), e.spec.Addr)
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return conn, err
}
