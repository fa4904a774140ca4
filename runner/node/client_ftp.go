package node

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// ftp logs in and fetches one file, or a listing (RFC 959). A connection that is
// held has only logged in.
func (e *exchange) ftp() error {
	d := dialogue{textproto.NewConn(e.conn), e.r}
	if err := d.greeting(); err != nil {
		return err
	}
	if _, err := d.say(3, "USER anonymous"); err != nil {
		return fmt.Errorf("USER: %w", err)
	}
	if _, err := d.say(2, "PASS lvslab@%s", e.ns.Name()); err != nil {
		return fmt.Errorf("PASS: %w", err)
	}
	if e.spec.Hold {
		return nil
	}
	if _, err := d.say(2, "TYPE I"); err != nil {
		return fmt.Errorf("TYPE: %w", err)
	}
	path := e.spec.Path
	command := "RETR " + path
	if path == "" || strings.HasSuffix(path, "/") {
		command = strings.TrimSpace("LIST " + strings.TrimSuffix(path, "/"))
	}
	transfer := e.passive
	if e.spec.Active {
		transfer = e.active
	}
	body, err := transfer(d, command)
	if err != nil {
		return err
	}
	e.r.keep(body)
	if words := strings.Fields(string(body)); strings.HasPrefix(command, "RETR") {
		e.r.who(string(body))
	} else if len(words) > 3 && words[2] == e.r.Server {
		e.r.who(words[2] + " " + words[3])
	}
	if e.spec.Bytes > 0 && len(body) != e.spec.Bytes {
		return fmt.Errorf("%d bytes came, not %d", len(body), e.spec.Bytes)
	}
	status := e.r.Status
	if _, err := d.say(221, "QUIT"); err != nil {
		return fmt.Errorf("QUIT: %w", err)
	}
	e.r.Status = status
	return nil
}

// passive fetches over a connection to where the server says.
func (e *exchange) passive(d dialogue, command string) ([]byte, error) {
	var to netip.AddrPort
	if e.spec.Addr.Addr().Unmap().Is4() {
		text, err := d.say(227, "PASV")
		if err != nil {
			return nil, fmt.Errorf("PASV: %w", err)
		}
		if to, err = parsePasv(text); err != nil {
			return nil, err
		}
	} else {
		text, err := d.say(229, "EPSV")
		if err != nil {
			return nil, fmt.Errorf("EPSV: %w", err)
		}
		port, err := parseEPSV(text)
		if err != nil {
			return nil, err
		}
		to = netip.AddrPortFrom(e.spec.Addr.Addr(), port)
	}
	data, err := e.ns.DialFrom(e.ctx, "tcp", netip.AddrPortFrom(e.r.Local.Addr(), 0), to)
	if err != nil {
		return nil, fmt.Errorf("data connection to %s: %w", to, err)
	}
	defer data.Close()
	if _, err := d.say(1, "%s", command); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return e.fetch(d, data)
}

// active fetches over a connection that the server makes to the client.
func (e *exchange) active(d dialogue, command string) ([]byte, error) {
	l, err := e.ns.Listen(e.ctx, "tcp", netip.AddrPortFrom(e.r.Local.Addr(), 0))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	at := addrPort(l.Addr())
	agree := fmt.Sprintf("EPRT |2|%s|%d|", at.Addr(), at.Port())
	if at.Addr().Is4() {
		agree = fmt.Sprintf("PORT %s,%d,%d", strings.ReplaceAll(at.Addr().String(), ".", ","), at.Port()>>8, at.Port()&0xff)
	}
	if _, err := d.say(2, "%s", agree); err != nil {
		return nil, fmt.Errorf("%s: %w", agree, err)
	}
	if _, err := d.say(1, "%s", command); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	deadline, _ := e.ctx.Deadline()
	if t, ok := l.(interface{ SetDeadline(t time.Time) error }); ok {
		if err := t.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	data, err := l.Accept()
	if err != nil {
		return nil, fmt.Errorf("data connection to %s: %w", at, err)
	}
	defer data.Close()
	return e.fetch(d, data)
}

// fetch reads a data connection to its end, and the server's last word.
func (e *exchange) fetch(d dialogue, data net.Conn) ([]byte, error) {
	body, err := e.read(data)
	if err != nil {
		return nil, err
	}
	_, err = d.expect(2)
	return body, err
}

// read reads a data connection to its end.
func (e *exchange) read(data net.Conn) ([]byte, error) {
	deadline, _ := e.ctx.Deadline()
	if err := data.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(data, int64(max(MaxBody, e.spec.Bytes)+1)))
	if err != nil {
		return nil, fmt.Errorf("read the data after %d bytes: %w", len(body), err)
	}
	return body, nil
}

// parsePasv reads the address in the reply to PASV, "… (h1,h2,h3,h4,p1,p2)".
func parsePasv(text string) (netip.AddrPort, error) {
	bad := fmt.Errorf("the reply to PASV has no address: %q", text)
	_, rest, ok := strings.Cut(text, "(")
	inner, _, ok2 := strings.Cut(rest, ")")
	words := strings.Split(inner, ",")
	if !ok || !ok2 || len(words) != 6 {
		return netip.AddrPort{}, bad
	}
	var b [6]byte
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 8)
		if err != nil {
			return netip.AddrPort{}, bad
		}
		b[i] = byte(n)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), nil
}

// parseEPSV reads the port in the reply to EPSV, "… (|||PORT|)" (RFC 2428).
func parseEPSV(text string) (uint16, error) {
	_, rest, _ := strings.Cut(text, "(|||")
	digits, _, ok := strings.Cut(rest, "|)")
	port, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || port == 0 {
		return 0, fmt.Errorf("the reply to EPSV has no port: %q", text)
	}
	return uint16(port), nil
}
