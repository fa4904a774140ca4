package ipvs

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// Protocol is the IP protocol of a virtual service, by its number
// (linux/in.h). It is zero for a service that is found by firewall mark.
type Protocol uint8

// The protocols that IPVS balances by address and port.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is "tcp", "udp" or "sctp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// ParseProtocol reads what Protocol.String writes.
func ParseProtocol(s string) (Protocol, error) {
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q; IPVS balances tcp, udp and sctp", s)
}

// option is the option of ipvsadm that names the service.
func (p Protocol) option() string {
	switch p {
	case TCP:
		return "-t"
	case UDP:
		return "-u"
	default:
		return "--sctp-service"
	}
}

// Family is the address family of a service that is found by firewall mark;
// that of any other is its address's.
type Family uint8

// The families. The zero value is IPv4, as it is ipvsadm's default.
const (
	IPv4 Family = iota
	IPv6
)

// String is "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func (f Family) bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Forward is how a packet goes from the director to the real server.
type Forward uint8

// The forwarding methods. The zero value is DR, as it is ipvsadm's default.
const (
	DR  Forward = iota // direct routing, -g: only the MAC address changes
	TUN                // tunnelling, -i: the packet is wrapped in another
	NAT                // masquerading, -m: the destination address changes
)

// String is "dr", "tun" or "nat", as a lab file has it.
func (f Forward) String() string {
	switch f {
	case DR:
		return "dr"
	case TUN:
		return "tun"
	case NAT:
		return "nat"
	}
	return fmt.Sprintf("forwarding %d", uint8(f))
}

func (f Forward) option() string {
	switch f {
	case TUN:
		return "-i"
	case NAT:
		return "-m"
	default:
		return "-g"
	}
}

// listName is the word of `ipvsadm -L`.
func (f Forward) listName() string {
	switch f {
	case TUN:
		return "Tunnel"
	case NAT:
		return "Masq"
	default:
		return "Route"
	}
}

// TunType is the wrapping that TUN uses (enum in linux/ip_vs.h).
type TunType uint8

// The tunnel types; IPIP is the default.
const (
	IPIP TunType = iota
	GUE
	GRE
)

// String is "ipip", "gue" or "gre".
func (t TunType) String() string {
	switch t {
	case IPIP:
		return "ipip"
	case GUE:
		return "gue"
	case GRE:
		return "gre"
	}
	return fmt.Sprintf("tunnel type %d", uint8(t))
}

// TunFlags say how a GUE or GRE tunnel is summed (linux/ip_vs.h,
// IP_VS_TUNNEL_ENCAP_FLAG_*).
type TunFlags uint16

// The tunnel flags; at most one is set.
const (
	NoChecksum     TunFlags = 0      // --tun-nocsum, the default
	Checksum       TunFlags = 1 << 0 // --tun-csum
	RemoteChecksum TunFlags = 1 << 1 // --tun-remcsum, GUE only
)

// DefaultScheduler is the scheduler of a service that names none
// (ipvsadm(8), -s).
const DefaultScheduler = "wlc"

// DefaultPersistence is what -p without a number means (ipvsadm(8), -p).
const DefaultPersistence = 360 * time.Second

// MaxPersistence is the longest timeout that ipvsadm takes: 31 days.
const MaxPersistence = 31 * 24 * time.Hour

// MaxWeight is the highest weight (ipvsadm(8), -w).
const MaxWeight = math.MaxInt32

// Service is a virtual service: what the director answers for.
type Service struct {
	// Protocol and Addr name the service. Port 0 means every port, and needs
	// persistence. Both are zero when FWMark is set.
	Protocol Protocol
	Addr     netip.AddrPort
	// FWMark, when not 0, names the service by the firewall mark of its
	// packets; Family is then that of its addresses.
	FWMark uint32
	Family Family
	// Scheduler is the scheduler's name, "rr"; empty means DefaultScheduler.
	Scheduler string
	// Flags are the scheduler's flags: "sh-fallback", "sh-port", "mh-fallback",
	// "mh-port", or "flag-1" to "flag-3" for any scheduler.
	Flags []string
	// Timeout is how long a client stays with its real server, in whole
	// seconds. 0 means no persistence.
	Timeout time.Duration
	// Netmask is the prefix length by which clients are taken together for
	// persistence, 1 to 32 or 128. 0 means every client for itself.
	Netmask int
	// OnePacket schedules every UDP packet anew (-o).
	OnePacket bool
	// PE is the persistence engine, "sip" or none.
	PE string
}

