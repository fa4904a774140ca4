package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// readMatch notes a match that xtMatches, or iptables, has written. What an
// IPRule cannot say is an error.
func (r *IPRule) readMatch(p xtPart) error {
	if want, ok := matchSizes[p.name]; !ok || p.rev != want.rev || len(p.data) < want.size {
		return fmt.Errorf("the match %q (revision %d, %d bytes) is not supported", p.name, p.rev, len(p.data))
	}
	switch p.name {
	case "ipvs":
		if r.IPVS != (IPVSMatch{}) {
			return errTwice(p)
		}
		return r.readIPVS(p.data)
	case "conntrack":
		return r.readConntrack(p)
	case "mark":
		if r.Mark.Mask != 0 {
			return errTwice(p)
		}
		r.Mark = MarkMatch{native.Uint32(p.data), native.Uint32(p.data[offMarkMask:])}
		r.not(p.data[offMarkInvert] != 0, IPNotMark)
		return nil
	}
	return r.readTransport(p)
}

var matchSizes = map[string]struct {
	rev  uint8
	size int
}{
	"tcp": {0, sizeTCP}, "udp": {0, sizeUDP}, "sctp": {0, sizeSCTP}, "icmp": {0, sizeICMP}, "icmp6": {0, sizeICMP},
	"ipvs": {0, sizeIPVS}, "conntrack": {3, sizeConntrack}, "mark": {1, sizeMark},
}

func errTwice(p xtPart) error { return fmt.Errorf("a second match %s is not supported", p.name) }

func (r *IPRule) not(not bool, bit IPNegation) {
	if not {
		r.Not |= bit
	}
}

func (r *IPRule) readTransport(p xtPart) error {
	if _, again := r.transport(); again {
		return errTwice(p)
	}
	ports := func(b []byte) PortRange { return PortRange{native.Uint16(b), native.Uint16(b[2:])} }
	var inv byte
	known := byte(invSrcPorts | invDstPorts)
	d := p.data
	switch p.name {
	case "tcp":
		r.SrcPorts, r.DstPorts = ports(d), ports(d[4:])
		r.TCPFlags = TCPFlags{Mask: d[offTCPMask], Set: d[offTCPSet]}
		if d[8] != 0 {
			return errors.New("--tcp-option is not supported")
		}
		inv, known = d[offTCPInv], known|invTCPFlags
		r.not(inv&invTCPFlags != 0, IPNotTCPFlags)
	case "udp":
		r.SrcPorts, r.DstPorts = ports(d), ports(d[4:])
		inv = d[offUDPInv]
	case "sctp":
		flags, invert := native.Uint32(d[offSCTPFlags:]), native.Uint32(d[offSCTPInv:])
		if (flags|invert)&^sctpAll != 0 {
			return errors.New("--chunk-types is not supported")
		}
		if flags&sctpDstPorts != 0 {
			r.DstPorts = ports(d)
		}
		if flags&sctpSrcPorts != 0 {
			r.SrcPorts = ports(d[4:])
		}
		inv = byte(invert)
	default:
		r.ICMP = ICMPType{Type: d[0], Code: d[1], Valid: true}
		switch {
		case d[0] == 0xff && d[3] == 0: // "any"
			r.ICMP = ICMPType{}
		case d[1] == 0 && d[2] == 0xff:
			r.ICMP.AnyCode = true
		case d[1] != d[2]:
			return errors.New("a range of ICMP codes is not supported")
		}
		r.not(d[3]&invICMP != 0, IPNotICMP)
		return nil
	}
	if inv&^known != 0 {
		return fmt.Errorf("the match %s with the inverse flags %#x is not supported", p.name, inv)
	}
	r.not(inv&invSrcPorts != 0, IPNotSrcPorts)
	r.not(inv&invDstPorts != 0, IPNotDstPorts)
	return nil
}

func (r *IPRule) readIPVS(d []byte) error {
	bits, invert := d[offVBits], d[offVInvert]
	if rest := bits &^ (ipvsProperty | ipvsProto | ipvsAddr | ipvsPort | ipvsDir | ipvsMethod); rest != 0 {
		return fmt.Errorf("the match ipvs with the flags %#x (--vportctl) is not supported", rest)
	}
	r.IPVS.Property = bits&ipvsProperty != 0
	r.not(bits&invert&ipvsProperty != 0, IPNotIPVS)
	if bits&ipvsProto != 0 {
		r.IPVS.Proto = Protocol(d[offVProto])
		r.not(invert&ipvsProto != 0, IPNotVProto)
	}
	if bits&ipvsAddr != 0 {
		n := r.Family.bits() / 8
		var err error
		if r.IPVS.VAddr, err = prefixOf(d[:n], d[offVMask:offVMask+n]); err != nil {
			return err
		}
		r.not(invert&ipvsAddr != 0, IPNotVAddr)
	}
	if bits&ipvsPort != 0 {
		r.IPVS.VPort = binary.BigEndian.Uint16(d[offVPort:])
		r.not(invert&ipvsPort != 0, IPNotVPort)
	}
	if bits&ipvsDir != 0 {
		r.IPVS.Dir = IPVSOriginal
		if invert&ipvsDir != 0 {
			r.IPVS.Dir = IPVSReply
		}
	}
	if bits&ipvsMethod != 0 {
		for name, n := range ipvsMethods {
			if n == d[offVMethod] {
				r.IPVS.Method = name
			}
		}
		if r.IPVS.Method == "" {
			return fmt.Errorf("the forwarding method %d is not supported", d[offVMethod])
		}
		r.not(invert&ipvsMethod != 0, IPNotVMethod)
	}
	if r.IPVS.VPort == 0 && bits&ipvsPort != 0 || r.IPVS.Proto == 0 && bits&ipvsProto != 0 {
		return errors.New("--vport 0 and --vproto 0 are not supported")
	}
	return nil
}

