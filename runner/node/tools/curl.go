package tools

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit statuses of curl(1).
const (
	curlUnsupported = 1
	curlUsage       = 2
	curlMalformed   = 3
	curlNoHost      = 6
	curlNoConnect   = 7
	curlHTTPError   = 22
	curlWrite       = 23
	curlTimeout     = 28
	curlTLS         = 35
	curlRedirects   = 47
	curlNothing     = 52
	curlReset       = 56
)

// curlVersion is what this curl calls itself.
const curlVersion = "lvslab-curl"

// maxRedirects is how far -L follows, as curl does by default.
const maxRedirects = 50

// curlOptions are what curl was told.
type curlOptions struct {
	urls                             []string
	silent, showError, failOn        bool
	remoteName, head, include        bool
	verbose, follow, insecure        bool
	v4, v6                           bool
	output, method, data, write, dev string
	hasData                          bool
	agent                            string
	headers                          []string
	maxTime, connectTime             time.Duration
}

// curlError is an error with curl's exit status.
type curlError struct {
	status int
	text   string
}

func (e *curlError) Error() string { return e.text }

func curlFail(status int, format string, args ...any) error {
	return &curlError{status, fmt.Sprintf(format, args...)}
}

// curl is curl(1) for a learner: HTTP and HTTPS of one or more URLs, each by a
// connection of its own. What it does not know it refuses by name.
func curl(c *call) int {
	o, done, err := parseCurl(c.args)
	if err != nil {
		c.errorf("curl: %v\ncurl: try 'curl --help' for more information\n", err)
		return curlUsage
	}
	if done != "" {
		c.printf("%s", done)
		return 0
	}
	if len(o.urls) == 0 {
		c.errorf("curl: no URL specified!\ncurl: try 'curl --help' for more information\n")
		return curlUsage
	}
	status := 0
	n := readNames()
	for _, u := range o.urls {
		t := &transfer{call: c, o: o, names: n, begin: time.Now()}
		err := t.run(u)
		var e *curlError
		if errors.As(err, &e) {
			status = e.status
			if e.text != "" && (!o.silent || o.showError) {
				c.errorf("curl: (%d) %s\n", e.status, e.text)
			}
		} else {
			status = 0
		}
		c.printf("%s", t.written())
	}
	return status
}

// curlFlags are options without an argument, curlValues those with one, both by
// their letters or long names.
func curlFlags(o *curlOptions) map[string]*bool {
	return map[string]*bool{
		"s": &o.silent, "silent": &o.silent, "S": &o.showError, "show-error": &o.showError, "f": &o.failOn, "fail": &o.failOn,
		"O": &o.remoteName, "remote-name": &o.remoteName, "I": &o.head, "head": &o.head, "i": &o.include, "include": &o.include,
		"v": &o.verbose, "verbose": &o.verbose, "L": &o.follow, "location": &o.follow, "k": &o.insecure, "insecure": &o.insecure,
		"4": &o.v4, "ipv4": &o.v4, "6": &o.v6, "ipv6": &o.v6,
	}
}

func curlValues(o *curlOptions) map[string]func(string) error {
	text := func(to *string) func(string) error { return func(v string) error { *to = v; return nil } }
	seconds := func(to *time.Duration) func(string) error {
		return func(v string) error {
			s, err := strconv.ParseFloat(v, 64)
			if err != nil || !(s >= 0 && s <= 1e6) { // nor is it NaN
				return errors.New("expected a proper numerical parameter")
			}
			*to = time.Duration(s * float64(time.Second))
			return nil
		}
	}
	data := func(v string) error {
		if o.hasData {
			v = o.data + "&" + v
		}
		o.data, o.hasData = v, true
		return nil
	}
	header := func(v string) error { o.headers = append(o.headers, v); return nil }
	location := func(v string) error { o.urls = append(o.urls, v); return nil }
	return map[string]func(string) error{
		"o": text(&o.output), "output": text(&o.output), "X": text(&o.method), "request": text(&o.method),
		"w": text(&o.write), "write-out": text(&o.write), "interface": text(&o.dev), "A": text(&o.agent), "user-agent": text(&o.agent),
		"d": data, "data": data, "H": header, "header": header, "url": location,
		"m": seconds(&o.maxTime), "max-time": seconds(&o.maxTime), "connect-timeout": seconds(&o.connectTime),
	}
}

