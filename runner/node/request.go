package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lvslab/lvslab/topology/netns"
)

// Defaults and bounds of a request.
const (
	// DefaultRequestTimeout bounds a request that names no timeout. It is above
	// the 3 s after which the kernel gives an unanswered ARP request up.
	DefaultRequestTimeout = 5 * time.Second
	// MaxBody is how much of an answer is kept, in bytes.
	MaxBody = 64 << 10
)

// RequestSpec says what to ask for.
type RequestSpec struct {
	// Client is the protocol spoken, one of Clients; empty means "http".
	Client string
	// Network is what DNS is asked by, "udp" or "tcp"; empty means "udp". The
	// other clients have one of their own.
	Network string
	// Addr is where to connect.
	Addr netip.AddrPort
	// Source is where to come from: an address, a port of the unspecified
	// address, or both; what is missing the kernel chooses.
	Source netip.AddrPort
	// Ports are where requests come from that have no port of Source's; nil
	// means that the kernel chooses.
	Ports *Ports
	// Host is HTTP's Host header; empty means Addr.
	Host string
	// Path is HTTP's path with its query, or FTP's, where one that ends in a
	// slash is listed; empty means "/".
	Path string
	// Bytes is how many bytes the server is to send, all of which are read; 0
	// means whatever it likes.
	Bytes int
	// Upload is how many bytes are sent along: HTTP then sends a POST, and a
	// mail has as many.
	Upload int
	// Active lets FTP's server connect to the client for data.
	Active bool
	// Hold keeps the connection open: see Reply.Held.
	Hold bool
	// SameSocket sends all of Requests' datagrams from one socket. UDP only.
	SameSocket bool
	// Timeout bounds the whole request as curl -m does; 0 means
	// DefaultRequestTimeout.
	Timeout time.Duration
}

// Reply is what came of one request.
type Reply struct {
	// Seq counts the requests of one call from 1.
	Seq    int
	Result Result
	// From is the name of the namespace that the request came from.
	From string
	// Status is the status by HTTP's code, or that of FTP's or SMTP's last
	// reply, or DNS's RCODE; 0 when there was no answer.
	Status int
	// Body is what was read of the answer, at most MaxBody bytes.
	Body []byte
	// Truncated says that the answer was longer.
	Truncated bool
	// Server is the node that answered, and Peer the client as it saw it, as
	// far as the answer says so: HTTP and lines by their first two words.
	Server string
	Peer   netip.Addr
	// Protocol is the one on the wire: "tcp", "udp" or "sctp".
	Protocol string
	// Local is the client's end of the connection; invalid when there was
	// none, and nothing was sent.
	Local netip.AddrPort
	// Connected says that there was a connection.
	Connected bool
	Elapsed   time.Duration
	// Held is the open connection, when the request was to hold it and went
	// well; the caller closes it.
	Held io.Closer
	// Err is nil when Result is OK.
	Err error
}

// errEmpty is a server that closed without a word.
var errEmpty = errors.New("empty reply: the connection was closed before an answer")

// CurlExit is the exit status that curl gives the same outcome (curl(1), "EXIT
// CODES"): 0; 7 could not connect; 28 timeout; 52 empty reply; 56 failure while
// receiving.
func (r Reply) CurlExit() int {
	switch {
	case r.Result == OK:
		return 0
	case r.Result == Timeout:
		return 28
	case !r.Connected:
		return 7
	case errors.Is(r.Err, errEmpty):
		return 52
	default:
		return 56
	}
}

// clients is the table of what a request can speak, with the network below.
func clients() map[string]client {
	return map[string]client{
		"http": {"tcp", (*exchange).http},
		"tcp":  {"tcp", (*exchange).line},
		"sctp": {"sctp", (*exchange).line},
		"udp":  {"udp", (*exchange).datagram},
		"dns":  {"udp", (*exchange).dns},
		"smtp": {"tcp", (*exchange).smtp},
		"ftp":  {"tcp", (*exchange).ftp},
	}
}

// client is how one protocol is spoken over a connection of a network.
type client struct {
	network string
	speak   func(e *exchange) error
}

// Clients are the words of RequestSpec.Client, sorted.
func Clients() []string { return slices.Sorted(maps.Keys(clients())) }

// exchange is one request under way.
type exchange struct {
	ctx  context.Context //nolint:containedctx // it lives no longer than one call
	ns   *netns.Namespace
	spec RequestSpec
	conn net.Conn
	r    *Reply
}

// Request sends one request over a new connection from inside the namespace, for
// HTTP as curl does. The outcome is in the Reply in every case, an end of ctx
// included.
func Request(ctx context.Context, ns *netns.Namespace, spec RequestSpec) Reply {
	return request(ctx, ns, spec, nil)
}

