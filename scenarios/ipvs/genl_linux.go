package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The generic-netlink interface of IPVS (linux/ip_vs.h).
const (
	genlFamily  = "IPVS" // IPVS_GENL_NAME
	genlVersion = 1      // IPVS_GENL_VERSION

	cmdGetService = 4 // IPVS_CMD_GET_SERVICE
	cmdNewDest    = 5 // IPVS_CMD_NEW_DEST
	cmdSetDest    = 6 // IPVS_CMD_SET_DEST
	cmdDelDest    = 7 // IPVS_CMD_DEL_DEST
	cmdGetDest    = 8 // IPVS_CMD_GET_DEST

	attrService = 1 // IPVS_CMD_ATTR_SERVICE
	attrDest    = 2 // IPVS_CMD_ATTR_DEST

	svcFamily   = 1  // IPVS_SVC_ATTR_AF
	svcProtocol = 2  // IPVS_SVC_ATTR_PROTOCOL
	svcAddr     = 3  // IPVS_SVC_ATTR_ADDR
	svcPort     = 4  // IPVS_SVC_ATTR_PORT, network order
	svcFWMark   = 5  // IPVS_SVC_ATTR_FWMARK
	svcSched    = 6  // IPVS_SVC_ATTR_SCHED_NAME
	svcFlags    = 7  // IPVS_SVC_ATTR_FLAGS, flags and mask
	svcTimeout  = 8  // IPVS_SVC_ATTR_TIMEOUT, seconds
	svcNetmask  = 9  // IPVS_SVC_ATTR_NETMASK, dotted for IPv4, a length for IPv6
	svcPE       = 11 // IPVS_SVC_ATTR_PE_NAME

	destAddr     = 1  // IPVS_DEST_ATTR_ADDR
	destPort     = 2  // IPVS_DEST_ATTR_PORT, network order
	destForward  = 3  // IPVS_DEST_ATTR_FWD_METHOD
	destWeight   = 4  // IPVS_DEST_ATTR_WEIGHT
	destUpper    = 5  // IPVS_DEST_ATTR_U_THRESH
	destLower    = 6  // IPVS_DEST_ATTR_L_THRESH
	destActive   = 7  // IPVS_DEST_ATTR_ACTIVE_CONNS
	destInactive = 8  // IPVS_DEST_ATTR_INACT_CONNS
	destFamily   = 11 // IPVS_DEST_ATTR_ADDR_FAMILY
	destTunType  = 13 // IPVS_DEST_ATTR_TUN_TYPE
	destTunPort  = 14 // IPVS_DEST_ATTR_TUN_PORT, network order
	destTunFlags = 15 // IPVS_DEST_ATTR_TUN_FLAGS

	// attrTypeMask takes the flags off an attribute's type (NLA_TYPE_MASK).
	attrTypeMask = 0x3fff

	flagPersistent = 1 << 0 // IP_VS_SVC_F_PERSISTENT
	flagOnePacket  = 1 << 2 // IP_VS_SVC_F_ONEPACKET

	forwardMask = 7 // IP_VS_CONN_F_FWD_MASK
)

// genl is a generic-netlink socket that speaks to IPVS, in the namespace where
// it was opened.
type genl struct {
	family int
	handle *nl.SocketHandle
}

// openGenl opens the socket in the calling thread's namespace, and fails where
// the kernel has no IPVS.
func openGenl() (*genl, error) {
	sock, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("opening a generic-netlink socket: %w", err)
	}
	// Without a timeout of its own: Conn.call bounds what is asked, and a
	// deadline for each message costs more than the message.
	g := &genl{handle: &nl.SocketHandle{Socket: sock}}
	if g.family, err = g.resolve(); err != nil {
		sock.Close()
		return nil, err
	}
	return g, nil
}

func (g *genl) close() { g.handle.Close() }

