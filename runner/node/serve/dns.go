package serve

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// dnsTTL is that of every answer, in seconds: none is to be kept.
const dnsTTL = 0

type dnsDaemon struct {
	host    host
	servers []*dns.Server
	tasks   sync.WaitGroup
	once    sync.Once
	err     error
}

// serveDNS answers a TXT query for any name with the two strings NODE and PEER,
// and an A or AAAA query with the node's own address; each answer brings the TXT
// record along. Other types have no data.
func serveDNS(h host) (Daemon, error) {
	d := &dnsDaemon{host: h}
	add := func(s *dns.Server) {
		s.Handler = dns.HandlerFunc(h.resolve)
		s.DecorateReader = func(r dns.Reader) dns.Reader { return gatedReader{r, h.gate} }
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		d.servers = append(d.servers, s)
		failed := make(chan error, 1)
		d.tasks.Go(func() { failed <- s.ActivateAndServe() })
		// A server that is shut down before it has begun would serve for ever.
		select {
		case <-up:
		case err := <-failed:
			d.err = errors.Join(d.err, err)
		}
	}
	for _, c := range h.packets {
		add(&dns.Server{PacketConn: c})
	}
	for _, l := range h.streams {
		add(&dns.Server{Listener: l})
	}
	if d.err != nil {
		err := d.err
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

func (h host) resolve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(m) // the client's loss, here and below
		return
	}
	question := q.Question[0]
	h.asked(w.RemoteAddr(), dns.TypeToString[question.Qtype], question.Name)
	head := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: question.Name, Rrtype: t, Class: dns.ClassINET, Ttl: dnsTTL}
	}
	who := &dns.TXT{Hdr: head(dns.TypeTXT), Txt: []string{h.name, peerOf(w.RemoteAddr())}}
	switch question.Qtype {
	case dns.TypeTXT, dns.TypeANY:
		m.Answer = []dns.RR{who}
	case dns.TypeA:
		if at, ok := h.own(netlink.FAMILY_V4); ok {
			m.Answer, m.Extra = []dns.RR{&dns.A{Hdr: head(dns.TypeA), A: at.AsSlice()}}, []dns.RR{who}
		}
	case dns.TypeAAAA:
		if at, ok := h.own(netlink.FAMILY_V6); ok {
			m.Answer, m.Extra = []dns.RR{&dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: at.AsSlice()}}, []dns.RR{who}
		}
	}
	_ = w.WriteMsg(m)
}

// gatedReader holds back the datagrams that it has read; what comes by TCP is
// held back by its connections.
type gatedReader struct {
	dns.Reader
	gate *gate
}

// ReadUDP implements dns.Reader.
func (r gatedReader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	m, s, err := r.Reader.ReadUDP(conn, timeout)
	if closed := r.gate.pass(); closed != nil {
		return nil, nil, closed
	}
	return m, s, err
}

// own is the node's first address of a family that is on one of its links, as
// the kernel has it now; a virtual IP on lo is nobody's own.
func (h host) own(family int) (netip.Addr, bool) {
	list, err := h.ns.Netlink().AddrList(nil, family)
	if err != nil {
		return netip.Addr{}, false // the answer then has no data
	}
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); ok && a.LinkIndex != loopback && addr.IsGlobalUnicast() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// loopback is lo's number in every namespace (include/net/flow.h,
// LOOPBACK_IFINDEX).
const loopback = 1

// Close implements Daemon.
func (d *dnsDaemon) Close() error {
	d.once.Do(func() {
		for _, s := range d.servers {
			_ = s.Shutdown() // its sockets are closed below either way
		}
		d.host.close()
		d.tasks.Wait()
	})
	return nil
}
