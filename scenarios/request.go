package scenarios

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology/source"
)

// Request is what a client asks of a server: a new connection each, unless
// SameSocket says otherwise.
type Request struct {
	Pos source.Pos
	// To is a virtual service, a node, or ADDRESS[:PORT].
	To string `yaml:"to,required"`
	// From are the nodes that ask, in turn: the client, when the lab has only
	// one node that is neither director nor real server.
	From []string `yaml:"from"`
	// Name is how a later release calls the connections that are held.
	Name string `yaml:"name"`
	// Count is how many are sent, one after another; 1 when not given.
	Count int `yaml:"count"`
	// Concurrency is how many of them are under way at once; 1 when not given.
	Concurrency int `yaml:"concurrency"`
	// Interval is the time from the end of one to the beginning of the next.
	Interval time.Duration `yaml:"interval"`
	Path     string        `yaml:"path"`
	// Timeout bounds each request, as curl -m does; DefaultTimeout when not
	// given.
	Timeout time.Duration `yaml:"timeout"`
	// Client is the protocol spoken, one of Clients; worked out from the
	// service when not given.
	Client string `yaml:"client"`
	// Source is the client's own address, or port, or both.
	Source Source `yaml:"source"`
	// Bytes is how much the server is asked to send.
	Bytes int `yaml:"bytes"`
	// Upload is how much the client sends along, in bytes.
	Upload int `yaml:"upload"`
	// SameSocket sends all datagrams from one socket, one 5-tuple.
	SameSocket bool `yaml:"same_socket"`
	// Hold keeps each connection open after its answer, until it is released
	// or the lab ends.
	Hold bool `yaml:"hold"`
	// Background lets the next actions begin at once. The replies are those of
	// the same step, which waits for them after its last action.
	Background bool `yaml:"background"`
	// Mode is FTP's: passive (when not given) or active.
	Mode string `yaml:"mode"`

	Addr netip.AddrPort `yaml:"-"`
	// Network is what a DNS client asks by, "udp" or "tcp".
	Network string `yaml:"-"`
}

// Clients are the protocols that a request can speak.
func Clients() []string { return []string{"dns", "ftp", "http", "sctp", "smtp", "tcp", "udp"} }

// maxBytes and maxUpload bound what a request may ask for and send along, in
// bytes, as lvslab's own servers do; maxDatagram is what one
// IPv4 UDP datagram carries at most: 65535 less the headers of 20 and 8.
const (
	maxBytes    = 64 << 20
	maxUpload   = 1 << 20
	maxDatagram = 65507
)

// Source is where a request comes from: an address of the node, a port, or
// both. What was not said is the zero value.
type Source struct {
	Addr netip.Addr
	Port uint16
}

// UnmarshalSource reads ADDRESS, :PORT or ADDRESS:PORT.
func (s *Source) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	const wanted = "an address, :PORT, or both as in 10.0.0.1:1234"
	text, ok := d.Scalar(n, wanted)
	if !ok {
		return
	}
	if a, err := netip.ParseAddr(text); err == nil {
		s.Addr = a
	} else if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() > 0 {
		s.Addr, s.Port = ap.Addr(), ap.Port()
	} else if port, err := strconv.ParseUint(strings.TrimPrefix(text, ":"), 10, 16); err == nil && port > 0 && strings.HasPrefix(text, ":") {
		s.Port = uint16(port)
	} else {
		d.Fail(n, "wanted %s, found %q", wanted, text)
	}
	if s.Addr.Zone() != "" {
		d.Fail(n, "source %s: an address without a zone is wanted", text)
	}
}

// Valid reports whether anything was said.
func (s Source) Valid() bool { return s != Source{} }

func (s Source) String() string {
	switch {
	case !s.Addr.IsValid() && s.Port == 0:
		return ""
	case !s.Addr.IsValid():
		return fmt.Sprintf(":%d", s.Port)
	case s.Port == 0:
		return s.Addr.String()
	}
	return netip.AddrPortFrom(s.Addr, s.Port).String()
}

// Release closes connections that requests hold: all of them, those of one
// node, or those of the requests of one name.
type Release struct {
	Pos  source.Pos
	Node string `yaml:"node"`
	Name string `yaml:"name"`
}

// UnmarshalSource reads a request's name too.
func (r *Release) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		r.Pos = d.Pos(n)
		r.Name, _ = d.Scalar(n, "the name of a request that holds its connections, or {}")
		return
	}
	type plain Release
	d.Decode(n, (*plain)(r))
}

func (r *Release) words() string {
	s := "close the connections that are held"
	if r.Name != "" {
		s += " by " + r.Name
	}
	if r.Node != "" {
		s = r.Node + ": " + s
	}
	return s
}

// Wait waits for the step's requests in the background.
type Wait struct{ Pos source.Pos }

// DaemonChange stops a server of a node as if it had been killed, or starts it
// again.
type DaemonChange struct {
	Pos     source.Pos
	Node    string `yaml:"node,required"`
	Service string `yaml:"service,required"`

	// Serve is the server meant.
	Serve Serve `yaml:"-"`
}

