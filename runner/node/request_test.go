package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

var web = netip.AddrPortFrom(serverAddr, 80)

// serveRaw accepts connections on port 80 of ns and hands each to f.
func serveRaw(t *testing.T, ns *netns.Namespace, f func(*net.TCPConn)) {
	t.Helper()
	l, err := ns.Listen(context.Background(), "tcp", netip.MustParseAddrPort("0.0.0.0:80"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.TCPConn))
		}
	}()
}

// headRead reads a request's header, so that a close is no reset.
func headRead(c net.Conn) {
	buf := make([]byte, 4096)
	for n := 0; !bytes.Contains(buf[:n], []byte("\r\n\r\n")); {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
	}
}

func TestRequest(t *testing.T) {
	client, server := pair(t)
	d, err := serve.Start(server, "web1", nil, topology.Daemon{Service: "http", Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx := t.Context()

	r := Request(ctx, client, RequestSpec{Addr: web, Path: "/x?y=1", Host: "www.example.org"})
	if r.Result != OK || r.Err != nil || r.Status != 200 || string(r.Body) != "web1 10.9.0.1\n" || r.Server != "web1" ||
		r.Peer != netip.MustParseAddr("10.9.0.1") || r.Local.Addr() != r.Peer || r.Elapsed <= 0 || r.Seq != 1 || r.CurlExit() != 0 {
		t.Errorf("%+v", r)
	}
	ports := map[uint16]bool{}
	for i, r := range Requests(ctx, client, RequestSpec{Addr: web}, 20, 4) {
		if r.Result != OK || r.Seq != i+1 {
			t.Errorf("%+v", r)
		}
		ports[r.Local.Port()] = true
	}
	if len(ports) != 20 {
		t.Errorf("20 requests came from %d ports; wanted a new connection each", len(ports))
	}
	if r := Request(ctx, client, RequestSpec{Addr: netip.AddrPortFrom(serverAddr, 81)}); r.Result != Refused || r.CurlExit() != 7 {
		t.Errorf("closed port: %+v", r)
	}
	if r := Request(ctx, client, RequestSpec{Addr: netip.MustParseAddrPort("192.0.2.1:80")}); r.Result != Unreachable || r.CurlExit() != 7 {
		t.Errorf("no route: %+v", r)
	}
	if r := Request(ctx, client, RequestSpec{Addr: web, Path: "x y"}); r.Result != Failed || r.Err == nil {
		t.Errorf("bad path: %+v", r)
	}
	if r := Request(ctx, client, RequestSpec{Addr: web, Host: "a\r\nb"}); r.Result != Failed || r.Err == nil {
		t.Errorf("bad host: %+v", r)
	}
}

func TestRequestNoARPAnswer(t *testing.T) {
	t.Parallel()
	client, _ := pair(t)
	dead := netip.MustParseAddrPort("10.9.0.77:80")
	if r := Request(t.Context(), client, RequestSpec{Addr: dead, Timeout: 300 * time.Millisecond}); r.Result != Timeout || r.CurlExit() != 28 || r.Elapsed < 300*time.Millisecond {
		t.Errorf("short timeout: %+v", r)
	}
	if r := Request(t.Context(), client, RequestSpec{Addr: dead}); r.Result != Unreachable || r.Elapsed > 4*time.Second {
		t.Errorf("long timeout: %+v", r)
	}
	if e := Ping(t.Context(), client, dead.Addr(), 1, 5*time.Second)[0]; e.Result != Unreachable {
		t.Errorf("ping: %+v", e)
	}
}

func TestRequestOutcomes(t *testing.T) {
	done := t.Context().Done()
	for name, c := range map[string]struct {
		server func(*net.TCPConn)
		result Result
		curl   int
		check  func(Reply) bool
	}{
		"says nothing": {func(c *net.TCPConn) { io.Copy(io.Discard, c); c.Close() }, Timeout, 28, nil},
		"stops in the body": {func(c *net.TCPConn) {
			headRead(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nweb1 ")
			io.Copy(io.Discard, c)
			c.Close()
		}, Timeout, 28, func(r Reply) bool { return r.Status == 200 && r.Server == "web1" }},
		"resets":            {func(c *net.TCPConn) { headRead(c); c.SetLinger(0); c.Close() }, Reset, 56, nil},
		"takes no upload":   {func(c *net.TCPConn) { <-done; c.Close() }, Timeout, 28, nil},
		"resets the upload": {func(c *net.TCPConn) { headRead(c); c.SetLinger(0); c.Close() }, Reset, 56, nil},
		"closes":            {func(c *net.TCPConn) { headRead(c); c.Close() }, Failed, 52, nil},
		"no HTTP":           {func(c *net.TCPConn) { headRead(c); io.WriteString(c, "SSH-2.0\r\n\r\n"); c.Close() }, Failed, 56, nil},
		"endless header": {func(c *net.TCPConn) {
			headRead(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			for {
				if _, err := c.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
					return
				}
			}
		}, Failed, 56, nil},
		"endless body": {func(c *net.TCPConn) {
			headRead(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write([]byte("flood ")); err != nil {
					return
				}
			}
		}, OK, 0, func(r Reply) bool { return r.Truncated && len(r.Body) == MaxBody && !r.Peer.IsValid() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := pair(t)
			serveRaw(t, server, c.server)
			spec := RequestSpec{Addr: web, Timeout: 2 * time.Second}
			if strings.HasSuffix(name, "upload") {
				spec.Upload = 16 << 20 // more than any two buffers take
			}
			r := Request(t.Context(), client, spec)
			if r.Result != c.result || r.CurlExit() != c.curl || (r.Err == nil) != (c.result == OK) || c.check != nil && !c.check(r) {
				r.Body = nil
				t.Errorf("%+v (curl %d); wanted %s, curl %d", r, r.CurlExit(), c.result, c.curl)
			}
		})
	}
}

func TestRequestsOneByOne(t *testing.T) {
	client, server := pair(t)
	var now, most atomic.Int32
	serveRaw(t, server, func(c *net.TCPConn) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		headRead(c)
		now.Add(-1)
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nweb1")
		c.Close()
	})
	Requests(t.Context(), client, RequestSpec{Addr: web}, 30, 1)
	if most.Load() != 1 {
		t.Errorf("%d requests at once; wanted one", most.Load())
	}
	if got := Requests(t.Context(), client, RequestSpec{Addr: web}, 0, 3); len(got) != 0 {
		t.Errorf("count 0: %v", got)
	}
}

func TestRequestCancelled(t *testing.T) {
	client, server := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	serveRaw(t, server, func(c *net.TCPConn) { headRead(c); cancel(); io.Copy(io.Discard, c) })
	start := time.Now()
	for _, r := range Requests(ctx, client, RequestSpec{Addr: web, Timeout: time.Minute}, 3, 1) {
		if r.Result != Failed || !errors.Is(r.Err, context.Canceled) {
			t.Errorf("%+v", r)
		}
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestPing(t *testing.T) {
	client, server := pair(t)
	for i, e := range Ping(t.Context(), client, serverAddr, 3, 0) {
		if e.Result != OK || e.Seq != i+1 || e.Err != nil || e.Elapsed <= 0 {
			t.Errorf("%+v", e)
		}
	}
	if e := Ping(t.Context(), client, netip.MustParseAddr("192.0.2.1"), 1, 0)[0]; e.Result != Unreachable || !strings.Contains(e.Err.Error(), "192.0.2.1") {
		t.Errorf("no route: %+v", e)
	}
	if err := server.SetSysctl("net.ipv4.icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	for _, e := range Ping(t.Context(), client, serverAddr, 2, 50*time.Millisecond) {
		if e.Result != Timeout || e.Elapsed < 50*time.Millisecond {
			t.Errorf("ignored: %+v", e)
		}
	}
	if e := Ping(t.Context(), client, netip.MustParseAddr("::1"), 1, 0)[0]; e.Result != Failed {
		t.Errorf("IPv6: %+v", e)
	}
	// A router's word: the client sends what it has no link for to the server,
	// which forwards and has no route.
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	if err := client.Netlink().RouteAdd(&netlink.Route{Dst: all, Gw: serverAddr.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	if err := server.SetSysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	if e := Ping(t.Context(), client, netip.MustParseAddr("192.0.2.1"), 1, 0)[0]; e.Result != Unreachable {
		t.Errorf("router without a route: %+v", e)
	}
	if r := Request(t.Context(), client, RequestSpec{Addr: netip.MustParseAddrPort("192.0.2.1:80")}); r.Result != Unreachable {
		t.Errorf("router without a route: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e := Ping(ctx, client, serverAddr, 1, 0)[0]; e.Result != Failed || !errors.Is(e.Err, context.Canceled) {
		t.Errorf("cancelled: %+v", e)
	}
}

func FuzzIsReply(f *testing.F) {
	p := &pinger{id: 7, token: [8]byte{1, 2, 3}}
	reply := append(make([]byte, 20), p.packet(1)...)
	reply[0], reply[20] = 0x45, icmpEchoReply
	f.Add(reply)
	f.Add([]byte{0x4f})
	f.Add([]byte{})
	if !p.isReply(reply, 1) || p.isReply(reply, 2) {
		f.Fatal("the reply was not known")
	}
	f.Fuzz(func(t *testing.T, b []byte) { p.isReply(b, 1) })
}
