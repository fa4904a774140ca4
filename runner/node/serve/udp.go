package serve

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxDatagram is above what any UDP datagram carries, in bytes.
const maxDatagram = 64 << 10

// packets is a server of datagrams.
type packets struct {
	host  host
	tasks sync.WaitGroup
	once  sync.Once
}

// serveUDP answers each datagram with "NODE PEER\n"; one that reads "bytes N"
// with N bytes that begin so.
func serveUDP(h host) (Daemon, error) {
	p := &packets{host: h}
	for _, c := range h.packets {
		conn, err := answering(c)
		if err != nil {
			return nil, err
		}
		p.tasks.Go(func() {
			buf := make([]byte, maxDatagram)
			for {
				n, reply, peer, err := conn(buf)
				switch {
				case peer == nil && err != nil:
					return // closed
				case err != nil:
					continue // an ICMP error about an earlier answer
				}
				if h.gate.pass() != nil {
					return
				}
				h.asked(peer, "datagram", strings.TrimSpace(string(buf[:min(n, logWidth)])))
				answer := h.line(peer)
				want, ok := bulk(string(buf[:n]))
				if !ok || want >= maxDatagram {
					want = len(answer)
				}
				body, _ := io.ReadAll(filled(answer, want)) // from memory
				reply(body)
			}
		})
	}
	return p, nil
}

// receive reads one datagram and knows how to answer it.
type receive func(buf []byte) (n int, reply func([]byte), peer net.Addr, err error)

// answering makes answers come from the address that was asked. The kernel by
// itself takes the one that leads to the peer, which is not a virtual IP (ip(7),
// IP_PKTINFO; ipv6(7), IPV6_RECVPKTINFO).
func answering(c net.PacketConn) (receive, error) {
	if at, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil && at.Addr().Is4() {
		p := ipv4.NewPacketConn(c)
		if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return nil, err
		}
		return func(buf []byte) (int, func([]byte), net.Addr, error) {
			n, cm, peer, err := p.ReadFrom(buf)
			return n, func(b []byte) {
				out := &ipv4.ControlMessage{}
				if cm != nil {
					out.Src = cm.Dst
				}
				_, _ = p.WriteTo(b, out, peer) // the client's loss
			}, peer, err
		}, nil
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return nil, err
	}
	return func(buf []byte) (int, func([]byte), net.Addr, error) {
		n, cm, peer, err := p.ReadFrom(buf)
		return n, func(b []byte) {
			out := &ipv6.ControlMessage{}
			if cm != nil {
				out.Src = cm.Dst
			}
			_, _ = p.WriteTo(b, out, peer)
		}, peer, err
	}, nil
}

// Close implements Daemon.
func (p *packets) Close() error {
	p.once.Do(func() {
		p.host.close()
		p.tasks.Wait()
	})
	return nil
}