// resolve asks the kernel for the number of the family.
func (g *genl) resolve() (int, error) {
	req := g.request(nl.GENL_ID_CTRL, nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION, 0)
	req.AddData(nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(genlFamily)))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, ErrNoIPVS
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the generic-netlink family %s: %w", genlFamily, err)
	}
	for _, msg := range msgs {
		attrs, err := parseAttrs(msg, nl.SizeofGenlmsg)
		if err != nil {
			return 0, err
		}
		if id := attrs.u16(nl.GENL_CTRL_ATTR_FAMILY_ID); id != 0 {
			return int(id), nil
		}
	}
	return 0, ErrNoIPVS
}

func (g *genl) request(family int, cmd, version uint8, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(family, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: g.handle}
	req.AddData(&nl.Genlmsg{Command: cmd, Version: version})
	return req
}

// dump asks for a list, again when it changed while it was told.
func (g *genl) dump(ctx context.Context, cmd uint8, of ...nl.NetlinkRequestData) ([][]byte, error) {
	for {
		req := g.request(g.family, cmd, genlVersion, unix.NLM_F_DUMP)
		for _, data := range of {
			req.AddData(data)
		}
		msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
		if !errors.Is(err, nl.ErrDumpInterrupted) || ctx.Err() != nil {
			return msgs, err
		}
	}
}

