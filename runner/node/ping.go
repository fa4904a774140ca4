package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology/netns"
)

// DefaultPingTimeout bounds one echo when no timeout is named.
const DefaultPingTimeout = time.Second

// ICMP types, RFC 792, and their place in a raw socket's filter, raw(7).
const (
	icmpEchoReply   = 0
	icmpEcho        = 8
	icmpHeaderBytes = 8
)

// Echo is what came of one ping. Result is OK, Timeout, Unreachable (no route,
// no ARP answer, or a router said so) or Failed.
type Echo struct {
	// Seq counts from 1 and is the sequence number on the wire.
	Seq     int
	Result  Result
	Elapsed time.Duration
	// Err is nil when Result is OK.
	Err error
}

// Ping sends count ICMP echo requests to an IPv4 address from inside the
// namespace, each when the one before it is over, without ping(8)'s second in
// between. The timeout is for each; 0 means DefaultPingTimeout.
func Ping(ctx context.Context, ns *netns.Namespace, dst netip.Addr, count int, timeout time.Duration) []Echo {
	if timeout <= 0 {
		timeout = DefaultPingTimeout
	}
	p, err := newPinger(ns, dst)
	if err == nil {
		defer p.f.Close()
		stop := context.AfterFunc(ctx, func() { _ = p.f.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	echoes := make([]Echo, max(count, 0))
	for i := range echoes {
		e := Echo{Seq: i + 1}
		start := time.Now()
		failure := err
		if failure == nil {
			failure = p.echo(ctx, uint16(e.Seq), start.Add(timeout))
		}
		e.Elapsed = time.Since(start)
		e.Result = classify(failure)
		if failure != nil {
			if ctx.Err() != nil {
				e.Result, failure = Failed, context.Cause(ctx)
			}
			e.Err = fmt.Errorf("ping %s: %w", dst, failure)
		}
		echoes[i] = e
	}
	return echoes
}

// pinger is a raw socket: the unprivileged kind is closed even to root in a new
// namespace (net.ipv4.ping_group_range is empty there).
type pinger struct {
	f     *os.File
	id    uint16
	token [8]byte // tells this pinger's answers from another one's
}

func newPinger(ns *netns.Namespace, dst netip.Addr) (*pinger, error) {
	dst = dst.Unmap()
	if !dst.Is4() {
		return nil, fmt.Errorf("wanted an IPv4 address")
	}
	fd := -1
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return os.NewSyscallError("raw socket", err)
	})
	if err != nil {
		return nil, err
	}
	p := &pinger{f: os.NewFile(uintptr(fd), "icmp"), id: uint16(rand.Uint32())}
	binary.NativeEndian.PutUint64(p.token[:], rand.Uint64())
	// A set bit is a type that is not delivered: all but echo replies. Errors
	// come by IP_RECVERR, without which "no route to host" is kept to itself.
	var filter [4]byte
	binary.NativeEndian.PutUint32(filter[:], ^uint32(1<<icmpEchoReply))
	err = errors.Join(
		os.NewSyscallError("setsockopt ICMP_FILTER", unix.SetsockoptString(fd, unix.SOL_RAW, unix.ICMP_FILTER, string(filter[:]))),
		os.NewSyscallError("setsockopt IP_RECVERR", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)),
	)
	if err == nil {
		err = os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrInet4{Addr: dst.As4()}))
	}
	if err != nil {
		p.f.Close()
		return nil, err
	}
	return p, nil
}

func (p *pinger) echo(ctx context.Context, seq uint16, deadline time.Time) error {
	if err := p.f.SetDeadline(deadline); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // its end may have come before the deadline was set
		return err
	}
	if _, err := p.f.Write(p.packet(seq)); err != nil {
		return err
	}
	buf := make([]byte, 256)
	for {
		n, err := p.f.Read(buf)
		if err != nil {
			return err
		}
		if p.isReply(buf[:n], seq) {
			return nil
		}
	}
}

func (p *pinger) packet(seq uint16) []byte {
	b := make([]byte, icmpHeaderBytes, icmpHeaderBytes+len(p.token))
	b[0] = icmpEcho
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, p.token[:]...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// isReply looks into an IPv4 packet, as a raw socket delivers it.
func (p *pinger) isReply(b []byte, seq uint16) bool {
	if len(b) < 1 {
		return false
	}
	header := int(b[0]&0xf) * 4
	if header < 20 || len(b) < header+icmpHeaderBytes {
		return false
	}
	b = b[header:]
	return b[0] == icmpEchoReply && binary.BigEndian.Uint16(b[4:]) == p.id &&
		binary.BigEndian.Uint16(b[6:]) == seq && bytes.Equal(b[icmpHeaderBytes:], p.token[:])
}

// checksum is the Internet checksum, RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
