package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/runner/node/serve"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
)

var clientAddr = netip.MustParseAddr("10.9.0.1")

// addAddr gives a node one more address.
func addAddr(t *testing.T, ns *netns.Namespace, device, addr string) {
	t.Helper()
	l, err := ns.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Netlink().AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	if err := ns.Netlink().LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

// start runs a service in a node of a test.
func start(t *testing.T, ns *netns.Namespace, d topology.Daemon) serve.Daemon {
	t.Helper()
	running, err := serve.Start(ns, "web1", nil, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Close() })
	return running
}

// spoken are the services with a client each, and what both need.
func spoken() map[string]RequestSpec {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(serverAddr, port) }
	return map[string]RequestSpec{
		"http": {Client: "http", Addr: at(80)},
		"tcp":  {Client: "tcp", Addr: at(7000)},
		"udp":  {Client: "udp", Addr: at(7000)},
		"dns":  {Client: "dns", Addr: at(53)},
		"smtp": {Client: "smtp", Addr: at(25)},
		"ftp":  {Client: "ftp", Addr: at(21)},
	}
}

func TestEveryService(t *testing.T) {
	client, server := pair(t)
	for service, spec := range spoken() {
		t.Run(service, func(t *testing.T) {
			d := start(t, server, topology.Daemon{Service: service, Port: spec.Addr.Port()})
			check := func(t *testing.T, spec RequestSpec) Reply {
				t.Helper()
				r := Request(t.Context(), client, spec)
				if r.Result != OK || r.Err != nil || r.Server != "web1" || r.Peer != clientAddr ||
					r.Local.Addr() != clientAddr || r.Local.Port() == 0 || !r.Connected {
					t.Errorf("%+v", r)
				}
				return r
			}
			check(t, spec)
			t.Run("source", func(t *testing.T) {
				from := spec
				from.Source = netip.AddrPortFrom(clientAddr, 0)
				check(t, from)
				from.Source = netip.AddrPortFrom(netip.IPv4Unspecified(), 4321)
				if r := check(t, from); r.Local.Port() != 4321 {
					t.Errorf("came from %s, wanted port 4321", r.Local)
				}
			})
			if service == "dns" {
				tcp := spec
				tcp.Network = "tcp"
				if r := check(t, tcp); r.Protocol != "tcp" {
					t.Errorf("asked by %s", r.Protocol)
				}
			}
			if service == "ftp" {
				for _, active := range []bool{false, true} {
					file := spec
					file.Path, file.Active = "/any", active
					if r := check(t, file); string(r.Body) != "web1 10.9.0.1\n" || r.Status != 226 {
						t.Errorf("active %v: %+v", active, r)
					}
					file.Path = "/"
					check(t, file)
				}
			}
			if service == "http" || service == "tcp" || service == "udp" || service == "ftp" {
				bulk := spec
				bulk.Bytes = 60000
				if service == "http" || service == "ftp" {
					bulk.Path = "/bytes/60000"
				}
				if r := check(t, bulk); len(r.Body) != 60000 || r.Truncated {
					t.Errorf("%d bytes, truncated %v", len(r.Body), r.Truncated)
				}
			}
			if service == "http" || service == "smtp" {
				up := spec
				up.Upload = 100000
				check(t, up)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if r := Request(t.Context(), client, spec); r.Result != Refused || r.Local.Addr() != clientAddr {
				t.Errorf("after its end: %+v", r)
			}
		})
	}
}

func TestBulkBeyondWhatIsKept(t *testing.T) {
	client, server := pair(t)
	start(t, server, topology.Daemon{Service: "http", Port: 80})
	start(t, server, topology.Daemon{Service: "tcp", Port: 7000})
	for name, spec := range map[string]RequestSpec{
		"http": {Addr: netip.AddrPortFrom(serverAddr, 80), Path: "/bytes/300000", Bytes: 300000},
		"tcp":  {Client: "tcp", Addr: netip.AddrPortFrom(serverAddr, 7000), Bytes: 300000},
	} {
		r := Request(t.Context(), client, spec)
		if r.Result != OK || len(r.Body) != MaxBody || !r.Truncated || r.Server != "web1" {
			t.Errorf("%s: %s, %d bytes, truncated %v, %v", name, r.Result, len(r.Body), r.Truncated, r.Err)
		}
	}
}

// TestHold keeps a connection of each kind open, and sees that it is.
func TestHold(t *testing.T) {
	client, server := pair(t)
	for service, spec := range spoken() {
		t.Run(service, func(t *testing.T) {
			start(t, server, topology.Daemon{Service: service, Port: spec.Addr.Port()})
			spec.Hold = true
			r := Request(t.Context(), client, spec)
			if spec.Client == "udp" || spec.Client == "dns" {
				if r.Result != Failed || r.Held != nil {
					t.Errorf("held a datagram: %+v", r)
				}
				return
			}
			if r.Result != OK || r.Held == nil || r.Server != "web1" {
				t.Fatalf("%+v", r)
			}
			conn := r.Held.(net.Conn)
			if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			// Whatever still comes is of the answer; the end must not come.
			for {
				_, err := conn.Read(make([]byte, 4096))
				if err == nil {
					continue
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("a held connection ended by itself: %v", err)
				}
				break
			}
			conn.Close()
		})
	}
}

// TestSilentServer is a server that takes connections and says nothing.
func TestSilentServer(t *testing.T) {
	client, server := pair(t)
	for service, spec := range spoken() {
		t.Run(service, func(t *testing.T) {
			listen := netip.AddrPortFrom(netip.IPv4Unspecified(), spec.Addr.Port())
			if service == "udp" || service == "dns" {
				c, err := server.ListenPacket(t.Context(), "udp", listen)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			} else {
				l, err := server.Listen(t.Context(), "tcp", listen)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			spec.Timeout = 100 * time.Millisecond
			if r := Request(t.Context(), client, spec); r.Result != Timeout || r.Server != "" || !r.Connected {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestResetServer is a server that cuts every connection.
func TestResetServer(t *testing.T) {
	client, server := pair(t)
	for service, spec := range spoken() {
		if service == "udp" || service == "dns" {
			continue
		}
		t.Run(service, func(t *testing.T) {
			l, err := server.Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), spec.Addr.Port()))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.(*net.TCPConn).SetLinger(0)
					c.Close()
				}
			}()
			if r := Request(t.Context(), client, spec); r.Result != Reset {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRefusals are servers that answer in their protocol's own words that they
// will not.
func TestRefusals(t *testing.T) {
	client, server := pair(t)
	for client2, says := range map[string]string{
		"smtp": "554 5.7.1 no mail here\r\n",
		"ftp":  "421 too many\r\n",
	} {
		spec := spoken()[client2]
		l, err := server.Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), spec.Addr.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte(says))
				c.Close()
			}
		}()
		r := Request(t.Context(), client, spec)
		if r.Result != Failed || r.Status == 0 || !strings.Contains(r.Err.Error(), "the server answers") {
			t.Errorf("%s: %+v", client2, r)
		}
	}
}

func TestSameSocket(t *testing.T) {
	client, server := pair(t)
	start(t, server, topology.Daemon{Service: "udp", Port: 7000})
	for _, same := range []bool{false, true} {
		spec := RequestSpec{Client: "udp", Addr: netip.AddrPortFrom(serverAddr, 7000), SameSocket: same}
		ports := make(map[uint16]bool)
		for _, r := range Requests(t.Context(), client, spec, 10, 1) {
			if r.Result != OK {
				t.Fatalf("%+v", r)
			}
			ports[r.Local.Port()] = true
		}
		if want := map[bool]int{false: 10, true: 1}[same]; len(ports) != want {
			t.Errorf("same socket %v: 10 datagrams from %d ports, wanted %d", same, len(ports), want)
		}
	}
}

func TestInTurn(t *testing.T) {
	a, b := pair(t)
	start(t, b, topology.Daemon{Service: "tcp", Port: 7000})
	s := Series{From: []*netns.Namespace{a, b}, Count: 4, Concurrency: 1, Interval: time.Millisecond}
	var from []string
	for _, r := range s.Send(t.Context(), RequestSpec{Client: "tcp", Addr: netip.AddrPortFrom(serverAddr, 7000)}) {
		if r.Result != OK {
			t.Errorf("%+v", r)
		}
		from = append(from, r.From)
	}
	if got := strings.Join(from, " "); got != a.Name()+" "+b.Name()+" "+a.Name()+" "+b.Name() {
		t.Errorf("requests came from %s", got)
	}
}

// TestPeerOfUDP: the answer comes from the address that was asked, a virtual IP
// that is no address of a link.
func TestAnswerFromTheAddressAsked(t *testing.T) {
	client, server := pair(t)
	addAddr(t, server, "lo", "10.9.0.100/32")
	start(t, server, topology.Daemon{Service: "udp", Port: 7000})
	start(t, server, topology.Daemon{Service: "dns", Port: 53})
	for name, port := range map[string]uint16{"udp": 7000, "dns": 53} {
		// A connected socket takes answers from that address alone.
		r := Request(t.Context(), client, RequestSpec{Client: name, Addr: netip.AddrPortFrom(netip.MustParseAddr("10.9.0.100"), port)})
		if r.Result != OK || r.Server != "web1" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestEndOfTheCaller(t *testing.T) {
	client, _ := pair(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(context.Canceled)
	for _, spec := range spoken() {
		if r := Request(ctx, client, spec); r.Result != Failed || r.Connected {
			t.Errorf("%+v", r)
		}
	}
}

// TestEndWhileWaitingForData: a server that waits for a data connection, or for
// its own to come up, ends at once all the same.
func TestEndWhileWaitingForData(t *testing.T) {
	client, server := pair(t)
	for _, command := range []string{"PASV", "PORT 10,9,0,77,4,1"} { // nobody is .77
		d := start(t, server, topology.Daemon{Service: "ftp", Port: 21})
		r := Request(t.Context(), client, RequestSpec{Client: "ftp", Addr: netip.AddrPortFrom(serverAddr, 21), Hold: true})
		if r.Held == nil {
			t.Fatalf("%+v", r)
		}
		if _, err := r.Held.(net.Conn).Write([]byte(command + "\r\nLIST\r\n")); err != nil {
			t.Fatal(err)
		}
		// "150 here it comes" is said before it waits.
		said, buf := "", make([]byte, 1024)
		for !strings.Contains(said, "150") {
			n, err := r.Held.(net.Conn).Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			said += string(buf[:n])
		}
		ended := make(chan error, 1)
		go func() { ended <- d.Close() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("after %s the server does not end", command)
		}
		r.Held.Close()
	}
}

func TestListenOnlyThere(t *testing.T) {
	client, server := pair(t)
	addAddr(t, server, "eth0", "10.9.0.3/24")
	start(t, server, topology.Daemon{Service: "tcp", Port: 7000, Address: netip.MustParseAddr("10.9.0.3")})
	if r := Request(t.Context(), client, RequestSpec{Client: "tcp", Addr: netip.MustParseAddrPort("10.9.0.3:7000")}); r.Result != OK {
		t.Errorf("%+v", r)
	}
	if r := Request(t.Context(), client, RequestSpec{Client: "tcp", Addr: netip.AddrPortFrom(serverAddr, 7000)}); r.Result != Refused {
		t.Errorf("%+v", r)
	}
	_, err := serve.Start(server, "web1", nil, topology.Daemon{Service: "tcp", Port: 7001, Address: netip.MustParseAddr("10.9.0.77")})
	if err == nil || !strings.Contains(err.Error(), "the node has no address 10.9.0.77") {
		t.Errorf("%v", err)
	}
}

func FuzzParsePasv(f *testing.F) {
	for _, s := range []string{"Entering Passive Mode (10,0,0,1,4,1)", "(1,2,3)", "(256,0,0,1,4,1)", "Entering Extended Passive Mode (|||1025|)", "(|||0|)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parsePasv(s); err == nil && !at.Addr().Is4() {
			t.Errorf("%q: %s", s, at)
		}
		if port, err := parseEPSV(s); err == nil && port == 0 {
			t.Errorf("%q: port 0", s)
		}
	})
}

func TestListeningTables(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue
   0: 00000000:0050 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000
`
	const udp = `   sl  local_address rem_address   st tx_queue
 100: 00000000:0035 00000000:0000 07 00000000:00000000
`
	const sctp = ` ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
0 0 2 10 5 7000 0 1 0.0.0.0
`
	for _, c := range []struct {
		protocol, text string
		port           uint16
		want           bool
	}{
		{"tcp", tcp, 80, true},
		{"tcp", tcp, 8080, false},
		{"udp", udp, 53, true},
		{"udp", udp, 54, false},
		{"tcp", udp, 53, false},
		{"sctp", sctp, 7000, true},
		{"sctp", sctp, 7, false},
		{"tcp", "", 80, false},
	} {
		if got := hasPort(c.protocol, c.text, c.port); got != c.want {
			t.Errorf("%s port %d: %v", c.protocol, c.port, got)
		}
	}
}