func (r *IPRule) readConntrack(p xtPart) error {
	if r.CTState != 0 {
		return errTwice(p)
	}
	match, invert := native.Uint16(p.data[offCTMatch:]), native.Uint16(p.data[offCTInvert:])
	if match&^ctMatchAlias != ctMatchState || invert&^ctMatchState != 0 {
		return fmt.Errorf("the match conntrack with the flags %#x is not supported; --ctstate is", match)
	}
	r.CTState = CTState(native.Uint16(p.data[offCTStates:]))
	r.StateWord = match&ctMatchAlias != 0
	r.not(invert != 0, IPNotCTState)
	if r.CTState == 0 || r.CTState&^allCTStates != 0 {
		return fmt.Errorf("the connection states %#x are not supported", uint16(r.CTState))
	}
	return nil
}

// prefixOf is an address and its mask, without what the mask covers.
func prefixOf(addr, mask []byte) (netip.Prefix, error) {
	a, _ := netip.AddrFromSlice(addr)
	m, _ := netip.AddrFromSlice(mask)
	bits := 0
	for bits < len(mask)*8 && mask[bits/8]&(0x80>>(bits%8)) != 0 {
		bits++
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if string(prefixMask(p)) != string(mask) {
		return netip.Prefix{}, fmt.Errorf("the mask %v has holes, which is not supported", m)
	}
	return p, nil
}

// readTarget notes a target that is not a verdict.
func (r *IPRule) readTarget(p xtPart) error {
	r.Target = Target(p.name)
	d := p.data
	atLeast := func(rev uint8, size int) bool { return p.rev == rev && len(d) >= size }
	switch {
	case r.Target == SetMark && atLeast(2, sizeSetMark):
		r.NewMark = MarkMatch{native.Uint32(d), native.Uint32(d[4:])}
		return nil
	case r.Target == TCPMSS && atLeast(0, sizeMSS):
		r.MSS = native.Uint16(d)
		return nil
	case r.Target == Reject && atLeast(0, sizeReject):
		names, n := rejectNames(r.Family), native.Uint32(d)
		if int(n) >= len(names) || names[n] == "" {
			return fmt.Errorf("the answer %d of REJECT is not supported", n)
		}
		r.RejectWith = names[n]
		return nil
	case r.Target == Masquerade || r.Target == SNAT || r.Target == DNAT:
		return r.readNAT(p)
	}
	return fmt.Errorf("the target %q (revision %d, %d bytes) is not supported", p.name, p.rev, len(d))
}

func (r *IPRule) readNAT(p xtPart) error {
	d := p.data
	var flags uint32
	var first, last, ports []byte
	switch {
	case r.Family == IPv4 && p.rev == 0 && len(d) >= sizeNAT4:
		if n := native.Uint32(d); n != 1 {
			return fmt.Errorf("%d ranges of %s are not supported", n, r.Target)
		}
		flags, first, last, ports = native.Uint32(d[offNAT4Flags:]), d[offNAT4First:], d[offNAT4First+4:], d[offNAT4Ports:]
	case len(d) >= sizeNAT6 && (p.rev == 1 || p.rev == 0 && r.Family == IPv6) || p.rev == 2 && len(d) >= sizeNATRange2:
		flags, first, last, ports = native.Uint32(d), d[offNAT6First:], d[offNAT6First+16:], d[offNAT6Ports:]
	default:
		return fmt.Errorf("the target %s (revision %d, %d bytes) is not supported", r.Target, p.rev, len(d))
	}
	if flags&^(natMapAddrs|natMapPort) != 0 {
		return fmt.Errorf("the target %s with the flags %#x (--random, --persistent) is not supported", r.Target, flags)
	}
	if n := r.Family.bits() / 8; flags&natMapAddrs != 0 {
		r.To.First, _ = netip.AddrFromSlice(first[:n])
		r.To.Last, _ = netip.AddrFromSlice(last[:n])
	}
	if flags&natMapPort != 0 {
		r.To.Ports = PortRange{binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])}
	}
	if r.Target == Masquerade && r.To != (NATRange{}) {
		return errors.New("--to-ports is not supported")
	}
	return nil
}
