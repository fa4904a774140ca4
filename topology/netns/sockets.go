package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from inside the namespace; the connection may be used anywhere.
// The network is tcp, tcp4, tcp6, udp, udp4 or udp6. It makes one socket and
// connects it once; net.Dialer, beside making the socket on whatever thread it
// runs, tries again by itself in some cases, which would be a second request on
// a lab's wire. Errors are *net.OpError inside, with the kernel's errno, or with
// ctx's error when ctx ended first.
func (n *Namespace) Dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	conn, err := n.dial(ctx, network, addr)
	if err != nil {
		op := &net.OpError{Op: "dial", Net: network, Err: err}
		if addr.IsValid() {
			op.Addr = net.TCPAddrFromAddrPort(addr)
		}
		return nil, n.errorf("%w", op)
	}
	return conn, nil
}

func (n *Namespace) dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	network, err := exactNetwork(network, addr)
	if err != nil {
		return nil, err
	}
	sa, family, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	kind := unix.SOCK_STREAM
	if network[:3] == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd := -1
	err = n.do(ctx, func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	// A descriptor that does not block is given to the runtime's poller.
	f := os.NewFile(uintptr(fd), network)
	defer func() { _ = f.Close() }()
	if err := connect(ctx, f, sa); err != nil {
		return nil, err
	}
	return net.FileConn(f) // has a duplicate of its own
}

// connect brings a connection up, or ends when ctx does.
func connect(ctx context.Context, f *os.File, sa unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := f.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	// A deadline that has passed wakes the poller.
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()

	started := false
	var result error
	err = raw.Write(func(fd uintptr) (done bool) {
		if !started {
			started = true
			result = unix.Connect(int(fd), sa)
			if errors.Is(result, unix.EINPROGRESS) || errors.Is(result, unix.EINTR) {
				return false
			}
			return true
		}
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case errno != 0:
			result = syscall.Errno(errno)
		default:
			// The poller may wake for nothing: connected is what has a peer.
			if _, err := unix.Getpeername(int(fd)); err == unix.ENOTCONN {
				return false
			}
			result = nil
		}
		return true
	})
	if err != nil {
		if os.IsTimeout(err) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return context.DeadlineExceeded // the poller's clock was the faster one
		}
		return err
	}
	return os.NewSyscallError("connect", result)
}

// Listen opens a TCP socket (network tcp, tcp4 or tcp6) that listens in the
// namespace; it may be used anywhere. An IPv4 address takes IPv4 only, 0.0.0.0
// included. Multipath TCP is off.
func (n *Namespace) Listen(ctx context.Context, network string, addr netip.AddrPort) (net.Listener, error) {
	exact, err := exactNetwork(network, addr)
	if err != nil {
		return nil, n.errorf("listen: %w", err)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var l net.Listener
	// Given an address and no name, Listen stays on the calling goroutine.
	err = n.do(ctx, func() (err error) {
		l, err = lc.Listen(ctx, exact, addr.String())
		return err
	})
	if err != nil {
		return nil, n.errorf("%w", err)
	}
	return l, nil
}

// ListenPacket opens a UDP socket (network udp, udp4 or udp6) in the namespace,
// bound to addr; it may be used anywhere.
func (n *Namespace) ListenPacket(ctx context.Context, network string, addr netip.AddrPort) (net.PacketConn, error) {
	exact, err := exactNetwork(network, addr)
	if err != nil {
		return nil, n.errorf("listen: %w", err)
	}
	var lc net.ListenConfig
	var c net.PacketConn
	err = n.do(ctx, func() (err error) {
		c, err = lc.ListenPacket(ctx, exact, addr.String())
		return err
	})
	if err != nil {
		return nil, n.errorf("%w", err)
	}
	return c, nil
}

// exactNetwork puts the address's family into the network's name, so that
// package net has nothing to guess from what it once found on the host.
func exactNetwork(network string, addr netip.AddrPort) (string, error) {
	if !addr.IsValid() {
		return "", fmt.Errorf("no address given")
	}
	family := "6"
	if addr.Addr().Is4() || addr.Addr().Is4In6() {
		family = "4"
	}
	switch network {
	case "tcp", "udp":
		return network + family, nil
	case "tcp4", "tcp6", "udp4", "udp6":
		if network[3:] == family {
			return network, nil
		}
		return "", fmt.Errorf("address %s is not of network %s", addr, network)
	}
	return "", fmt.Errorf("network %q: %w (known: tcp, tcp4, tcp6, udp, udp4, udp6)", network, net.UnknownNetworkError(network))
}

func sockaddr(addr netip.AddrPort) (sa unix.Sockaddr, family int, err error) {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, unix.AF_INET, nil
	}
	sa6 := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		index, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			return nil, 0, fmt.Errorf("address %s: wanted an interface index as its zone", addr)
		}
		sa6.ZoneId = uint32(index)
	}
	return sa6, unix.AF_INET6, nil
}