// request is Request, over a socket that is there already when kept points to
// one, or with the one made put there.
func request(ctx context.Context, ns *netns.Namespace, spec RequestSpec, kept *net.Conn) Reply {
	start := time.Now()
	r := Reply{Seq: 1, From: ns.Name()}
	err := r.ask(ctx, ns, spec, kept)
	r.Elapsed = time.Since(start)
	r.Result = classify(err)
	if err != nil {
		if ctx.Err() != nil { // the caller's end, which says nothing about the lab
			r.Result, err = Failed, context.Cause(ctx)
		}
		r.Err = fmt.Errorf("request to %s: %w", spec.Addr, err)
	}
	return r
}

// Requests sends count requests, concurrency of them at a time (at least 1), and
// hands back the replies by Seq. With a concurrency of 1 each begins when the
// one before it is over. After the end of ctx the rest are not sent; their
// replies carry its error.
func Requests(ctx context.Context, ns *netns.Namespace, spec RequestSpec, count, concurrency int) []Reply {
	return Series{From: []*netns.Namespace{ns}, Count: count, Concurrency: concurrency}.Send(ctx, spec)
}

// Series is many requests, see Requests.
type Series struct {
	// From are the namespaces that ask, in turn.
	From []*netns.Namespace
	// Count is how many are sent in all, Concurrency how many at a time.
	Count, Concurrency int
	// Interval is the time between the end of one and the beginning of the
	// next that the same worker sends.
	Interval time.Duration
}

// Send sends them and returns when all are over.
func (s Series) Send(ctx context.Context, spec RequestSpec) []Reply {
	replies := make([]Reply, max(s.Count, 0))
	if len(s.From) == 0 {
		return nil
	}
	next := make(chan int)
	var kept *net.Conn
	concurrency := max(s.Concurrency, 1)
	if spec.SameSocket {
		kept, concurrency = new(net.Conn), 1
		defer func() {
			if *kept != nil {
				(*kept).Close()
			}
		}()
	}
	var workers sync.WaitGroup
	for range min(concurrency, s.Count) {
		workers.Go(func() {
			first := true
			for i := range next {
				if !first {
					pause(ctx, s.Interval)
				}
				first = false
				replies[i] = request(ctx, s.From[i%len(s.From)], spec, kept)
				replies[i].Seq = i + 1
			}
		})
	}
	for i := range replies {
		next <- i // a request whose ctx has ended returns at once
	}
	close(next)
	workers.Wait()
	return replies
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ask fills r in as far as the exchange gets.
func (r *Reply) ask(ctx context.Context, ns *netns.Namespace, spec RequestSpec, kept *net.Conn) error {
	name := spec.Client
	if name == "" {
		name = "http"
	}
	c, ok := clients()[name]
	if !ok {
		return fmt.Errorf("unknown client %q (known: %s)", name, strings.Join(Clients(), ", "))
	}
	if name == "dns" && spec.Network != "" {
		c.network = spec.Network
	}
	if spec.Hold && c.network == "udp" {
		return errors.New("a datagram has no connection to hold")
	}
	if name == "http" {
		if _, err := spec.request(); err != nil { // before anything is sent
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	timeout := spec.Timeout
	if timeout <= 0 {
		timeout = DefaultRequestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	r.Protocol = c.network
	e := &exchange{ctx: ctx, ns: ns, spec: spec, r: r}
	if err := e.connect(c.network, kept); err != nil {
		return err
	}
	// A deadline that has passed ends a read that waits.
	stop := context.AfterFunc(ctx, func() { _ = e.conn.SetDeadline(time.Unix(1, 0)) })
	err := c.speak(e)
	stopped := stop()
	switch {
	case err == nil && spec.Hold && stopped:
		r.Held = held{e.conn}
		return nil
	case err == nil && kept != nil && stopped:
		return nil
	}
	if kept == nil || !stopped { // one that a deadline was set for is of no more use
		_ = netns.HangUp(e.conn)
		if kept != nil {
			*kept = nil
		}
	}
	return err
}

// held is a connection that is kept open, and ended for all at its Close.
type held struct{ net.Conn }

// Close implements io.Closer.
func (h held) Close() error { return netns.HangUp(h.Conn) }

// connect makes the connection, or takes the one that is kept.
func (e *exchange) connect(network string, kept *net.Conn) error {
	if kept != nil && *kept != nil {
		e.conn = *kept
		_ = discard(e.conn) // what came too late is no answer to what comes now
	} else {
		conn, err := e.dial(network)
		if err != nil {
			var op *net.OpError
			if errors.As(err, &op) && op.Source != nil {
				e.r.Local = addrPort(op.Source)
			}
			return err
		}
		e.conn = conn
		if kept != nil {
			*kept = conn
		}
	}
	e.r.Local, e.r.Connected = addrPort(e.conn.LocalAddr()), true
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// keep keeps what was answered, as far as it goes.
func (r *Reply) keep(body []byte) {
	if len(body) > MaxBody {
		body, r.Truncated = body[:MaxBody], true
	}
	r.Body = body
}

// who takes the server and the peer from the first two words of a text.
func (r *Reply) who(text string) {
	words := strings.Fields(text)
	if len(words) > 0 {
		r.Server = words[0]
	}
	if len(words) > 1 {
		if peer, err := netip.ParseAddr(words[1]); err == nil {
			r.Peer = peer
		}
	}
}
