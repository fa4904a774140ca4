package serve

import (
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Bounds of one SMTP connection.
const (
	smtpTimeout    = time.Hour // a held connection is idle for as long as its lab wants it
	smtpMaxBytes   = 1 << 20
	smtpMaxInbox   = 10000
	smtpMaxPerMail = 100
)

// inbox is the mail that a node took.
type inbox struct {
	mu    sync.Mutex
	mails []mail
}

type mail struct {
	from string
	to   []string
	text []byte
}

// serveSMTP takes mail for anybody and keeps it in memory. The greeting names the
// node; what is said after a mail was taken names the node and the peer.
func serveSMTP(h host) (Daemon, error) {
	box := &inbox{}
	return serveEach(h, func(c net.Conn) {
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
			return &mailing{box: box, line: h.line(c.RemoteAddr()), host: h, peer: c.RemoteAddr()}, nil
		}))
		s.Domain = h.name
		s.ReadTimeout, s.WriteTimeout = smtpTimeout, smtpTimeout
		s.MaxMessageBytes, s.MaxRecipients = smtpMaxBytes, smtpMaxPerMail
		s.ErrorLog = log.New(io.Discard, "", 0) // a client that hangs up is no news
		// One server for each connection: that of all could not be waited for.
		_ = s.Serve(newOneConn(c))
	}), nil
}

// mailing is one client's session.
type mailing struct {
	box  *inbox
	line string
	mail mail
	host host
	peer net.Addr
}

// Reset implements smtp.Session.
func (s *mailing) Reset() { s.mail = mail{} }

// Logout implements smtp.Session.
func (s *mailing) Logout() error { return nil }

// Mail implements smtp.Session.
func (s *mailing) Mail(from string, _ *smtp.MailOptions) error {
	s.mail = mail{from: from}
	return nil
}

// Rcpt implements smtp.Session.
func (s *mailing) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.to = append(s.mail.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *mailing) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.text = text
	s.host.asked(s.peer, "mail", fmt.Sprintf("from %s to %s, %d bytes", s.mail.from, strings.Join(s.mail.to, ","), len(text)))
	number, ok := s.box.add(s.mail)
	if !ok {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "the inbox is full"}
	}
	// The package's way to say more than "queued": the reply is what an error
	// says, and this one's code is that of success.
	return &smtp.SMTPError{
		Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0},
		Message: fmt.Sprintf("%.*s took mail %d", len(s.line)-1, s.line, number),
	}
}

// add keeps a mail and tells how many there are.
func (b *inbox) add(m mail) (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mails) >= smtpMaxInbox {
		return len(b.mails), false
	}
	b.mails = append(b.mails, m)
	return len(b.mails), true
}
