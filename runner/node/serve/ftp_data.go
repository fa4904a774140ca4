package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"goftp.io/server/v2"
)

// ftpDataTimeout bounds how long a data connection may take to come up.
const ftpDataTimeout = 30 * time.Second

// ftpSession is a control connection with what is known of its next data
// connection: where it is waited for (passive), or where it is to go (active).
type ftpSession struct {
	ctx     context.Context //nolint:containedctx // it ends with the server
	host    host
	control net.Conn
	passive net.Listener
	active  netip.AddrPort
}

// drop forgets the data connection that was agreed on.
func (f *ftpSession) drop() {
	if f.passive != nil {
		f.passive.Close()
	}
	f.passive, f.active = nil, netip.AddrPort{}
}

// listen waits for a data connection at the address that the client asked.
func (f *ftpSession) listen() (netip.AddrPort, error) {
	f.drop()
	at := f.localAddr().Addr()
	first, last := f.host.d.PassiveFirst, f.host.d.PassiveLast
	var err error
	for port := first; ; port++ {
		var l net.Listener
		if l, err = f.host.ns.Listen(context.Background(), "tcp", netip.AddrPortFrom(at, port)); err == nil {
			f.passive = l
			return netip.ParseAddrPort(l.Addr().String())
		}
		if port >= last {
			return netip.AddrPort{}, err
		}
	}
}

// pasv implements PASV (RFC 959, 4.1.2).
func (f *ftpSession) pasv(s *server.Session, _ string) {
	if !f.localAddr().Addr().Is4() {
		s.WriteMessage(425, "PASV is for IPv4; use EPSV")
		return
	}
	at, err := f.listen()
	if err != nil {
		s.WriteMessage(425, "no data connection: "+err.Error())
		return
	}
	s.WriteMessage(227, fmt.Sprintf("Entering Passive Mode (%s,%d,%d)", strings.ReplaceAll(at.Addr().Unmap().String(), ".", ","), at.Port()>>8, at.Port()&0xff))
}

// epsv implements EPSV (RFC 2428).
func (f *ftpSession) epsv(s *server.Session, _ string) {
	at, err := f.listen()
	if err != nil {
		s.WriteMessage(425, "no data connection: "+err.Error())
		return
	}
	s.WriteMessage(229, fmt.Sprintf("Entering Extended Passive Mode (|||%d|)", at.Port()))
}

// port implements PORT (RFC 959, 4.1.2).
func (f *ftpSession) port(s *server.Session, param string) {
	at, err := parsePort(param)
	f.agree(s, at, err)
}

// eprt implements EPRT (RFC 2428).
func (f *ftpSession) eprt(s *server.Session, param string) {
	at, err := parseEPRT(param)
	f.agree(s, at, err)
}

func (f *ftpSession) agree(s *server.Session, at netip.AddrPort, err error) {
	f.drop()
	if err != nil {
		s.WriteMessage(501, err.Error())
		return
	}
	f.active = at
	s.WriteMessage(200, "data goes to "+at.String())
}

// parsePort reads PORT's h1,h2,h3,h4,p1,p2.
func parsePort(param string) (netip.AddrPort, error) {
	words := strings.Split(strings.TrimSpace(param), ",")
	if len(words) != 6 {
		return netip.AddrPort{}, fmt.Errorf("wanted six numbers with commas between, found %q", param)
	}
	var b [6]byte
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 8)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not from 0 to 255", w)
		}
		b[i] = byte(n)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), nil
}

// parseEPRT reads EPRT's |1|10.0.0.1|1234|, or |2|fd00::1|1234|; the delimiter is
// whatever comes first.
func parseEPRT(param string) (netip.AddrPort, error) {
	param = strings.TrimSpace(param)
	bad := fmt.Errorf("wanted |1|ADDRESS|PORT| or |2|ADDRESS|PORT|, found %q", param)
	if param == "" {
		return netip.AddrPort{}, bad
	}
	words := strings.Split(param, param[:1])
	if len(words) != 5 {
		return netip.AddrPort{}, bad
	}
	a, err := netip.ParseAddr(words[2])
	port, err2 := strconv.ParseUint(words[3], 10, 16)
	if err != nil || err2 != nil || a.Zone() != "" || (words[1] == "1") != a.Is4() || words[1] != "1" && words[1] != "2" {
		return netip.AddrPort{}, bad
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// list implements LIST (RFC 959); its lines are as those of ls -l, which clients
// can read.
func (f *ftpSession) list(s *server.Session, _ string) {
	line := f.host.line(f.control.RemoteAddr())
	f.send(s, strings.NewReader(fmt.Sprintf("-r--r--r-- 1 %s %s %d Jan  1  1970 %s\r\n",
		f.host.name, peerOf(f.control.RemoteAddr()), len(line), f.host.name)))
}

// nlst implements NLST (RFC 959).
func (f *ftpSession) nlst(s *server.Session, _ string) {
	f.send(s, strings.NewReader(f.host.name+"\r\n"))
}

// retr implements RETR (RFC 959).
func (f *ftpSession) retr(s *server.Session, param string) {
	_, r, err := ftpFiles{f.host.line(f.control.RemoteAddr())}.GetFile(nil, s.BuildPath(param), 0)
	if err != nil {
		s.WriteMessage(550, err.Error())
		return
	}
	f.send(s, r)
}

// send brings the data connection up and sends what is in r over it.
func (f *ftpSession) send(s *server.Session, r io.Reader) {
	defer f.drop()
	if f.passive == nil && !f.active.IsValid() {
		s.WriteMessage(425, "say PASV, EPSV, PORT or EPRT first")
		return
	}
	s.WriteMessage(150, "here it comes")
	c, err := f.connect()
	if err != nil {
		s.WriteMessage(425, "no data connection: "+err.Error())
		return
	}
	_, err = io.Copy(c, r)
	if closeErr := c.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.WriteMessage(426, "data connection broken: "+err.Error())
		return
	}
	s.WriteMessage(226, "that was all")
}

// connect brings the data connection up.
func (f *ftpSession) connect() (net.Conn, error) {
	c, err := f.dataConn()
	if err != nil {
		return nil, err
	}
	return gated{c, f.host.gate}, nil
}

// dataConn is the data connection. An active one comes from the port before the
// control connection's (RFC 959, 3.3: "default data port").
func (f *ftpSession) dataConn() (net.Conn, error) {
	if f.passive == nil {
		ctx, cancel := context.WithTimeout(f.ctx, ftpDataTimeout)
		defer cancel()
		own := f.localAddr()
		return f.host.ns.DialFrom(ctx, "tcp", netip.AddrPortFrom(own.Addr(), own.Port()-1), f.active)
	}
	if d, ok := f.passive.(interface{ SetDeadline(t time.Time) error }); ok {
		if err := d.SetDeadline(time.Now().Add(ftpDataTimeout)); err != nil {
			return nil, err
		}
	}
	l := f.passive
	defer context.AfterFunc(f.ctx, func() { l.Close() })()
	return l.Accept()
}