// parseCurl reads a command line; done is what is to be printed instead of a
// transfer.
func parseCurl(args []string) (o *curlOptions, done string, err error) {
	o = &curlOptions{}
	flags, values := curlFlags(o), curlValues(o)
	for i := 0; i < len(args); i++ {
		a := args[i]
		value := func(name, glued string) error {
			if glued == "" {
				i++
				if i >= len(args) {
					return fmt.Errorf("option %s: requires parameter", a)
				}
				glued = args[i]
			}
			if err := values[name](glued); err != nil {
				return fmt.Errorf("option %s: %w", a, err)
			}
			return nil
		}
		switch {
		case a == "--version" || a == "-V":
			return o, curlVersion + " (Linux)\nProtocols: http https\n", nil
		case a == "--help" || a == "-h":
			return o, curlHelp, nil
		case strings.HasPrefix(a, "--"):
			name := a[2:]
			if flag, ok := flags[name]; ok && len(name) > 1 {
				*flag = true
			} else if _, ok := values[name]; ok && len(name) > 1 {
				err = value(name, "")
			} else {
				err = fmt.Errorf("option %s: is unknown", a)
			}
		case len(a) > 1 && a[0] == '-':
			for j := 1; j < len(a) && err == nil; j++ {
				letter := a[j : j+1]
				if flag, ok := flags[letter]; ok {
					*flag = true
				} else if _, ok := values[letter]; ok {
					err = value(letter, a[j+1:])
					break
				} else {
					err = fmt.Errorf("option %s: is unknown", a)
				}
			}
		default:
			o.urls = append(o.urls, a)
		}
		if err != nil {
			return nil, "", err
		}
	}
	return o, "", nil
}

const curlHelp = `Usage: curl [options...] <url>
 -d, --data <data>             HTTP POST data
 -f, --fail                    Fail on HTTP errors, without their output
 -H, --header <header>         Pass a header to the server
 -I, --head                    Show the header only
 -i, --include                 Show the header, too
     --interface <name>        Use a network interface or an address
 -k, --insecure                Take any certificate
 -L, --location                Follow redirects
 -m, --max-time <seconds>      Maximum time for a transfer
     --connect-timeout <seconds>  Maximum time for a connection
 -o, --output <file>           Write to a file
 -O, --remote-name             Write to a file named as the remote one
 -s, --silent                  No messages
 -S, --show-error              Errors even when silent
 -v, --verbose                 Say what is done
 -w, --write-out <format>      Say something after the transfer
 -X, --request <method>        HTTP method
 -4, --ipv4   -6, --ipv6       Only addresses of that family
`

// transfer is one URL.
type transfer struct {
	*call
	o     *curlOptions
	names *names
	begin time.Time

	conn      net.Conn
	code      int
	kind      string // Content-Type
	effective string
	size      int64
	redirects int
	connected time.Duration
	first     time.Duration
}

func (t *transfer) note(format string, args ...any) {
	if t.o.verbose {
		t.errorf("* "+format+"\n", args...)
	}
}

// run fetches a URL and whatever it redirects to.
func (t *transfer) run(text string) error {
	ctx := context.Background()
	if t.o.maxTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.o.maxTime)
		defer cancel()
	}
	u, err := parseURL(text)
	if err != nil {
		return err
	}
	method := t.method()
	for {
		t.effective = u.String()
		next, err := t.fetch(ctx, u, method)
		if err != nil || next == nil {
			return err
		}
		if t.redirects++; t.redirects > maxRedirects {
			return curlFail(curlRedirects, "Maximum (%d) redirects followed", maxRedirects)
		}
		if t.code != http.StatusTemporaryRedirect && t.code != http.StatusPermanentRedirect && method == http.MethodPost {
			method = http.MethodGet
		}
		u = next
	}
}

func (t *transfer) method() string {
	switch {
	case t.o.method != "":
		return t.o.method
	case t.o.head:
		return http.MethodHead
	case t.o.hasData:
		return http.MethodPost
	}
	return http.MethodGet
}

