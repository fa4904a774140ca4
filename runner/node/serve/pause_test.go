package serve_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

// TestPause has a server of each kind hang: it takes a connection and answers
// nothing, and goes on where it was; closed while it hangs, it ends.
func TestPause(t *testing.T) {
	needRoot(t)
	ns, err := netns.New("web1")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	lo, err := ns.Netlink().LinkByName("lo")
	if err == nil {
		err = ns.Netlink().LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	const dnsQuestion = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x10\x00\x01"
	for _, c := range []struct{ service, network, ask, want, log string }{
		{"http", "tcp", "GET /x HTTP/1.0\r\n\r\n", "web1 127.0.0.1", "GET /x"},
		{"tcp", "tcp", "hello\n", "web1 127.0.0.1", "line hello"},
		{"udp", "udp", "hello\n", "web1 127.0.0.1", "datagram hello"},
		{"dns", "udp", dnsQuestion, "\x04web1", "TXT web."},
		{"smtp", "tcp", "QUIT\r\n", "220 web1", ""},
		{"ftp", "tcp", "QUIT\r\n", "220 web1", ""},
	} {
		t.Run(c.service, func(t *testing.T) {
			const port = 7007
			d, err := serve.Start(ns, "web1", nil, topology.Daemon{Name: c.service, Service: c.service, Port: port})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			ask := func() net.Conn {
				t.Helper()
				conn, err := ns.Dial(t.Context(), c.network, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
				if err == nil {
					_, err = io.WriteString(conn, c.ask)
				}
				if err != nil {
					t.Fatal(err)
				}
				return conn
			}
			answer := func(conn net.Conn, within time.Duration) (string, error) {
				_ = conn.SetReadDeadline(time.Now().Add(within))
				var got strings.Builder
				buf := make([]byte, 4<<10)
				for !strings.Contains(got.String(), c.want) {
					n, err := conn.Read(buf)
					got.Write(buf[:n])
					if err != nil {
						return got.String(), err
					}
				}
				return got.String(), nil
			}
			const long, short = 10 * time.Second, 50 * time.Millisecond
			conn := ask()
			if got, err := answer(conn, long); err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			conn.Close()
			p, ok := d.(serve.Pauser)
			if !ok || p.Pause() != nil {
				t.Fatal("it cannot be paused")
			}
			conn = ask()
			if got, err := answer(conn, short); !errors.Is(err, os.ErrDeadlineExceeded) || got != "" {
				t.Errorf("while it hangs it answers %q, %v", got, err)
			}
			if err := p.Resume(); err != nil {
				t.Fatal(err)
			}
			if got, err := answer(conn, long); err != nil {
				t.Errorf("who waited got %q, %v", got, err)
			}
			conn.Close()
			log := strings.Join(d.(serve.Logger).Log(), "\n")
			if n := strings.Count(log, " 127.0.0.1:"); c.log != "" && (n != 2 || !strings.HasSuffix(log, c.log)) {
				t.Errorf("%d lines in the log:\n%s", n, log)
			}
			if err := p.Pause(); err != nil {
				t.Fatal(err)
			}
			conn = ask()
			defer conn.Close()
			closed := make(chan error, 1)
			go func() { closed <- d.Close() }()
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(long):
				t.Fatal("what hangs cannot be closed")
			}
			if got, err := answer(conn, short); err == nil {
				t.Errorf("closed, it answers %q", got)
			}
		})
	}
}
