package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
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
	// Addr is where to connect.
	Addr netip.AddrPort
	// Host is the Host header; empty means Addr.
	Host string
	// Path is the path with its query; empty means "/".
	Path string
	// Timeout bounds the whole request as curl -m does; 0 means
	// DefaultRequestTimeout.
	Timeout time.Duration
}

// Reply is what came of one request.
type Reply struct {
	// Seq counts the requests of one call from 1.
	Seq    int
	Result Result
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Body is what was read of the answer, at most MaxBody bytes.
	Body []byte
	// Truncated says that the answer was longer.
	Truncated bool
	// Server is the first word of the body and Peer the second one, where that
	// is an address: the node that answered, and the client as it saw it.
	Server string
	Peer   netip.Addr
	// Local is the client's end of the connection; invalid without one.
	Local   netip.AddrPort
	Elapsed time.Duration
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
	case !r.Local.IsValid():
		return 7
	case errors.Is(r.Err, errEmpty):
		return 52
	default:
		return 56
	}
}

// Request sends one GET over a new connection from inside the namespace, as
// curl does. The outcome is in the Reply in every case, an end of ctx included.
func Request(ctx context.Context, ns *netns.Namespace, spec RequestSpec) Reply {
	start := time.Now()
	r := Reply{Seq: 1}
	err := r.ask(ctx, ns, spec)
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
	replies := make([]Reply, max(count, 0))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(max(concurrency, 1), count) {
		workers.Go(func() {
			for i := range next {
				replies[i] = Request(ctx, ns, spec)
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

// ask fills r in as far as the exchange gets.
func (r *Reply) ask(ctx context.Context, ns *netns.Namespace, spec RequestSpec) error {
	req, err := spec.request()
	if err != nil {
		return err
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

	conn, err := ns.Dial(ctx, "tcp", spec.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if local, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
		r.Local = local
	}
	// A deadline that has passed ends a read that waits.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := req.Write(conn); err != nil {
		return err
	}
	// The header is bounded as the body is.
	bounded := &io.LimitedReader{R: conn, N: 2 * MaxBody}
	resp, err := http.ReadResponse(bufio.NewReader(bounded), req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && bounded.N == 2*MaxBody {
			return errEmpty
		}
		return fmt.Errorf("read the answer: %w", err)
	}
	defer resp.Body.Close()
	r.Status = resp.StatusCode
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if len(body) > MaxBody {
		body, r.Truncated, err = body[:MaxBody], true, nil
	}
	r.Body = body
	words := strings.Fields(string(body))
	if len(words) > 0 {
		r.Server = words[0]
	}
	if len(words) > 1 {
		if peer, err := netip.ParseAddr(words[1]); err == nil {
			r.Peer = peer
		}
	}
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return nil
}

func (s RequestSpec) request() (*http.Request, error) {
	path := s.Path
	if path == "" {
		path = "/"
	}
	u, err := url.ParseRequestURI(path)
	if err != nil || u.IsAbs() || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q: wanted one that begins with /", path)
	}
	host := s.Host
	if host == "" {
		host = s.Addr.String()
		if s.Addr.Port() == 80 {
			host = strings.TrimSuffix(host, ":80")
		}
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		return nil, fmt.Errorf("host %q: wanted a name or an address", host)
	}
	u.Scheme, u.Host = "http", host
	return &http.Request{
		Method: http.MethodGet, URL: u, Host: host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"lvslab"}, "Accept": {"*/*"}},
	}, nil
}