// Persistent reports whether clients stay with their real server.
func (s Service) Persistent() bool { return s.Timeout != 0 }

// AddrFamily is the family of the service's addresses.
func (s Service) AddrFamily() Family {
	if s.FWMark != 0 {
		return s.Family
	}
	return familyOf(s.Addr.Addr())
}

// Name names the service as messages and keys of ops do:
// "tcp 172.25.12.100:80", "fwmark 1", "fwmark 1 IPv6".
func (s Service) Name() string {
	switch {
	case s.FWMark == 0:
		return s.Protocol.String() + " " + s.Addr.String()
	case s.Family == IPv6:
		return fmt.Sprintf("fwmark %d IPv6", s.FWMark)
	}
	return fmt.Sprintf("fwmark %d", s.FWMark)
}

// Same reports whether s and o are the same service, however they are set.
func (s Service) Same(o Service) bool {
	if s.FWMark != 0 || o.FWMark != 0 {
		return s.FWMark == o.FWMark && s.Family == o.Family
	}
	return s.Protocol == o.Protocol && s.Addr == o.Addr
}

// Equal reports whether s and o are the same service set the same way.
func (s Service) Equal(o Service) bool {
	s, o = s.Normal(), o.Normal()
	flags := slices.Equal(s.Flags, o.Flags)
	return flags && s.Same(o) && s.Scheduler == o.Scheduler && s.Timeout == o.Timeout &&
		s.Netmask == o.Netmask && s.OnePacket == o.OnePacket && s.PE == o.PE
}

// Destination is a real server of a virtual service.
type Destination struct {
	// Addr is the real server. With DR and TUN its port is the service's:
	// Destination.For makes it so.
	Addr netip.AddrPort
	// Forward is how packets reach it.
	Forward Forward
	// Weight is its share, 0 to MaxWeight; 0 takes no new connections. There
	// is no default: ipvsadm's is 1.
	Weight int
	// Upper and Lower are the numbers of connections above which the server
	// takes no more, and below which it does again. 0 means no bound.
	Upper, Lower uint32
	// TunType, TunPort and TunFlags belong to TUN. TunPort is GUE's UDP port.
	TunType  TunType
	TunPort  uint16
	TunFlags TunFlags
	// Active and Inactive are the connections that the kernel counts. They are
	// set by reading back, and no part of what is wished: Equal, Diff and the
	// rule grammar pass them over.
	Active, Inactive int
}

// For is d as the kernel holds it in service s: with DR and TUN, where packets
// keep their port, its port is the service's. ipvsadm does the same silently,
// except for a service that is found by firewall mark (run).
func (d Destination) For(s Service) Destination {
	if d.Forward != NAT && s.FWMark == 0 {
		d.Addr = netip.AddrPortFrom(d.Addr.Addr(), s.Addr.Port())
	}
	return d
}

// Equal reports whether d and o wish for the same; counts do not matter.
func (d Destination) Equal(o Destination) bool {
	d.Active, d.Inactive, o.Active, o.Inactive = 0, 0, 0, 0
	return d == o
}

// Entry is a virtual service with its real servers. Their order is that in
// which they are added; the kernel's rr begins with the last.
type Entry struct {
	Service
	Destinations []Destination
}

// Table is all the virtual services of a director.
type Table []Entry

// Normal is s with its defaults written out: the scheduler's name, no netmask
// where it is that of a single client or without meaning, the flags by the
// scheduler's own names in their order.
func (s Service) Normal() Service {
	s.Scheduler = cmp.Or(s.Scheduler, DefaultScheduler)
	if s.FWMark != 0 {
		s.Protocol, s.Addr = 0, netip.AddrPort{}
	} else {
		s.Family = familyOf(s.Addr.Addr())
	}
	if s.Netmask == s.AddrFamily().bits() || !s.Persistent() {
		s.Netmask = 0
	}
	if bits, err := flagBits(s.Scheduler, s.Flags); err == nil {
		s.Flags = flagNames(s.Scheduler, bits)
	}
	return s
}
