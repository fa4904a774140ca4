package node

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/lvslab/lvslab/runner/node/serve"
)

// http sends one GET, or a POST when there is something to send along. A
// connection that is held is asked for in HTTP's own words, without which the
// servers of package serve close it.
func (e *exchange) http() error {
	req, err := e.spec.request()
	if err != nil {
		return err
	}
	if e.spec.Upload > 0 {
		req.Method, req.ContentLength = http.MethodPost, int64(e.spec.Upload)
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Body = io.NopCloser(io.LimitReader(dots{}, req.ContentLength))
	}
	if e.spec.Hold {
		req.Header.Set("Connection", "keep-alive")
	}
	req.Close = e.spec.Source.Port() != 0 && !e.spec.Hold
	out := &sender{to: e.conn}
	if err := req.Write(out); err != nil {
		return cmp.Or(out.err, err)
	}
	// The header is bounded as the body is.
	bounded := &io.LimitedReader{R: e.conn, N: 2 * MaxBody}
	resp, err := http.ReadResponse(bufio.NewReader(bounded), req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && bounded.N == 2*MaxBody {
			return errEmpty
		}
		return fmt.Errorf("read the answer: %w", err)
	}
	defer resp.Body.Close()
	e.r.Status = resp.StatusCode
	bounded.N += int64(max(e.spec.Bytes, 0))
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	read := len(body)
	if read > MaxBody {
		err = nil
	}
	e.r.keep(body)
	if by := resp.Header.Get(serve.ServedBy); by != "" {
		// A file that is served names nobody.
		e.r.who(by + " " + resp.Header.Get(serve.ServedTo))
	} else {
		e.r.who(string(e.r.Body))
	}
	if err == nil && e.spec.Bytes > 0 {
		// All of it must come, though not all of it is kept.
		var rest int64
		rest, err = io.Copy(io.Discard, resp.Body)
		if read += int(rest); err == nil && resp.StatusCode == http.StatusOK && read != e.spec.Bytes {
			err = fmt.Errorf("%d bytes came, not %d", read, e.spec.Bytes)
		}
	}
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if e.spec.Source.Port() != 0 && !e.spec.Hold {
		// The server closes first, as it says, so that its end rests in
		// TIME_WAIT and this port can be used again at once. The answer is
		// whole, whatever comes of this.
		_, _ = io.Copy(io.Discard, e.conn)
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

// sender remembers why a write failed: net/http wraps what ends the copying of a
// body in an error that does not unwrap (requestBodyReadError), so that nobody
// could tell a timeout from a reset.
type sender struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (s *sender) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.err = cmp.Or(s.err, err)
	return n, err
}

// dots is endless filling.
type dots struct{}

// Read implements io.Reader.
func (dots) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}
