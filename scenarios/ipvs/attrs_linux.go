package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attrs are the attributes of a message by type.
type attrs map[uint16][]byte

func parseAttrs(msg []byte, skip int) (attrs, error) {
	if len(msg) < skip {
		return nil, fmt.Errorf("a generic-netlink message of %d bytes is too short", len(msg))
	}
	list, err := nl.ParseRouteAttr(msg[skip:])
	if err != nil {
		return nil, fmt.Errorf("reading a generic-netlink message: %w", err)
	}
	out := attrs{}
	for _, a := range list {
		out[a.Attr.Type&attrTypeMask] = a.Value
	}
	return out, nil
}

func nestedAttrs(msg []byte, in uint16) (attrs, error) {
	outer, err := parseAttrs(msg, nl.SizeofGenlmsg)
	if err != nil {
		return nil, err
	}
	inner, ok := outer[in]
	if !ok {
		return nil, fmt.Errorf("a generic-netlink message of IPVS lacks attribute %d", in)
	}
	return parseAttrs(inner, 0)
}

func (a attrs) u8(t uint16) uint8 {
	if len(a[t]) < 1 {
		return 0
	}
	return a[t][0]
}

func (a attrs) u16(t uint16) uint16 {
	if len(a[t]) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(a[t])
}

func (a attrs) port(t uint16) uint16 {
	if len(a[t]) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a[t])
}

func (a attrs) u32(t uint16) uint32 {
	if len(a[t]) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a[t])
}

func (a attrs) text(t uint16) string { return unix.ByteSliceToString(a[t]) }

// addr reads an address, which the kernel sends in 16 bytes whatever its
// family.
func (a attrs) addr(t uint16, family uint16) (netip.Addr, error) {
	raw := a[t]
	switch {
	case family == unix.AF_INET && len(raw) >= 4:
		return netip.AddrFrom4([4]byte(raw)), nil
	case family == unix.AF_INET6 && len(raw) >= 16:
		return netip.AddrFrom16([16]byte(raw)), nil
	}
	return netip.Addr{}, fmt.Errorf("IPVS sent an address of %d bytes for address family %d", len(raw), family)
}

func (a attrs) u64(t uint16) uint64 {
	if len(a[t]) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(a[t])
}
