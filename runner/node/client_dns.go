package node

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// DNSName is what the DNS client asks for, a TXT record.
const DNSName = "server.lab."

// dns asks one question over UDP or TCP. Any answer to it counts, a refusal in
// DNS's own words too; the TXT record's two strings are the server and the
// client as it saw it.
func (e *exchange) dns() error {
	q := new(dns.Msg)
	q.SetQuestion(DNSName, dns.TypeTXT)
	conn := &dns.Conn{Conn: e.conn, UDPSize: dns.DefaultMsgSize}
	if err := conn.WriteMsg(q); err != nil {
		return err
	}
	for {
		m, err := conn.ReadMsg()
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if m.Id != q.Id || !m.Response {
			continue // an answer to an earlier question, or none
		}
		e.r.Status = m.Rcode
		e.r.keep([]byte(m.String()))
		if m.Rcode != dns.RcodeSuccess {
			return errors.New("the server answers " + dns.RcodeToString[m.Rcode])
		}
		for _, rr := range m.Answer {
			if txt, ok := rr.(*dns.TXT); ok && len(txt.Txt) > 0 {
				e.r.Server = txt.Txt[0]
				if len(txt.Txt) > 1 {
					if peer, err := netip.ParseAddr(txt.Txt[1]); err == nil {
						e.r.Peer = peer
					}
				}
			}
		}
		return nil
	}
}
