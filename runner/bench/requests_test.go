package bench

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/topology"
)

// attributes are those of a request, each padded to four bytes (netlink(7),
// struct nlattr).
type attributes struct{ buf []byte }

// link begins with a struct ifinfomsg.
func link(index int, flags, change uint32) attributes {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return attributes{binary.NativeEndian.AppendUint32(b, change)}
}

func (a *attributes) bytes(kind uint16, value []byte) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(unix.SizeofNlAttr+len(value)))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
	a.buf = append(a.buf, value...)
	a.buf = append(a.buf, make([]byte, -len(a.buf)&3)...)
}

func (a *attributes) text(kind uint16, value string) { a.bytes(kind, append([]byte(value), 0)) }

func (a *attributes) number(kind uint16, value uint32) {
	a.bytes(kind, binary.NativeEndian.AppendUint32(nil, value))
}

func (a *attributes) nest(kind uint16, inner attributes) { a.bytes(kind, inner.buf) }

// request puts a header in front of a request of route netlink.
func request(kind, flags uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...)
	return append(b, data...)
}

func bridgeRequest() []byte {
	var data, info attributes
	const mcastSnooping = 23 // IFLA_BR_MCAST_SNOOPING, linux/if_link.h
	data.bytes(mcastSnooping, []byte{0})
	info.text(unix.IFLA_INFO_KIND, "bridge")
	info.nest(unix.IFLA_INFO_DATA, data)
	br := link(bridgeIndex, unix.IFF_UP, unix.IFF_UP)
	br.text(unix.IFLA_IFNAME, topology.Bridge)
	br.nest(unix.IFLA_LINKINFO, info)
	return request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, br.buf)
}

// Numbers of devices that the requests choose, above what a namespace may have
// from its beginning (tunl0 and others).
const (
	bridgeIndex = 2000
	deviceIndex = 100
)

// noFd stands in a request for a descriptor that is not yet known.
const noFd = 0x7ffffff1

func linkRequest(lab, network, node string) []byte {
	const eth = "eth0"
	peer := link(deviceIndex, 0, 0)
	peer.text(unix.IFLA_IFNAME, eth)
	peer.bytes(unix.IFLA_ADDRESS, topology.MAC(lab, node, eth))
	peer.number(unix.IFLA_NET_NS_FD, noFd)
	var data, info attributes
	data.nest(1, peer) // VETH_INFO_PEER, linux/veth.h
	info.text(unix.IFLA_INFO_KIND, "veth")
	info.nest(unix.IFLA_INFO_DATA, data)
	port := topology.PortName(node, eth)
	// The peer keeps its number only where the other end has one too.
	l := link(bridgeIndex+1+int(binary.NativeEndian.Uint32(topology.MAC(lab, node, eth)[2:])&0xfffffff), unix.IFF_UP, unix.IFF_UP)
	l.text(unix.IFLA_IFNAME, port)
	l.bytes(unix.IFLA_ADDRESS, topology.MAC(lab, network, port))
	l.number(unix.IFLA_MASTER, bridgeIndex)
	l.nest(unix.IFLA_LINKINFO, info)
	return request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, l.buf)
}

// withFd puts a descriptor into a copy of a request.
func withFd(request []byte, fd int) []byte {
	b := slices.Clone(request)
	mark := binary.NativeEndian.AppendUint32(nil, noFd)
	for i := 0; i+4 <= len(b); i += 4 {
		if slices.Equal(b[i:i+4], mark) {
			binary.NativeEndian.PutUint32(b[i:], uint32(fd))
			break
		}
	}
	return b
}

// nodeRequests brings lo and eth0 up and gives eth0 its address, all at once.
func nodeRequests(prefix string) []byte {
	p := netip.MustParsePrefix(prefix)
	lo, eth := link(1, unix.IFF_UP, unix.IFF_UP), link(deviceIndex, unix.IFF_UP, unix.IFF_UP)
	b := append(request(unix.RTM_NEWLINK, 0, lo.buf), request(unix.RTM_NEWLINK, 0, eth.buf)...)
	// struct ifaddrmsg: family, prefix length, flags, scope, index.
	addr := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET, byte(p.Bits()), 0, 0}, deviceIndex)
	ip := p.Addr().As4()
	for _, kind := range []byte{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		addr = append(binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(addr, 8), uint16(kind)), ip[:]...)
	}
	return append(b, request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, addr)...)
}

func errnoOf(answer []byte) error {
	if len(answer) < unix.SizeofNlMsghdr+4 {
		return unix.EBADMSG
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}
