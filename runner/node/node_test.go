package node

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/topology/netns"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		t.Fatal("must be root to make namespaces")
	}
	t.Skip("must be root to make namespaces")
}

func newNode(t testing.TB, name string) *netns.Namespace {
	t.Helper()
	needRoot(t)
	ns, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		if err := ns.SetSysctl("net.ipv6.conf.all.disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
	}
	up(t, ns, "lo")
	return ns
}

func up(t testing.TB, ns *netns.Namespace, device string, addrs ...string) {
	t.Helper()
	l, err := ns.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err == nil {
			err = ns.Netlink().AddrAdd(l, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Netlink().LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

// pair makes two nodes with a link between them, 10.9.0.1 and 10.9.0.2.
func pair(t testing.TB) (client, server *netns.Namespace) {
	t.Helper()
	client, server = newNode(t, "client"), newNode(t, "server")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(server.Fd())}
	if err := client.Netlink().LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	up(t, client, "eth0", "10.9.0.1/24")
	up(t, server, "eth0", "10.9.0.2/24")
	// Until the kernel has noticed the carrier it drops what is sent.
	for _, ns := range []*netns.Namespace{client, server} {
		await(t, "eth0 to be up", func() bool {
			l, err := ns.Netlink().LinkByName("eth0")
			return err == nil && l.Attrs().OperState == netlink.OperUp
		})
	}
	return client, server
}

var serverAddr = netip.MustParseAddr("10.9.0.2")
