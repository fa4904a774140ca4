package keepalived

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// checker is one checker block of a real server.
type checker struct {
	at   source.Pos
	kind string
	addr netip.Addr // of connect_ip
	port uint16     // of connect_port, 0: the server's
	urls []string
	// program is misc_path's first word.
	program string
	// fails says why no server of lvslab's can pass it, doubt why one may or may
	// not; "" if there is no such reason.
	fails, doubt string
}

// checker reads a checker's block.
func (t *translator) checker(rs *server, s *stmt) {
	if !t.count(s, 0, 0) || !t.needBlock(s) {
		return
	}
	c := &checker{at: s.at(), kind: s.key()}
	known := checkerWords()
	hosts := len(rs.checkers)
	for _, in := range s.block.stmts {
		switch {
		case in.key() == "host" && c.kind == "SMTP_CHECK":
			t.mailHost(rs, in)
		case !slices.Contains(known, in.key()):
			t.unknownIn(in, s.key(), known)
		case in.key() == "url":
			t.url(c, in)
		default:
			t.checkerWord(c, in)
		}
	}
	if (c.kind == "HTTP_GET" || c.kind == "SSL_GET") && len(c.urls) == 0 {
		t.warn(s.at(), "%s has no url with a path; keepalived passes over it", c.kind)
		return
	}
	if len(rs.checkers) == hosts {
		rs.checkers = append(rs.checkers, c)
	}
}

// mailHost reads a host block of SMTP_CHECK, which says where one more connection
// goes: each is a checker of its own, in place of the block around it (run).
func (t *translator) mailHost(rs *server, s *stmt) {
	if !t.count(s, 0, 0) || !t.needBlock(s) {
		return
	}
	t.warn(s.at(), "a host block in SMTP_CHECK is deprecated; write an SMTP_CHECK for each")
	c := &checker{at: s.at(), kind: "SMTP_CHECK"}
	for _, in := range s.block.stmts {
		if slices.Contains(mailHostWords(), in.key()) {
			t.checkerWord(c, in)
		} else {
			t.unknownIn(in, "host", mailHostWords())
		}
	}
	rs.checkers = append(rs.checkers, c)
}

func (t *translator) checkerWord(c *checker, s *stmt) {
	if !t.want(s, 0, len(s.args())) {
		return
	}
	switch s.key() {
	case "connect_ip":
		if t.count(s, 1, 1) {
			c.addr, _ = t.addr("connect_ip", s.words[1])
		}
	case "connect_port":
		if t.count(s, 1, 1) {
			c.port, _ = t.port("connect_port", s.words[1])
		}
	case "misc_path":
		if t.count(s, 1, len(s.args())) {
			c.program, _, _ = strings.Cut(s.words[1].text, " ")
		}
		t.leave(s, c.kind)
	case "require_reply":
		if len(s.args()) > 0 { // any answer does without
			c.doubt = "UDP_CHECK wants an answer that only the real server gives"
		}
	case "fwmark", "bindto", "bind_if", "bind_port":
		c.doubt = c.kind + " comes from an address or with a mark (" + s.key() + ") that the lab does not have"
	default:
		t.leave(s, c.kind)
	}
}

// url reads a url block of HTTP_GET or SSL_GET.
func (t *translator) url(c *checker, s *stmt) {
	if !t.count(s, 0, 0) || !t.needBlock(s) {
		return
	}
	path := ""
	for _, in := range s.block.stmts {
		if !slices.Contains(urlWords(), in.key()) {
			t.unknownIn(in, "url", urlWords())
			continue
		}
		if !t.want(in, 0, len(in.args())) {
			continue
		}
		switch in.key() {
		case "path":
			if t.count(in, 1, 1) {
				path = in.words[1].text
			}
		case "digest":
			c.fails = c.kind + " wants a digest that only the real page has"
		case "regex", "regex_no_match":
			c.doubt = c.kind + " looks for text (" + in.key() + ") that only the real page has"
		case "status_code":
			t.status(c, in)
		default:
			t.leave(in, "url of "+c.kind)
		}
	}
	if path == "" {
		t.warn(s.at(), "a url of %s has no path; keepalived passes over it", c.kind)
		return
	}
	c.urls = append(c.urls, path)
}

// status reads status_code 200 301-399 …; lvslab's servers answer 200.
func (t *translator) status(c *checker, s *stmt) {
	const answered = 200
	if !t.count(s, 1, len(s.args())) {
		return
	}
	met := false
	for _, w := range s.args() {
		from, to, ranged := strings.Cut(w.text, "-")
		if !ranged {
			to = from
		}
		low, err1 := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || low < 100 || high > 999 || low > high {
			t.fail(w.at, "status_code: wanted a status such as 200 or a range such as 200-299, found %s", quote(w.text))
			return
		}
		met = met || low <= answered && answered <= high
	}
	if !met {
		c.fails = c.kind + " wants status " + s.rest() + ", and a lab's server answers 200"
	}
}

// in is the checker of a server as it has been placed in a service. Its port is
// the one written at the server, even where IPVS uses another.
func (c *checker) in(rs *server, d ipvs.Destination, proto ipvs.Protocol) config.Checker {
	out := config.Checker{Pos: c.at, Kind: c.kind, Paths: c.urls, Program: c.program}
	if c.addr.IsValid() && c.addr != rs.addr {
		out.Addr = c.addr
	}
	switch c.kind {
	case "MISC_CHECK", "FILE_CHECK", "BFD_CHECK", "PING_CHECK":
	default:
		for _, p := range []uint16{c.port, rs.port, d.Addr.Port()} {
			if p != 0 {
				out.Port = p
				break
			}
		}
	}
	if out.Why = c.failure(); out.Why != "" {
		out.Fails = true
		return out
	}
	out.Why = c.doubtful(out, d, proto)
	out.Passable = out.Why == ""
	return out
}

// failure is why no server of lvslab's passes the checker.
func (c *checker) failure() string {
	if c.kind == "SSL_GET" {
		return "SSL_GET wants TLS, which a lab's server does not speak"
	}
	return c.fails
}

// doubtful is why it is not known whether a server of lvslab's, which serves on the
// real server's address and the checker's port, passes it.
func (c *checker) doubtful(out config.Checker, d ipvs.Destination, proto ipvs.Protocol) string {
	switch c.kind {
	case "MISC_CHECK":
		return "MISC_CHECK runs a program of the director's"
	case "FILE_CHECK":
		return "FILE_CHECK reads a file of the director's"
	case "BFD_CHECK":
		return "BFD_CHECK wants a BFD neighbour"
	}
	own := proto == ipvs.TCP && c.kind == "SMTP_CHECK" || proto == ipvs.UDP && c.kind == "DNS_CHECK"
	switch {
	case c.doubt != "":
		return c.doubt
	case out.Addr.IsValid():
		return fmt.Sprintf("%s connects to %v, not to the real server", c.kind, out.Addr)
	case c.kind == "PING_CHECK":
		return ""
	case out.Port == 0:
		return c.kind + " has no port to connect to: neither it nor the real server says one"
	case (c.kind == "SMTP_CHECK" || c.kind == "DNS_CHECK") && (!own || out.Port != d.Addr.Port()):
		return fmt.Sprintf("%s wants more of a server than one for %v on port %d gives", c.kind, proto, d.Addr.Port())
	}
	return ""
}