func (c *DaemonChange) words(verb string) string {
	return fmt.Sprintf("%s: %s %s", c.Node, verb, c.Service)
}

// defaults fills in what does not depend on the lab, and refuses what makes no
// sense whatever the lab is.
func (r *Request) defaults(d *source.Decoder, n *yaml.Node) {
	bound := func(what string, v, most int) {
		if v < 0 || v > most || v == 0 && isZero(child(n, what)) {
			d.Fail(n, "%s is from 1 to %d, found %d", what, most, v)
		}
	}
	bound("count", r.Count, maxCount)
	bound("concurrency", r.Concurrency, maxConcurrency)
	bound("bytes", r.Bytes, maxBytes)
	bound("upload", r.Upload, maxUpload)
	if r.Timeout = cmp.Or(r.Timeout, DefaultTimeout); r.Timeout > maxTimeout {
		d.Fail(n, "timeout %s is longer than %s", r.Timeout, maxTimeout)
	}
	if r.Interval > maxTimeout {
		d.Fail(n, "interval %s is longer than %s", r.Interval, maxTimeout)
	}
	r.Count, r.Concurrency = cmp.Or(r.Count, 1), cmp.Or(r.Concurrency, 1)
	if r.Path != "" && (!strings.HasPrefix(r.Path, "/") || strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c > '~' })) {
		d.Fail(n, "path %q: wanted / and then what may stand in a URL; write other characters as in %%20", r.Path)
	}
	if r.Client != "" && !slices.Contains(Clients(), r.Client) {
		d.Fail(n, "%s", source.Unknown("client", r.Client, Clients()))
	}
	if r.Mode != "" && r.Mode != "active" && r.Mode != "passive" {
		d.Fail(n, "%s", source.Unknown("mode", r.Mode, []string{"active", "passive"}))
	}
	switch {
	case r.Name != "" && !validName(r.Name):
		d.Fail(n, "request name %q: %s", r.Name, nameRule)
	case r.Name != "" && !r.Hold:
		d.Fail(n, "name: only a request with hold: true needs one, for release")
	case r.Hold && r.Background:
		d.Fail(n, "hold and background do not go together: a held connection hinders nobody")
	case r.Interval > 0 && r.Concurrency > 1:
		d.Fail(n, "interval is between requests one after another; with concurrency there is no such time")
	case r.Source.Port > 0 && r.Concurrency > 1:
		d.Fail(n, "source port %d: two requests at once cannot have one port; take concurrency out", r.Source.Port)
	case r.Source.Port > 0 && r.Hold && r.Count > 1:
		d.Fail(n, "source port %d: a held connection keeps it, so count is 1", r.Source.Port)
	case r.SameSocket && r.Concurrency > 1:
		d.Fail(n, "same_socket: the answers to datagrams of one socket are told apart by their order; take concurrency out")
	case r.SameSocket && len(r.From) > 1:
		d.Fail(n, "same_socket: one socket is of one node, found %d in from", len(r.From))
	case r.Bytes > 0 && r.Path != "":
		d.Fail(n, "bytes and path: the path of so many bytes is /bytes/%d; give one of both", r.Bytes)
	case r.Bytes > 0 && r.Upload > 0:
		d.Fail(n, "bytes and upload: the one is what the server sends, the other what the client does; give one of both")
	}
}

// fits refuses what the request's client cannot do.
func (r *Request) fits() error {
	for _, f := range []struct {
		is      bool
		what    string
		clients []string
	}{
		{r.Path != "", "path", []string{"http", "ftp"}},
		{r.SameSocket, "same_socket", []string{"udp"}},
		{r.Bytes > 0, "bytes", []string{"http", "tcp", "udp", "sctp", "ftp"}},
		{r.Upload > 0, "upload", []string{"http", "smtp"}},
		{r.Hold, "hold", []string{"http", "tcp", "sctp", "smtp", "ftp"}},
		{r.Mode != "", "mode", []string{"ftp"}},
	} {
		if f.is && !slices.Contains(f.clients, r.Client) {
			return fmt.Errorf("%s is not for client %s, only for %s", f.what, r.Client, strings.Join(f.clients, ", "))
		}
	}
	if r.Client == "udp" && r.Bytes > maxDatagram {
		return fmt.Errorf("bytes: a datagram carries at most %d bytes, found %d", maxDatagram, r.Bytes)
	}
	// These clients close first, and a port that closed first rests for a
	// minute (TIME_WAIT, tcp(7)).
	if r.Source.Port > 0 && r.Count > 1 && (r.Client == "tcp" || r.Client == "sctp") {
		return fmt.Errorf("source port %d: client %s closes first, so that its port rests for a minute; use count: 1, or client http, whose server closes first", r.Source.Port, r.Client)
	}
	if r.Source.Addr.IsValid() && r.Addr.IsValid() && r.Source.Addr.Is4() != r.Addr.Addr().Is4() {
		return fmt.Errorf("source %s is not of the family of %s", r.Source.Addr, r.Addr)
	}
	return nil
}

