package ipvs

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// MaxThreshold is the highest bound of connections that ipvsadm 1.31 takes (run);
// its man page says 65535.
const MaxThreshold = math.MaxInt32

// The kernel's room for names, with the closing zero (linux/ip_vs.h,
// IP_VS_SCHEDNAME_MAXLEN and IP_VS_PENAME_MAXLEN).
const (
	maxSchedulerName = 16
	maxPEName        = 16
)

// Validate finds what no kernel would take of s, or would take and keep as
// something else.
func (s Service) Validate() error {
	if err := s.invalid(); err != nil {
		return fmt.Errorf("virtual service %s: %w", s.Name(), err)
	}
	return nil
}

func (s Service) invalid() error {
	if s.FWMark == 0 {
		if _, err := ParseProtocol(s.Protocol.String()); err != nil {
			return err
		}
		if err := plainAddr(s.Addr.Addr()); err != nil {
			return err
		}
		if s.Addr.Port() == 0 && !s.Persistent() {
			return fmt.Errorf("port 0, which means every port, needs persistence (-p)")
		}
	} else if s.Family > IPv6 {
		return fmt.Errorf("unknown address family %d", s.Family)
	}
	if err := plainName("scheduler", s.Scheduler, maxSchedulerName); err != nil {
		return err
	}
	if err := plainName("persistence engine", s.PE, maxPEName); err != nil {
		return err
	}
	switch {
	case s.Timeout < 0 || s.Timeout > MaxPersistence:
		return fmt.Errorf("a persistence of %v is out of range, 1s to %v (31 days)", s.Timeout, MaxPersistence)
	case s.Timeout%time.Second != 0:
		return fmt.Errorf("a persistence of %v is not in whole seconds", s.Timeout)
	case s.Netmask < 0 || s.Netmask > s.AddrFamily().bits():
		return fmt.Errorf("netmask /%d is out of range, /1 to /%d", s.Netmask, s.AddrFamily().bits())
	case s.OnePacket && s.FWMark == 0 && s.Protocol != UDP:
		return fmt.Errorf("one-packet scheduling (-o) is for UDP alone")
	}
	n := s.Normal()
	_, err := flagBits(n.Scheduler, s.Flags)
	return err
}

// Validate finds what no kernel would take of d as a real server of s, or would
// take and keep as something else.
func (d Destination) Validate(s Service) error {
	if err := d.invalid(s); err != nil {
		return fmt.Errorf("real server %s of %s: %w", d.Addr, s.Name(), err)
	}
	return nil
}

func (d Destination) invalid(s Service) error {
	a := d.Addr.Addr()
	if err := plainAddr(a); err != nil {
		return err
	}
	switch {
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("a real server's address must be one machine's")
	case d.Forward > NAT:
		return fmt.Errorf("unknown %v", d.Forward)
	case d.Weight < 0 || d.Weight > MaxWeight:
		return fmt.Errorf("weight %d is out of range, 0 to %d", d.Weight, MaxWeight)
	case d.Upper > MaxThreshold || d.Lower > MaxThreshold:
		return fmt.Errorf("thresholds %d and %d are out of range, 0 to %d", d.Upper, d.Lower, MaxThreshold)
	case d.Lower > d.Upper:
		return fmt.Errorf("the lower threshold %d is above the upper one, %d", d.Lower, d.Upper)
	case familyOf(a) != s.AddrFamily() && d.Forward != TUN:
		return fmt.Errorf("an %v real server in an %v service needs tunnelling (ipvsadm -i, forwarding: tun)", familyOf(a), s.AddrFamily())
	}
	return d.invalidTunnel()
}

func (d Destination) invalidTunnel() error {
	if d.Forward != TUN {
		if d.TunType != IPIP || d.TunPort != 0 || d.TunFlags != 0 {
			return fmt.Errorf("tunnel options need tunnelling (-i)")
		}
		return nil
	}
	switch {
	case d.TunType > GRE:
		return fmt.Errorf("unknown %v", d.TunType)
	case d.TunType == GUE && d.TunPort == 0:
		return fmt.Errorf("a gue tunnel needs its port (--tun-port)")
	case d.TunType != GUE && d.TunPort != 0:
		return fmt.Errorf("a tunnel port is for gue alone, not for %v", d.TunType)
	case d.TunFlags > RemoteChecksum || d.TunFlags == Checksum|RemoteChecksum:
		return fmt.Errorf("at most one of checksum and remote checksum")
	case d.TunType == IPIP && d.TunFlags != 0:
		return fmt.Errorf("an ipip tunnel has no checksum")
	case d.TunType == GRE && d.TunFlags == RemoteChecksum:
		return fmt.Errorf("remote checksum is for gue alone, not for gre")
	}
	return nil
}

// plainAddr refuses addresses that IPVS would take for others.
func plainAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("no address")
	case a.Is4In6():
		return fmt.Errorf("%v is an IPv4 address in IPv6 clothes; write %v", a, a.Unmap())
	case a.Zone() != "":
		return fmt.Errorf("%v has a zone, which IPVS cannot keep", a)
	}
	return nil
}

// plainName refuses names that the kernel would cut or a rule could not carry.
func plainName(what, name string, size int) error {
	if len(name) >= size {
		return fmt.Errorf("the name of the %s, %.40q, is longer than %d letters", what, name, size-1)
	}
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
	}
	if strings.HasPrefix(name, "-") || strings.ContainsFunc(name, func(r rune) bool { return !ok(r) }) {
		return fmt.Errorf("%q cannot be the name of a %s", name, what)
	}
	return nil
}