// parseURL reads a URL, http:// where it names no scheme.
func parseURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, curlFail(curlMalformed, "URL using bad/illegal format or missing URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, curlFail(curlUnsupported, "Protocol %q not supported or disabled in libcurl", u.Scheme)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// fetch does one request; next is where a redirect leads that is to be
// followed.
func (t *transfer) fetch(ctx context.Context, u *url.URL, method string) (next *url.URL, err error) {
	if err := t.connect(ctx, u); err != nil {
		return nil, err
	}
	defer t.conn.Close()
	defer context.AfterFunc(ctx, func() { t.conn.Close() })()
	req, err := t.request(u, method)
	if err != nil {
		return nil, err
	}
	if err := req.Write(t.conn); err != nil {
		return nil, t.broken(ctx, err)
	}
	in := bufio.NewReader(t.conn)
	if _, err := in.Peek(1); err != nil {
		if errors.Is(err, io.EOF) && ctx.Err() == nil {
			return nil, curlFail(curlNothing, "Empty reply from server")
		}
		return nil, t.broken(ctx, err)
	}
	t.first = time.Since(t.begin)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, unix.ECONNRESET) {
			return nil, t.broken(ctx, err)
		}
		return nil, curlFail(curlUnsupported, "Received HTTP/0.9 when not allowed")
	}
	defer resp.Body.Close()
	t.code, t.kind = resp.StatusCode, resp.Header.Get("Content-Type")
	t.showHeader("< ", resp)
	if where := resp.Header.Get("Location"); t.o.follow && where != "" && resp.StatusCode/100 == 3 {
		if next, err = u.Parse(where); err != nil {
			return nil, curlFail(curlMalformed, "URL using bad/illegal format or missing URL")
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return next, nil
	}
	if t.o.failOn && t.code >= http.StatusBadRequest {
		return nil, curlFail(curlHTTPError, "The requested URL returned error: %d", t.code)
	}
	return nil, t.body(ctx, u, resp)
}

// body writes what came to where it is wanted.
func (t *transfer) body(ctx context.Context, u *url.URL, resp *http.Response) (err error) {
	out := t.out
	name := t.o.output
	if t.o.remoteName {
		if name = path.Base(u.Path); name == "/" || name == "." {
			return curlFail(curlWrite, "Remote file name has no length!")
		}
	}
	if name != "" && name != "-" {
		file, openErr := os.Create(name)
		if openErr != nil {
			return curlFail(curlWrite, "Failure writing output to destination")
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	if t.o.include || t.o.head {
		_, _ = io.WriteString(out, headerText(resp))
	}
	if t.size, err = io.Copy(out, resp.Body); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return curlFail(18, "transfer closed with outstanding read data remaining")
		}
		return t.broken(ctx, err)
	}
	t.note("Closing connection 0")
	return nil
}

func headerText(resp *http.Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\r\n", resp.Proto, resp.Status)
	_ = resp.Header.Write(&b)
	return b.String() + "\r\n"
}

// showHeader is -v's way to show one.
func (t *transfer) showHeader(lead string, resp *http.Response) {
	if !t.o.verbose {
		return
	}
	for line := range strings.Lines(headerText(resp)) {
		t.errorf("%s%s\n", lead, strings.TrimRight(line, "\r\n"))
	}
}

func (t *transfer) request(u *url.URL, method string) (*http.Request, error) {
	var body io.Reader
	if t.o.hasData {
		data := t.o.data
		if name, ok := strings.CutPrefix(data, "@"); ok {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, curlFail(26, "Failed to open %s", name)
			}
			data = strings.NewReplacer("\r", "", "\n", "").Replace(string(text))
		}
		body = strings.NewReader(data)
	}
	req, err := http.NewRequest(method, u.String(), body)
	if err != nil {
		return nil, curlFail(curlMalformed, "%v", err)
	}
	req.Header.Set("User-Agent", curlVersion)
	if t.o.agent != "" {
		req.Header.Set("User-Agent", t.o.agent)
	}
	req.Header.Set("Accept", "*/*")
	if t.o.hasData {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, h := range t.o.headers {
		name, value, ok := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case strings.EqualFold(name, "Host"):
			req.Host = value
		case value == "":
			req.Header.Del(name)
		default:
			req.Header.Set(name, value)
		}
	}
	if t.o.verbose {
		t.errorf("> %s %s HTTP/1.1\n> Host: %s\n", method, u.RequestURI(), req.Host)
		for name, values := range req.Header {
			t.errorf("> %s: %s\n", name, strings.Join(values, ", "))
		}
		t.errorf(">\n")
	}
	return req, nil
}

