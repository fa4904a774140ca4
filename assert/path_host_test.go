package assert

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/netns"
)

// wires are real namespaces whose links are captured.
type wires struct {
	fakeEnv
	list   []LinkCapture
	owners map[string]topology.NetAddr
}

func (w *wires) WatchLinks() error   { return nil }
func (w *wires) Directors() []string { return []string{"director"} }
func (w *wires) Links() []LinkCapture {
	return w.list
}

func (w *wires) Owner(mac net.HardwareAddr) (topology.NetAddr, bool) {
	o, ok := w.owners[mac.String()]
	return o, ok
}

// whole is a capture that must not have lost anything.
type whole struct{ *capture.Capture }

func (c whole) Packets() ([]capture.Packet, error) { return c.Capture.Packets(), c.Err() }

// TestPathOnThisKernel follows what this machine's kernel does to packets: a
// router, with address translation by nf_tables in the place of IPVS.
func TestPathOnThisKernel(t *testing.T) {
	why := ""
	if os.Geteuid() != 0 {
		why = "making network namespaces needs root"
	} else if _, err := exec.LookPath("nft"); err != nil {
		why = "nft is not installed"
	}
	if why != "" {
		if os.Getenv("LVSLAB_REQUIRE") == "1" && os.Geteuid() != 0 {
			t.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
		}
		t.Skip(why)
	}
	for _, c := range []struct {
		method, rules string
		passes        []string
	}{
		{"a router alone", "", []string{"path: {request: [client, director, web1], reply: [web1, director, client], encapsulation: none}", "path: {request: {ttl: 63}}"}},
		{"nat", "tcp dport 80 dnat ip to 10.1.0.2:80", []string{"path: nat"}},
		{"fullnat", "tcp dport 80 dnat ip to 10.1.0.2:80", []string{"path: fullnat"}},
	} {
		t.Run(c.method, func(t *testing.T) { pathOnThisKernel(t, c.method, c.rules, c.passes) })
	}
}

func pathOnThisKernel(t *testing.T, method, dnat string, passes []string) {
	w := &wires{owners: make(map[string]topology.NetAddr)}
	nodes := make(map[string]*netns.Namespace)
	for _, name := range []string{"client", "director", "web1"} {
		ns, err := netns.New(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ns.Close(); err != nil {
				t.Error(err)
			}
		})
		nodes[name] = ns
		for _, key := range []string{"all", "default"} {
			_ = ns.SetSysctl("net.ipv6.conf."+key+".disable_ipv6", "1") // a kernel without IPv6 has no such key
		}
	}
	in := func(node, command string) {
		t.Helper()
		err := nodes[node].Do(func() error {
			out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", command, err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cable := func(a, adev, aaddr, b, bdev, baddr string) {
		t.Helper()
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: adev, TxQLen: -1}, PeerName: bdev, PeerTxQLen: -1, PeerNamespace: netlink.NsFd(nodes[b].Fd())}
		if err := nodes[a].Netlink().LinkAdd(veth); err != nil {
			t.Fatal(err)
		}
		for _, end := range [][3]string{{a, adev, aaddr}, {b, bdev, baddr}} {
			h := nodes[end[0]].Netlink()
			dev, err := h.LinkByName(end[1])
			if err != nil {
				t.Fatal(err)
			}
			p := netip.MustParsePrefix(end[2])
			if err := h.AddrAdd(dev, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}); err != nil {
				t.Fatal(err)
			}
			if err := h.LinkSetUp(dev); err != nil {
				t.Fatal(err)
			}
			w.owners[dev.Attrs().HardwareAddr.String()] = topology.NetAddr{Node: end[0], Device: end[1], MAC: dev.Attrs().HardwareAddr}
			c, err := capture.Open(nodes[end[0]], end[0], end[1], capture.Options{NoOffloads: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			w.list = append(w.list, LinkCapture{end[0], end[1], whole{c}})
		}
	}
	cable("client", "eth0", "10.0.0.250/24", "director", "eth0", "10.0.0.1/24")
	cable("director", "eth1", "10.1.0.1/24", "web1", "eth0", "10.1.0.2/24")
	route := func(node string, via net.IP) {
		t.Helper()
		if err := nodes[node].Netlink().RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: via, Table: unix.RT_TABLE_MAIN}); err != nil {
			t.Fatal(err)
		}
	}
	route("client", net.IPv4(10, 0, 0, 1))
	if method != "fullnat" {
		route("web1", net.IPv4(10, 1, 0, 1))
	}
	if err := nodes["director"].SetSysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	target := netip.MustParseAddrPort("10.1.0.2:80")
	if dnat != "" {
		h := nodes["director"].Netlink()
		dev, err := h.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.AddrAdd(dev, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 0, 0, 100), Mask: net.CIDRMask(32, 32)}}); err != nil {
			t.Fatal(err)
		}
		target = netip.MustParseAddrPort("10.0.0.100:80")
		rules := "nft 'add table ip t; add chain ip t pre { type nat hook prerouting priority -100; }; add rule ip t pre ip daddr 10.0.0.100 " + dnat + "'"
		if method == "fullnat" {
			rules += "\nnft 'add chain ip t post { type nat hook postrouting priority 100; }; add rule ip t post oifname eth1 masquerade'"
		}
		in("director", rules)
	}
	const bytes = 100 << 10
	var l net.Listener
	err := nodes["web1"].Do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "10.1.0.2:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(make([]byte, bytes))
			_ = conn.Close()
		}
	}()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		conn, err := nodes["client"].Dial(ctx, "tcp", target)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); err != nil || n != bytes {
			t.Fatalf("%d bytes, %v", n, err)
		}
		_ = conn.Close()
		w.out.Replies = append(w.out.Replies, Reply{From: "client", To: target.String(), Result: OK})
	}
	passes = append(passes, "cost: {node: director, bytes_out: \">102400\", bytes_in: \">102400\", packets: \">140\"}")
	for _, check := range passes {
		// What closes the last connection may be on its way still.
		var r Result
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			r = judgeOnce(t, check, w)
			if r.Pass || time.Now().After(deadline) {
				break
			}
		}
		if !r.Pass {
			t.Errorf("%s: %s\n%s", check, r.Seen, r.Evidence[0].Text)
		}
		if strings.HasPrefix(check, "path") && r.Seen != "3× client → director → web1 → director → client" {
			t.Errorf("%s: %s", check, r.Seen)
		}
	}
	if r := judgeOnce(t, "path: dr", w); r.Pass {
		t.Errorf("path: dr: %s", r.Seen)
	}
}