// requestRefs looks up the names that a request uses, and fills in what the lab
// leaves to be worked out.
func (l *Lab) requestRefs(errs *source.List, pos source.Pos, r *Request) {
	if len(r.From) == 0 {
		clients := l.Clients()
		if len(clients) != 1 {
			errs.Add(pos, "from is missing: there are %d nodes that neither balance nor serve", len(clients))
			return
		}
		r.From = clients
	}
	for _, n := range r.From {
		l.checkNodeRef(errs, pos, n)
	}
	addr, err := l.resolvePort(r.To)
	if err != nil {
		errs.AddError(r.Pos, err)
		return
	}
	said := l.saysPort(r.To)
	client, protocol := l.clientFor(r.To, addr, said)
	r.Client = cmp.Or(r.Client, client)
	if r.Client == "dns" {
		r.Network = cmp.Or(protocol, "udp")
	}
	if !said {
		addr = netip.AddrPortFrom(addr.Addr(), services()[r.Client].port)
	}
	r.Addr = addr
	if err := r.fits(); err != nil {
		errs.AddError(r.Pos, err)
		return
	}
	if r.Client == "http" || r.Client == "ftp" {
		r.Path = cmp.Or(r.Path, "/")
		if r.Bytes > 0 {
			r.Path = fmt.Sprintf("/bytes/%d", r.Bytes)
		}
	}
}

// saysPort reports whether what a request asks names a port, of itself or by
// the virtual service that it is.
func (l *Lab) saysPort(to string) bool {
	if v, ok := l.VirtualServices.Get(to); ok {
		return v.Address.Addr.Port() != 0
	}
	if _, err := netip.ParseAddrPort(to); err == nil {
		return true
	}
	name, _, ok := strings.Cut(to, ":")
	return ok && l.known(name)
}

// asked is the virtual service that a request goes to, by its name or by its
// address, nil for none. Where TCP and UDP share an address it is the first.
func (l *Lab) asked(to string, addr netip.AddrPort) *VirtualService {
	name, _, _ := strings.Cut(to, ":")
	if v, ok := l.VirtualServices.Get(name); ok {
		return v
	}
	for _, e := range l.VirtualServices {
		if e.Value.Address.FWMark == 0 && e.Value.Address.Addr == addr {
			return e.Value
		}
	}
	return nil
}

// clientFor is the client, and the protocol below, that fits what is asked: what
// the real servers, or the node itself, serve at that port; else what is usual at
// the port; else by the protocol.
func (l *Lab) clientFor(to string, addr netip.AddrPort, said bool) (client, protocol string) {
	type place struct {
		node string
		port uint16
	}
	var places []place
	if v := l.asked(to, addr); v != nil {
		if v.Address.FWMark == 0 {
			protocol = v.Address.Protocol.String()
		}
		for _, r := range v.RealServers {
			places = append(places, place{r.Node, cmp.Or(r.Port, addr.Port())})
		}
	} else if name, _, _ := strings.Cut(to, ":"); said {
		places = append(places, place{name, addr.Port()})
	}
	fits := func(s served) bool { return protocol == "" || slices.Contains(s.protocols, protocol) }
	if said {
		for _, p := range places {
			n, _ := l.Nodes.Get(p.node)
			for _, s := range n.Serve {
				if known, ok := services()[s.Service]; ok && s.Port == p.port && known.client != "" && fits(known) {
					return known.client, protocol
				}
			}
		}
		for _, name := range []string{"dns", "smtp", "ftp"} {
			if known := services()[name]; known.port == addr.Port() && fits(known) {
				return name, protocol
			}
		}
	}
	switch protocol {
	case "udp", "sctp":
		return protocol, protocol
	}
	return "http", protocol
}

// daemonRefs finds the server that a stop or a start means.
func (l *Lab) daemonRefs(errs *source.List, c *DaemonChange) {
	if !l.checkNodeRef(errs, c.Pos, c.Node) {
		return
	}
	n, _ := l.Nodes.Get(c.Node)
	var err error
	c.Serve, err = n.findServe(c.Node, c.Service)
	errs.AddError(c.Pos, err)
}

// checkReleases refuses a release of what no request before it holds.
func (l *Lab) checkReleases() source.List {
	var errs source.List
	var names []string
	held := false
	for _, s := range l.Steps {
		background := false
		for _, a := range s.Do {
			background = background || a.Request != nil && a.Request.Background
			switch {
			case a.Wait != nil && !background:
				errs.Add(a.Pos, "wait: no request before it in this step has background: true")
			case a.Request != nil && a.Request.Hold:
				held = true
				if a.Request.Name != "" {
					names = append(names, a.Request.Name)
				}
			case a.Release != nil && !held:
				errs.Add(a.Release.Pos, "release: no request before it has hold: true")
			case a.Release != nil && a.Release.Name != "" && !slices.Contains(names, a.Release.Name):
				errs.Add(a.Release.Pos, "%s", source.Unknown("held request", a.Release.Name, names))
			}
		}
	}
	return errs
}
