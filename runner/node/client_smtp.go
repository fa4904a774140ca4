package node

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/textproto"
	"strings"
)

// dialogue is a protocol of numbered replies, SMTP's and FTP's.
type dialogue struct {
	*textproto.Conn
	r *Reply
}

// expect reads a reply whose code begins as given (2, 22, 220).
func (d dialogue) expect(code int) (string, error) {
	got, text, err := d.ReadResponse(code)
	if got > 0 {
		d.r.Status = got
	}
	var refused *textproto.Error
	switch {
	case errors.As(err, &refused):
		return "", fmt.Errorf("the server answers %d %s", refused.Code, refused.Msg)
	case errors.Is(err, io.EOF) && d.r.Server == "":
		return "", errEmpty
	case err != nil:
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return text, nil
}

// say sends a line and reads the reply to it.
func (d dialogue) say(code int, format string, args ...any) (string, error) {
	if err := d.PrintfLine(format, args...); err != nil {
		return "", err
	}
	return d.expect(code)
}

// greeting reads what a server says first; its first word is its name.
func (d dialogue) greeting() error {
	text, err := d.expect(220)
	if err == nil {
		d.r.Server, _, _ = strings.Cut(text, " ")
		d.r.peerIn(text)
	}
	return err
}

// peerIn takes the last address in a text for the client's as the server saw it.
func (r *Reply) peerIn(text string) {
	for _, w := range strings.Fields(text) {
		if a, err := netip.ParseAddr(strings.Trim(w, "[]().,;<>")); err == nil {
			r.Peer = a
		}
	}
}

// mailLine is the length of a long mail's lines with their end, in bytes.
const mailLine = 64

// smtp delivers one mail (RFC 5321). A connection that is held has only greeted.
func (e *exchange) smtp() error {
	d := dialogue{textproto.NewConn(e.conn), e.r}
	if err := d.greeting(); err != nil {
		return err
	}
	if _, err := d.say(250, "EHLO %s", e.ns.Name()); err != nil {
		return err
	}
	if e.spec.Hold {
		return nil
	}
	for _, step := range []struct {
		code int
		line string
	}{
		{25, "MAIL FROM:<client@" + e.ns.Name() + ">"},
		{25, "RCPT TO:<postmaster@" + e.r.Server + ">"},
		{354, "DATA"},
	} {
		if _, err := d.say(step.code, "%s", step.line); err != nil {
			return fmt.Errorf("%s: %w", step.line, err)
		}
	}
	w := d.DotWriter()
	_, err := fmt.Fprintf(w, "From: client@%s\nTo: postmaster@%s\nSubject: hello\n\nhello\n", e.ns.Name(), e.r.Server)
	for left := e.spec.Upload; err == nil && left > 0; left -= mailLine {
		_, err = fmt.Fprintf(w, "%s\n", strings.Repeat(".", min(left, mailLine)-1))
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	text, err := d.expect(250)
	if err != nil {
		return err
	}
	e.r.keep([]byte(text))
	e.r.peerIn(text)
	status := e.r.Status
	if _, err := d.say(221, "QUIT"); err != nil {
		return fmt.Errorf("QUIT: %w", err)
	}
	e.r.Status = status
	return nil
}