// connect opens the connection, which is tried at one address.
func (t *transfer) connect(ctx context.Context, u *url.URL) error {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return curlFail(curlMalformed, "URL using bad/illegal format or missing URL")
	}
	a, ok := t.names.host(host)
	if !ok || t.o.v4 && !a.Is4() || t.o.v6 && a.Is4() {
		return curlFail(curlNoHost, "Could not resolve host: %s", host)
	}
	d := net.Dialer{Timeout: 5 * time.Minute, Control: t.bind}
	if t.o.connectTime > 0 {
		d.Timeout = t.o.connectTime
	}
	if local, err := netip.ParseAddr(t.o.dev); err == nil {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	t.note("  Trying %v...", netip.AddrPortFrom(a, uint16(n)))
	t.conn, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, uint16(n)).String())
	if err != nil {
		return t.refused(err, host, port)
	}
	t.connected = time.Since(t.begin)
	t.note("Connected to %s (%v) port %s (#0)", host, a, port)
	if u.Scheme == "https" {
		secure := tls.Client(t.conn, &tls.Config{ServerName: host, InsecureSkipVerify: t.o.insecure}) //nolint:gosec // -k
		if err := secure.HandshakeContext(ctx); err != nil {
			t.conn.Close()
			return curlFail(curlTLS, "%v", err)
		}
		t.conn = secure
	}
	return nil
}

// bind binds a socket to the device of --interface.
func (t *transfer) bind(_, _ string, raw syscall.RawConn) error {
	if _, err := netip.ParseAddr(t.o.dev); t.o.dev == "" || err == nil {
		return nil
	}
	var err error
	if control := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), t.o.dev) }); control != nil {
		return control
	}
	return err
}

// refused is what curl says of a connection that did not come about.
func (t *transfer) refused(err error, host, port string) error {
	ms := time.Since(t.begin).Milliseconds()
	var late net.Error
	var e unix.Errno
	switch {
	case errors.Is(err, unix.ETIMEDOUT):
		return curlFail(curlTimeout, "Failed to connect to %s port %s after %d ms: Connection timed out", host, port, ms)
	case errors.As(err, &late) && late.Timeout():
		return curlFail(curlTimeout, "Connection timed out after %d milliseconds", ms)
	case errors.Is(err, unix.ECONNREFUSED) || !errors.As(err, &e):
		return curlFail(curlNoConnect, "Failed to connect to %s port %s after %d ms: Couldn't connect to server", host, port, ms)
	}
	return curlFail(curlNoConnect, "Failed to connect to %s port %s after %d ms: %s", host, port, ms, sentence(e.Error()))
}

// broken is what curl says of a connection that broke.
func (t *transfer) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return curlFail(curlTimeout, "Operation timed out after %d milliseconds with %d bytes received", time.Since(t.begin).Milliseconds(), t.size)
	}
	return curlFail(curlReset, "Recv failure: %s", errnoText(err))
}

// written is -w, filled in.
func (t *transfer) written() string {
	if t.o.write == "" {
		return ""
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }
	values := map[string]string{
		"http_code": fmt.Sprintf("%03d", t.code), "response_code": fmt.Sprintf("%03d", t.code), "content_type": t.kind,
		"size_download": strconv.FormatInt(t.size, 10), "num_redirects": strconv.Itoa(t.redirects), "url_effective": t.effective,
		"time_total": seconds(time.Since(t.begin)), "time_connect": seconds(t.connected), "time_starttransfer": seconds(t.first),
	}
	if t.conn != nil {
		for lead, a := range map[string]net.Addr{"remote": t.conn.RemoteAddr(), "local": t.conn.LocalAddr()} {
			if ap, err := netip.ParseAddrPort(a.String()); err == nil {
				values[lead+"_ip"], values[lead+"_port"] = ap.Addr().String(), strconv.Itoa(int(ap.Port()))
			}
		}
	}
	var b strings.Builder
	for rest := t.o.write; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "%%"):
			b.WriteByte('%')
			rest = rest[2:]
		case strings.HasPrefix(rest, "%{") && strings.Contains(rest, "}"):
			name, tail, _ := strings.Cut(rest[2:], "}")
			value, known := values[name]
			if !known {
				t.errorf("curl: unknown --write-out variable: '%s'\n", name)
			}
			b.WriteString(value)
			rest = tail
		case strings.HasPrefix(rest, `\n`), strings.HasPrefix(rest, `\t`), strings.HasPrefix(rest, `\r`):
			b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', 'r': '\r'}[rest[1]])
			rest = rest[2:]
		default:
			b.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	return b.String()
}
