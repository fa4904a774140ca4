package capture

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// arpFrame is an ARP request as it would be captured.
func arpFrame(at time.Time, out bool) Packet {
	data := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
	}
	return Packet{Time: at, Outgoing: out, Hardware: unix.ARPHRD_ETHER, EtherType: EtherTypeARP, Length: len(data), Data: data}
}

func TestPcapng(t *testing.T) {
	t0 := time.Unix(1700000000, 123456789)
	var buf bytes.Buffer
	err := WritePcapng(&buf, "dr/sysctl, step 1", []Interface{
		{Name: "client:eth0", Packets: []Packet{arpFrame(t0, true), arpFrame(t0.Add(3*time.Nanosecond), true)}},
		{Name: "web1:eth0", Packets: []Packet{arpFrame(t0.Add(time.Nanosecond), false)}, Lost: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(buf.Bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	var ifaces []int
	for {
		_, ci, err := r.ReadPacketData()
		if err != nil {
			break
		}
		if ci.Timestamp.Before(last) {
			t.Errorf("%v comes after %v", ci.Timestamp, last)
		}
		last = ci.Timestamp
		ifaces = append(ifaces, ci.InterfaceIndex)
	}
	if len(ifaces) != 3 || ifaces[1] != 1 || !last.Equal(t0.Add(3*time.Nanosecond)) {
		t.Errorf("interfaces %v, the last packet at %v", ifaces, last)
	}
	in, err := r.Interface(1)
	if err != nil || in.Name != "web1:eth0" || in.LinkType != layers.LinkTypeEthernet || in.Statistics.PacketsDropped != 7 {
		t.Errorf("%+v, %v", in, err)
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []struct {
		args []string
		want string
	}{
		{[]string{"tcpdump", "-n", "-tt", "--nano", "-r", file}, "1700000000.123456790"},
		{[]string{"tcpdump", "-n", "-r", file}, "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28"},
		{[]string{"tshark", "-n", "-r", file, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.time_epoch"}, "web1:eth0\t1700000000.123456790"},
	} {
		t.Run(tool.args[0], func(t *testing.T) {
			if _, err := exec.LookPath(tool.args[0]); err != nil {
				t.Skip(tool.args[0] + " is not installed")
			}
			out, err := exec.CommandContext(t.Context(), tool.args[0], tool.args[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tool.want) {
				t.Errorf("%v: %v\n%s\nwanted %q", tool.args, err, out, tool.want)
			}
		})
	}
}

func TestPcapngRefuses(t *testing.T) {
	if err := WritePcapng(new(bytes.Buffer), "", nil); err == nil {
		t.Error("a file without an interface was written")
	}
	tunnel := arpFrame(time.Unix(1, 0), true)
	tunnel.Hardware = unix.ARPHRD_TUNNEL
	err := WritePcapng(new(bytes.Buffer), "", []Interface{{Name: "a:tunl0", Packets: []Packet{tunnel}}})
	if err == nil || !strings.Contains(err.Error(), "a:tunl0 is no Ethernet device") {
		t.Errorf("%v", err)
	}
}

// TestNoOffloads sends much at once, as a server does.
func TestNoOffloads(t *testing.T) {
	l := newLAN(t, 2)
	var caps []*Capture
	for _, n := range l.nodes {
		c, err := Open(n.NS, n.Node, n.Device, Options{NoOffloads: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		caps = append(caps, c)
	}
	var listener net.Listener
	err := l.nodes[1].NS.Do(func() (err error) {
		listener, err = net.Listen("tcp", "10.0.0.2:80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write(make([]byte, 200<<10))
			_ = conn.Close()
		}
		done <- err
	}()
	conn, err := l.nodes[0].NS.Dial(t.Context(), "tcp", netip.AddrPortFrom(address(1).Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for buf := make([]byte, 64<<10); err == nil; {
		var k int
		k, err = conn.Read(buf)
		n += k
	}
	_ = conn.Close()
	if err := <-done; err != nil || n != 200<<10 {
		t.Fatalf("%d bytes came, %v", n, err)
	}
	for i, c := range caps {
		if err := c.Err(); err != nil {
			t.Error(err)
		}
		bulk := 0
		for _, p := range c.Packets() {
			if p.EtherType != EtherTypeIPv4 || p.Data[14+9] != ProtocolTCP {
				continue // the switch's own IGMP
			}
			if p.Length > 1514 {
				t.Fatalf("node%d saw a packet of %d bytes: %s", i, p.Length, Line(p))
			}
			if sum := tcpSum(p.Data[14:]); sum != 0xffff {
				t.Fatalf("node%d saw a packet whose checksum is wrong (%#x): %s", i, sum, Line(p))
			}
			bulk++
		}
		if bulk < 200<<10/1460 {
			t.Errorf("node%d saw %d packets", i, bulk)
		}
	}
}

// tcpSum is 0xffff for an IPv4 packet whose TCP checksum is right.
func tcpSum(ip []byte) uint32 {
	tcp := ip[20 : int(ip[2])<<8|int(ip[3])]
	sum := uint32(6 + len(tcp))
	add := func(b []byte) {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i]) << 8
			if i+1 < len(b) {
				sum += uint32(b[i+1])
			}
		}
	}
	add(ip[12:20])
	add(tcp)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