// services lists the services, without real servers.
func (g *genl) services(ctx context.Context) ([]Service, error) {
	msgs, err := g.dump(ctx, cmdGetService)
	if err != nil {
		return nil, err
	}
	out := make([]Service, 0, len(msgs))
	for _, msg := range msgs {
		attrs, err := nestedAttrs(msg, attrService)
		if err != nil {
			return nil, err
		}
		s, err := attrs.service()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// destinations lists the real servers of s in the order in which they were
// added: the kernel puts each new one before the others.
func (g *genl) destinations(ctx context.Context, s Service) ([]Destination, error) {
	msgs, err := g.dump(ctx, cmdGetDest, serviceAttr(s))
	if err != nil {
		return nil, err
	}
	out := make([]Destination, 0, len(msgs))
	for _, msg := range slices.Backward(msgs) {
		attrs, err := nestedAttrs(msg, attrDest)
		if err != nil {
			return nil, err
		}
		d, err := attrs.destination(s)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// change sends cmdNewDest, cmdSetDest or cmdDelDest with everything that a real
// server has, tunnel and family included.
func (g *genl) change(cmd uint8, s Service, d Destination) error {
	req := g.request(g.family, cmd, genlVersion, unix.NLM_F_ACK)
	req.AddData(serviceAttr(s))
	req.AddData(destinationAttr(d))
	_, err := req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

// serviceAttr names a service.
func serviceAttr(s Service) *nl.RtAttr {
	attr := nl.NewRtAttr(attrService, nil)
	attr.AddRtAttr(svcFamily, nl.Uint16Attr(rawFamily(s.AddrFamily())))
	if s.FWMark != 0 {
		attr.AddRtAttr(svcFWMark, nl.Uint32Attr(s.FWMark))
		return attr
	}
	attr.AddRtAttr(svcProtocol, nl.Uint16Attr(uint16(s.Protocol)))
	attr.AddRtAttr(svcAddr, s.Addr.Addr().AsSlice())
	attr.AddRtAttr(svcPort, nl.BEUint16Attr(s.Addr.Port()))
	return attr
}

func destinationAttr(d Destination) *nl.RtAttr {
	attr := nl.NewRtAttr(attrDest, nil)
	attr.AddRtAttr(destFamily, nl.Uint16Attr(rawFamily(familyOf(d.Addr.Addr()))))
	attr.AddRtAttr(destAddr, d.Addr.Addr().AsSlice())
	attr.AddRtAttr(destPort, nl.BEUint16Attr(d.Addr.Port()))
	attr.AddRtAttr(destForward, nl.Uint32Attr(d.Forward.raw()))
	attr.AddRtAttr(destWeight, nl.Uint32Attr(uint32(d.Weight))) //nolint:gosec // validated
	attr.AddRtAttr(destUpper, nl.Uint32Attr(d.Upper))
	attr.AddRtAttr(destLower, nl.Uint32Attr(d.Lower))
	attr.AddRtAttr(destTunType, nl.Uint8Attr(uint8(d.TunType)))
	attr.AddRtAttr(destTunPort, nl.BEUint16Attr(d.TunPort))
	attr.AddRtAttr(destTunFlags, nl.Uint16Attr(uint16(d.TunFlags)))
	return attr
}

func rawFamily(f Family) uint16 {
	if f == IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// raw is the kernel's number of the method (IP_VS_CONN_F_MASQ, TUNNEL, DROUTE).
func (f Forward) raw() uint32 {
	switch f {
	case NAT:
		return 0
	case TUN:
		return 2
	default:
		return 3
	}
}

func (a attrs) service() (Service, error) {
	family := a.u16(svcFamily)
	s := Service{
		FWMark:    a.u32(svcFWMark),
		Scheduler: a.text(svcSched),
		PE:        a.text(svcPE),
		OnePacket: a.u32(svcFlags)&flagOnePacket != 0,
	}
	if family == unix.AF_INET6 {
		s.Family = IPv6
	}
	if s.FWMark == 0 {
		addr, err := a.addr(svcAddr, family)
		if err != nil {
			return s, err
		}
		s.Addr = netip.AddrPortFrom(addr, a.port(svcPort))
		s.Protocol = Protocol(a.u16(svcProtocol)) //nolint:gosec // a protocol number has 8 bits
	}
	if a.u32(svcFlags)&flagPersistent != 0 {
		s.Timeout = time.Duration(a.u32(svcTimeout)) * time.Second
		s.Netmask = maskLength(a[svcNetmask], s.AddrFamily())
	}
	s.Flags = flagNames(s.Scheduler, a.u32(svcFlags)&flagsSched)
	return s.Normal(), nil
}

// maskLength is the prefix length of the kernel's netmask; 0 where it is none.
func maskLength(raw []byte, f Family) int {
	if len(raw) < 4 {
		return 0
	}
	if f == IPv6 {
		return int(binary.NativeEndian.Uint32(raw))
	}
	n := 0
	for mask := binary.BigEndian.Uint32(raw); mask&(1<<31) != 0; mask <<= 1 {
		n++
	}
	return n
}

// rawNetmask is what moby/ipvs takes for the service's netmask.
func rawNetmask(s Service) uint32 {
	bits := s.Netmask
	if bits == 0 {
		bits = s.AddrFamily().bits()
	}
	if s.AddrFamily() == IPv6 {
		return uint32(bits) //nolint:gosec // 1 to 128
	}
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], ^uint32(0)<<(32-bits))
	return binary.NativeEndian.Uint32(raw[:])
}

func (a attrs) destination(s Service) (Destination, error) {
	family := a.u16(destFamily)
	if family == 0 { // before Linux 3.18 it was the service's
		family = rawFamily(s.AddrFamily())
	}
	addr, err := a.addr(destAddr, family)
	if err != nil {
		return Destination{}, err
	}
	d := Destination{
		Addr:     netip.AddrPortFrom(addr, a.port(destPort)),
		Weight:   int(a.u32(destWeight)),
		Upper:    a.u32(destUpper),
		Lower:    a.u32(destLower),
		Active:   int(a.u32(destActive)),
		Inactive: int(a.u32(destInactive)),
	}
	switch raw := a.u32(destForward) & forwardMask; raw {
	case DR.raw():
		d.Forward = DR
	case TUN.raw():
		d.Forward = TUN
		d.TunType = TunType(a.u8(destTunType))
		d.TunPort = a.port(destTunPort)
		d.TunFlags = TunFlags(a.u16(destTunFlags))
	case NAT.raw():
		d.Forward = NAT
	default:
		return d, fmt.Errorf("real server %s of %s has forwarding method %d, which lvslab does not know", d.Addr, s.Name(), raw)
	}
	return d, nil
}

// errno is the kernel's error number in err, 0 for none.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	errors.As(err, &e)
	return e
}
