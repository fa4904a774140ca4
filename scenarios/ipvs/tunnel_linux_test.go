package ipvs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Each kind of tunnel, in and over each family, as its packets leave the
// director; a v4 service with v6 tunnels and the other way included. The
// director has no device and no module for any of them.
func TestGuestTunnels(t *testing.T) {
	n, c := ipvsNode(t)
	dummyLink(t, n, "out0", "10.9.7.1/24")
	rip := map[Family]netip.Addr{IPv4: netip.MustParseAddr("10.9.7.9"), IPv6: netip.MustParseAddr("2001:db8:7::9")}
	vip := map[Family]netip.Addr{IPv4: netip.MustParseAddr("10.9.0.1"), IPv6: netip.MustParseAddr("2001:db8::1")}
	wire := listenOn(t, n, "out0", rip)
	kinds := []Destination{
		{TunType: IPIP},
		{TunType: GRE},
		{TunType: GRE, TunFlags: Checksum},
		{TunType: GUE, TunPort: 6080},
		{TunType: GUE, TunPort: 6080, TunFlags: Checksum},
		{TunType: GUE, TunPort: 6080, TunFlags: RemoteChecksum},
	}
	port := uint16(1000) // a fresh one for each, for connections live on
	for _, inner := range []Family{IPv4, IPv6} {
		for _, outer := range []Family{IPv4, IPv6} {
			for _, d := range kinds {
				port++
				s := Service{Protocol: UDP, Addr: netip.AddrPortFrom(vip[inner], port), Scheduler: "rr"}
				d.Forward, d.Weight, d.Addr = TUN, 1, netip.AddrPortFrom(rip[outer], port)
				if err := errors.Join(c.AddService(t.Context(), s), c.AddDestination(t.Context(), s, d)); err != nil {
					t.Fatal(err)
				}
				text := fmt.Appendf(nil, "datagram %d", port)
				err := n.Do(func() error {
					conn, err := net.Dial("udp", s.Addr.String())
					if err != nil {
						return err
					}
					_, err = conn.Write(text)
					return errors.Join(err, conn.Close())
				})
				if err != nil {
					t.Fatal(err)
				}
				packet, ok := wire(text)
				if !ok {
					t.Errorf("%v in %v, %s: nothing on the wire", inner, outer, destinationOptions(d))
					continue
				}
				if err := checkWrapped(packet, inner, outer, d); err != nil {
					t.Errorf("%v in %v, %s: %v in % x", inner, outer, destinationOptions(d), err, packet)
				}
			}
		}
	}
}

// listenOn hears what leaves by device, whose neighbours need no asking. The
// answer waits for the packet that ends as wanted.
func listenOn(t *testing.T, n *testNode, device string, neighbours map[Family]netip.Addr) func(end []byte) ([]byte, bool) {
	t.Helper()
	fd := -1
	err := n.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		peer, err := netlink.LinkByName(device + "p")
		if err != nil {
			return err
		}
		v6 := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:7::1"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(link, v6); err != nil {
			return err
		}
		for _, a := range neighbours {
			err := netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: peer.Attrs().HardwareAddr,
			})
			if err != nil {
				return err
			}
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: peer.Attrs().Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(end []byte) ([]byte, bool) {
		buf := make([]byte, 2048)
		for late := time.Now().Add(5 * time.Second); time.Now().Before(late); {
			got, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && bytes.HasSuffix(buf[:got], end) {
				return bytes.Clone(buf[:got]), true
			}
		}
		return nil, false
	}
}

// checkWrapped peels a packet down to what it carries.
func checkWrapped(p []byte, inner, outer Family, d Destination) error {
	// The numbers of IPv4 and IPv6 as payloads: protocols 4 and 41, Ethernet
	// types 0800 and 86dd.
	proto, ether := byte(unix.IPPROTO_IPIP), uint16(unix.ETH_P_IP)
	if inner == IPv6 {
		proto, ether = unix.IPPROTO_IPV6, unix.ETH_P_IPV6
	}
	next, dst, rest := p[9], netip.AddrFrom4([4]byte(p[16:20])), p[20:]
	if outer == IPv6 {
		next, dst, rest = p[6], netip.AddrFrom16([16]byte(p[24:40])), p[40:]
	}
	if dst != d.Addr.Addr() {
		return fmt.Errorf("sent to %v", dst)
	}
	switch d.TunType {
	case IPIP:
		if next != proto {
			return fmt.Errorf("protocol %d, wanted %d", next, proto)
		}
	case GRE:
		flags := binary.BigEndian.Uint16(rest)
		if next != unix.IPPROTO_GRE || binary.BigEndian.Uint16(rest[2:]) != ether || (flags == 0x8000) != (d.TunFlags == Checksum) {
			return fmt.Errorf("protocol %d, GRE % x", next, rest[:4])
		}
		rest = rest[4:]
		if d.TunFlags == Checksum {
			rest = rest[4:]
		}
	case GUE:
		udp, gue := rest[:8], rest[8:]
		if next != unix.IPPROTO_UDP || binary.BigEndian.Uint16(udp[2:]) != d.TunPort {
			return fmt.Errorf("protocol %d, UDP % x", next, udp)
		}
		if summed := binary.BigEndian.Uint16(udp[6:]) != 0; d.TunFlags == NoChecksum && summed || d.TunFlags == Checksum && !summed {
			return fmt.Errorf("the UDP checksum in % x", udp)
		}
		// draft-ietf-intarea-gue: two bits of version, one of control, five of
		// length in words; the protocol; 16 flags.
		if gue[0]&0xe0 != 0 || gue[1] != proto {
			return fmt.Errorf("GUE % x", gue[:4])
		}
		rest = gue[4+4*int(gue[0]&0x1f):]
	}
	if version := rest[0] >> 4; version != map[Family]byte{IPv4: 4, IPv6: 6}[inner] {
		return fmt.Errorf("IP version %d inside", version)
	}
	return nil
}
