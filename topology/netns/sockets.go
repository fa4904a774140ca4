package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from inside the namespace; the connection may be used anywhere.
// The network is tcp, udp or sctp, or one of these with its family, as in tcp4.
// It makes one socket and connects it once; net.Dialer, beside making the socket on whatever thread it
// runs, tries again by itself in some cases, which would be a second request on
// a lab's wire. Errors are *net.OpError inside, with the kernel's errno, or with
// ctx's error when ctx ended first; their Source is the client's end, once the
// kernel had chosen it.
//
// SCTP is of the one-to-one style (sctp(7)), which is used as a TCP socket is,
// and so its connection is a *net.TCPConn: package net knows no other kind of
// stream. A kernel without SCTP answers EPROTONOSUPPORT.
func (n *Namespace) Dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	return n.DialFrom(ctx, network, netip.AddrPort{}, addr)
}

// DialFrom is Dial from an address or a port of one's own: what is not valid, or
// not specified, or 0, the kernel chooses when it connects, when it knows the
// whole 5-tuple, so that a port that another connection uses serves this one too
// (ip(7), IP_BIND_ADDRESS_NO_PORT).
func (n *Namespace) DialFrom(ctx context.Context, network string, local, addr netip.AddrPort) (net.Conn, error) {
	conn, source, err := n.dial(ctx, network, local, addr)
	if err != nil {
		op := &net.OpError{Op: "dial", Net: network, Err: err}
		if source.IsValid() {
			op.Source = net.TCPAddrFromAddrPort(source)
		}
		if addr.IsValid() {
			op.Addr = net.TCPAddrFromAddrPort(addr)
		}
		return nil, n.errorf("%w", op)
	}
	return conn, nil
}

func (n *Namespace) dial(ctx context.Context, network string, local, addr netip.AddrPort) (conn net.Conn, source netip.AddrPort, err error) {
	if network, err = exactNetwork(network, addr); err != nil {
		return nil, source, err
	}
	sa, family, err := sockaddr(addr)
	if err != nil {
		return nil, source, err
	}
	fd, err := n.socket(ctx, network, family)
	if err != nil {
		return nil, source, err
	}
	// A descriptor that does not block is given to the runtime's poller.
	f := os.NewFile(uintptr(fd), network)
	defer func() { _ = f.Close() }()
	if err := bindFrom(fd, network, family, local); err != nil {
		return nil, source, err
	}
	if err := connect(ctx, f, sa, &source); err != nil {
		return nil, source, err
	}
	conn, err = net.FileConn(f) // has a duplicate of its own
	return conn, source, err
}

// socket makes a socket that does not block.
func (n *Namespace) socket(ctx context.Context, network string, family int) (fd int, err error) {
	kind, protocol := unix.SOCK_STREAM, 0
	switch network[:3] {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "sct":
		protocol = unix.IPPROTO_SCTP
	}
	err = n.do(ctx, func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// bindFrom gives a socket the caller's own end, as far as there is one.
func bindFrom(fd int, network string, family int, local netip.AddrPort) error {
	if !local.IsValid() || local.Addr().IsUnspecified() && local.Port() == 0 {
		return nil
	}
	sa, own, err := sockaddr(local)
	switch {
	case err != nil:
		return err
	case own != family && local.Addr().IsUnspecified(): // a port of either family
		sa = &unix.SockaddrInet6{Port: int(local.Port())}
		if family == unix.AF_INET {
			sa = &unix.SockaddrInet4{Port: int(local.Port())}
		}
	case own != family:
		return fmt.Errorf("source %s is of the other family", local)
	}
	if local.Port() == 0 && network[:3] != "sct" { // SCTP chooses when it binds
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
		}
	}
	// A port whose earlier connection rests (TIME_WAIT) may be bound again.
	if local.Port() != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// connect brings a connection up, or ends when ctx does. Where it comes from is
// known as soon as the kernel has sent something, and no longer when that was
// refused.
func connect(ctx context.Context, f *os.File, sa unix.Sockaddr, source *netip.AddrPort) error {
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
			*source = sockname(int(fd))
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

// sockname is a socket's own end, invalid when it has none.
func sockname(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Listen opens a socket (network tcp, sctp, or one of these with its family) that
// listens in the namespace; it may be used anywhere. An IPv4 address takes IPv4 only, 0.0.0.0
// included. Multipath TCP is off.
func (n *Namespace) Listen(ctx context.Context, network string, addr netip.AddrPort) (net.Listener, error) {
	exact, err := exactNetwork(network, addr)
	if err != nil {
		return nil, n.errorf("listen: %w", err)
	}
	if exact[:3] == "sct" {
		l, err := n.listenSCTP(ctx, exact, addr)
		if err != nil {
			return nil, n.errorf("listen %s %s: %w", exact, addr, err)
		}
		return l, nil
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

// listenSCTP is Listen for one-to-one SCTP, see Dial.
func (n *Namespace) listenSCTP(ctx context.Context, network string, addr netip.AddrPort) (net.Listener, error) {
	sa, family, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	fd, err := n.socket(ctx, network, family)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), network)
	defer func() { _ = f.Close() }()
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(f) // has a duplicate of its own
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
	case "tcp", "udp", "sctp":
		return network + family, nil
	case "tcp4", "tcp6", "udp4", "udp6", "sctp4", "sctp6":
		if strings.HasSuffix(network, family) {
			return network, nil
		}
		return "", fmt.Errorf("address %s is not of network %s", addr, network)
	}
	return "", fmt.Errorf("network %q: %w (known: tcp, udp, sctp, and each with 4 or 6)", network, net.UnknownNetworkError(network))
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
