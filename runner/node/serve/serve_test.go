package serve_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		t.Fatal("must be root to make network namespaces")
	}
	t.Skip("must be root to make network namespaces")
}

// newNode makes a namespace with lo up, IPv6 on or off.
func newNode(t testing.TB, ipv6 bool) *netns.Namespace {
	t.Helper()
	needRoot(t)
	ns, err := netns.New("web1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	value := "1"
	if ipv6 {
		value = "0"
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		if err := ns.SetSysctl("net.ipv6.conf.all.disable_ipv6", value); err != nil {
			t.Fatal(err)
		}
	} else if ipv6 {
		t.Skip("this kernel has no IPv6")
	}
	lo, err := ns.Netlink().LinkByName("lo")
	if err == nil {
		err = ns.Netlink().LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func get(t *testing.T, ns *netns.Namespace, method, addr, path string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := ns.Dial(ctx, "tcp", netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(conn, method+" "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	// The server closes, and says nothing more before.
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the answer: %q, %v; wanted the end of the connection", rest, err)
	}
	return resp, string(body)
}

func TestHTTP(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv6 off", true: "IPv6 on"}[ipv6], func(t *testing.T) {
			ns := newNode(t, ipv6)
			lo, _ := ns.Netlink().LinkByName("lo")
			vip, _ := netlink.ParseAddr("172.25.12.100/32")
			if err := ns.Netlink().AddrAdd(lo, vip); err != nil {
				t.Fatal(err)
			}
			d, err := serve.Start(ns, "web1", nil, topology.Daemon{Name: "http", Service: "http", Port: 80})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			wanted := map[string]string{
				"127.0.0.1:80":     "web1 127.0.0.1\n",
				"172.25.12.100:80": "web1 172.25.12.100\n",
			}
			if ipv6 {
				wanted["[::1]:80"] = "web1 ::1\n"
			}
			for addr, want := range wanted {
				resp, body := get(t, ns, "GET", addr, "/any/path?q=1")
				if body != want || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain" || !resp.Close {
					t.Errorf("%s: %d %q %v; wanted 200 %q, text/plain, Connection: close", addr, resp.StatusCode, body, resp.Header, want)
				}
			}
			if resp, _ := get(t, ns, "DELETE", "127.0.0.1:80", "/"); resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("DELETE: status %d", resp.StatusCode)
			}
			if resp, _ := get(t, ns, "HEAD", "127.0.0.1:80", "/"); resp.StatusCode != 200 {
				t.Errorf("HEAD: status %d", resp.StatusCode)
			}
		})
	}
}

func TestCloseAndStartAgain(t *testing.T) {
	ns := newNode(t, false)
	want := topology.Daemon{Name: "http:8080", Service: "http", Port: 8080}
	for range 20 {
		d, err := serve.Start(ns, "web1", nil, want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := serve.Start(ns, "web1", nil, want); !errors.Is(err, unix.EADDRINUSE) ||
			!strings.Contains(err.Error(), "web1") || !strings.Contains(err.Error(), "8080") {
			t.Fatalf("second server: %v", err)
		}
		get(t, ns, "GET", "127.0.0.1:8080", "/")
		idle, err := ns.Dial(context.Background(), "tcp", netip.MustParseAddrPort("127.0.0.1:8080"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		idle.Close()
		_, err = ns.Dial(context.Background(), "tcp", netip.MustParseAddrPort("127.0.0.1:8080"))
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("after Close: %v", err)
		}
	}
}

func TestNodesDoNotMeet(t *testing.T) {
	for _, name := range []string{"web1", "web2"} {
		ns := newNode(t, false)
		d, err := serve.Start(ns, name, nil, topology.Daemon{Service: "http", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, body := get(t, ns, "GET", "127.0.0.1:80", "/"); body != name+" 127.0.0.1\n" {
			t.Errorf("%s: %q", name, body)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	if _, err := serve.Start(nil, "web1", nil, topology.Daemon{Service: "gopher", Port: 70}); err == nil ||
		!strings.Contains(err.Error(), `"gopher" (known: `) {
		t.Errorf("unknown service: %v", err)
	}
	if _, err := serve.Start(nil, "web1", nil, topology.Daemon{Service: "http"}); err == nil {
		t.Error("port 0 was taken")
	}
}
