package topology

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is an address on a device, with its prefix length.
type Address struct {
	Device string
	Prefix netip.Prefix
	// NoPrefixRoute keeps the kernel from adding the route of the address's
	// network (ip-address(8), noprefixroute).
	NoPrefixRoute bool
	// NotSource keeps an IPv6 address from being chosen as the source of what
	// the node sends by itself: it is deprecated from the beginning
	// (ip-address(8), preferred_lft 0).
	NotSource bool
}

type addressOp struct {
	meta Meta
	addr Address
	del  bool
}

// NewAddress is the op that puts an address on a device.
func NewAddress(m Meta, node string, a Address) Op {
	m.Key = Key{node, "address", a.Device + " " + a.Prefix.String()}
	return addressOp{m, a, false}
}

func (o addressOp) About() Meta { return o.meta }

// AddedAddress is the address that an op adds to a device; false for an op that
// does anything else.
func AddedAddress(o Op) (Address, bool) {
	a, ok := o.(addressOp)
	return a.addr, ok && !a.del
}

func (o addressOp) Shell(Dialect) []string {
	verb, tail := "add", ""
	if o.del {
		verb = "del"
	} else {
		if o.addr.Prefix.Addr().Is6() {
			tail = " nodad"
		}
		if o.addr.NoPrefixRoute {
			tail += " noprefixroute"
		}
		if o.addr.NotSource {
			tail += " valid_lft forever preferred_lft 0"
		}
	}
	return []string{fmt.Sprintf("ip -n %s addr %s %s dev %s%s", o.meta.Key.Node, verb, o.addr.Prefix, o.addr.Device, tail)}
}

func (o addressOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	dev, err := indexOf(n, o.addr.Device)
	if err != nil {
		return fail(o, err)
	}
	a := &netlink.Addr{IPNet: ipNet(o.addr.Prefix), LinkIndex: dev}
	if a.IP.To4() != nil {
		// As `ip addr add` does it without brd: no broadcast address. Zero
		// tells the library not to work one out.
		a.Broadcast = net.IPv4zero
	}
	if o.addr.NoPrefixRoute {
		a.Flags = unix.IFA_F_NOPREFIXROUTE
	}
	if o.addr.Prefix.Addr().Is6() {
		// Nobody else has it, and to find that out would take a second.
		a.Flags |= unix.IFA_F_NODAD
	}
	if o.addr.NotSource {
		a.ValidLft, a.PreferedLft = forever, 0
	}
	if o.del {
		err = n.Netlink().AddrDel(nil, a)
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			err = nil
		}
		return fail(o, err)
	}
	err = n.Netlink().AddrAdd(nil, a)
	if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	return fail(o, err)
}

func (o addressOp) Undo() (Op, bool) {
	o.del = !o.del
	return o, true
}

// forever is INFINITY_LIFE_TIME of linux/addrconf.h: an address that never ends.
const forever = math.MaxUint32

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
