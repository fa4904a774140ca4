package filter

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// xtPart is a match or a target of x_tables (linux/netfilter/x_tables.h): its
// name, its revision and its data, padded to 8 bytes (XT_ALIGN on 64-bit
// machines). The older ip_tables and the compatible expressions of nf_tables
// carry the same. Revisions are those that iptables 1.8 uses, so that it can
// read what lvslab wrote.
type xtPart struct {
	name string
	rev  uint8
	data []byte
}

// Sizes of the structures, before padding, and offsets in them. Numbers are in
// the machine's byte order where not said otherwise.
const (
	// struct xt_tcp, linux/netfilter/xt_tcpudp.h: spts[2], dpts[2], option,
	// flg_mask, flg_cmp, invflags; struct xt_udp: spts[2], dpts[2], invflags.
	sizeTCP, offTCPMask, offTCPSet, offTCPInv = 12, 9, 10, 11
	sizeUDP, offUDPInv                        = 10, 8
	invSrcPorts, invDstPorts, invTCPFlags     = 1, 2, 4 // XT_TCP_INV_*, XT_UDP_INV_*
	invTCPOption                              = 8
	// struct xt_sctp_info, linux/netfilter/xt_sctp.h: dpts[2], spts[2],
	// chunkmap[64], chunk_match_type, flag_info[4], flag_count, flags, invflags.
	sizeSCTP, offSCTPFlags, offSCTPInv  = 292, 284, 288
	sctpSrcPorts, sctpDstPorts, sctpAll = 1, 2, 3 // XT_SCTP_*_PORTS

	// struct ipt_icmp, linux/netfilter_ipv4/ip_tables.h, and struct ip6t_icmp:
	// type, code[2], invflags.
	sizeICMP, invICMP = 4, 1

	// struct xt_ipvs_mtinfo, linux/netfilter/xt_ipvs.h: vaddr, vmask, vport
	// (be16), l4proto, fwd_method, vportctl (be16), invert, bitmask.
	sizeIPVS, offVMask, offVPort, offVProto = 40, 16, 32, 34
	offVMethod, offVInvert, offVBits        = 35, 38, 39
	ipvsProperty, ipvsProto, ipvsAddr       = 0x01, 0x02, 0x04 // XT_IPVS_*
	ipvsPort, ipvsDir, ipvsMethod           = 0x08, 0x10, 0x20

	// struct xt_conntrack_mtinfo3, linux/netfilter/xt_conntrack.h.
	sizeConntrack, offCTMatch, offCTInvert, offCTStates = 164, 146, 148, 150
	ctMatchState, ctMatchAlias                          = 0x0001, 0x2000 // XT_CONNTRACK_STATE, _STATE_ALIAS

	// struct xt_mark_mtinfo1, linux/netfilter/xt_mark.h: mark, mask, invert;
	// struct xt_mark_tginfo2: mark, mask.
	sizeMark, offMarkMask, offMarkInvert = 12, 4, 8
	sizeSetMark                          = 8

	// struct nf_nat_ipv4_multi_range_compat, linux/netfilter/nf_nat.h:
	// rangesize, flags, min_ip, max_ip, min, max (be16).
	sizeNAT4, offNAT4Flags, offNAT4First, offNAT4Ports = 20, 4, 8, 16
	// struct nf_nat_range: flags, min_addr, max_addr, min_proto, max_proto.
	sizeNAT6, offNAT6First, offNAT6Ports = 40, 4, 36
	// struct nf_nat_range2 is the same and base_proto.
	sizeNATRange2           = 44
	natMapAddrs, natMapPort = 1, 2 // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED

	sizeMSS    = 2 // struct xt_tcpmss_info
	sizeReject = 4 // struct ipt_reject_info, struct ip6t_reject_info
)

// ipvsMethods are the forwarding methods by their numbers, IP_VS_CONN_F_* of
// linux/ip_vs.h.
var ipvsMethods = map[IPVSMethod]byte{IPVSMasq: 0, IPVSIPIP: 2, IPVSGate: 3}

func xtAlign(n int) int { return (n + 7) &^ 7 }

func newPart(name string, rev uint8, size int) xtPart {
	return xtPart{name, rev, make([]byte, xtAlign(size))}
}

// xtMatches are the rule's matches.
func (r IPRule) xtMatches() []xtPart {
	var ms []xtPart
	if m, ok := r.xtTransport(); ok {
		ms = append(ms, m)
	}
	if r.IPVS != (IPVSMatch{}) {
		ms = append(ms, r.xtIPVS())
	}
	not := func(bit IPNegation) bool { return r.Not&bit != 0 }
	if r.CTState != 0 {
		m := newPart("conntrack", 3, sizeConntrack)
		flags := uint16(ctMatchState)
		if not(IPNotCTState) {
			native.PutUint16(m.data[offCTInvert:], ctMatchState)
		}
		if r.StateWord {
			flags |= ctMatchAlias
		}
		native.PutUint16(m.data[offCTMatch:], flags)
		native.PutUint16(m.data[offCTStates:], uint16(r.CTState))
		ms = append(ms, m)
	}
	if r.Mark.Mask != 0 {
		m := newPart("mark", 1, sizeMark)
		native.PutUint32(m.data, r.Mark.Value)
		native.PutUint32(m.data[offMarkMask:], r.Mark.Mask)
		m.data[offMarkInvert] = flagIf(not(IPNotMark), 1)
		ms = append(ms, m)
	}
	return ms
}

func flagIf(b bool, flag byte) byte {
	if b {
		return flag
	}
	return 0
}

func (r IPRule) xtTransport() (xtPart, bool) {
	name, ok := r.transport()
	if !ok {
		return xtPart{}, false
	}
	not := func(bit IPNegation, flag byte) byte { return flagIf(r.Not&bit != 0, flag) }
	put := func(b []byte, p PortRange) {
		if p == (PortRange{}) {
			p.Last = 0xffff
		}
		native.PutUint16(b, p.First)
		native.PutUint16(b[2:], p.Last)
	}
	ports := not(IPNotSrcPorts, invSrcPorts) | not(IPNotDstPorts, invDstPorts)
	var m xtPart
	switch name {
	case "tcp":
		m = newPart(name, 0, sizeTCP)
		put(m.data, r.SrcPorts)
		put(m.data[4:], r.DstPorts)
		m.data[offTCPMask], m.data[offTCPSet] = r.TCPFlags.Mask, r.TCPFlags.Set
		m.data[offTCPInv] = ports | not(IPNotTCPFlags, invTCPFlags)
	case "udp":
		m = newPart(name, 0, sizeUDP)
		put(m.data, r.SrcPorts)
		put(m.data[4:], r.DstPorts)
		m.data[offUDPInv] = ports
	case "sctp":
		m = newPart(name, 0, sizeSCTP)
		var flags uint32
		if r.DstPorts != (PortRange{}) {
			flags |= sctpDstPorts
			put(m.data, r.DstPorts)
		}
		if r.SrcPorts != (PortRange{}) {
			flags |= sctpSrcPorts
			put(m.data[4:], r.SrcPorts)
		}
		native.PutUint32(m.data[offSCTPFlags:], flags)
		native.PutUint32(m.data[offSCTPInv:], uint32(ports))
	default: // icmp, icmp6
		m = newPart(name, 0, sizeICMP)
		m.data[0], m.data[1], m.data[2] = r.ICMP.Type, r.ICMP.Code, r.ICMP.Code
		if r.ICMP.AnyCode {
			m.data[1], m.data[2] = 0, 0xff
		}
		m.data[3] = not(IPNotICMP, invICMP)
	}
	return m, true
}

func (r IPRule) xtIPVS() xtPart {
	m, v := newPart("ipvs", 0, sizeIPVS), r.IPVS
	var bits, invert byte
	test := func(given bool, bit byte, not IPNegation) {
		if given {
			bits |= bit
			invert |= flagIf(r.Not&not != 0, bit)
		}
	}
	// As iptables has it, every other test brings this one along.
	test(true, ipvsProperty, IPNotIPVS)
	test(v.Proto != 0, ipvsProto, IPNotVProto)
	test(v.VAddr.IsValid(), ipvsAddr, IPNotVAddr)
	test(v.VPort != 0, ipvsPort, IPNotVPort)
	test(v.Dir != "", ipvsDir, 0)
	test(v.Method != "", ipvsMethod, IPNotVMethod)
	if v.Dir == IPVSReply {
		invert |= ipvsDir
	}
	if v.VAddr.IsValid() {
		copy(m.data, v.VAddr.Addr().AsSlice())
		copy(m.data[offVMask:], prefixMask(v.VAddr))
	}
	binary.BigEndian.PutUint16(m.data[offVPort:], v.VPort)
	m.data[offVProto] = byte(v.Proto)
	m.data[offVMethod] = ipvsMethods[v.Method]
	m.data[offVInvert], m.data[offVBits] = invert, bits
	return m
}

// prefixMask is the mask of a prefix, as long as its address.
func prefixMask(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// xtTarget is the rule's target where it is not a verdict.
func (r IPRule) xtTarget() (xtPart, bool) {
	switch r.Target {
	case SetMark:
		t := newPart("MARK", 2, sizeSetMark)
		native.PutUint32(t.data, r.NewMark.Value)
		native.PutUint32(t.data[4:], r.NewMark.Mask)
		return t, true
	case TCPMSS:
		t := newPart("TCPMSS", 0, sizeMSS)
		native.PutUint16(t.data, r.MSS)
		return t, true
	case Reject:
		t := newPart("REJECT", 0, sizeReject)
		native.PutUint32(t.data, uint32(slices.Index(rejectNames(r.Family), r.RejectWith)))
		return t, true
	case Masquerade, SNAT, DNAT:
		return r.xtNAT(), true
	}
	return xtPart{}, false
}

// natRev is the revision of a target of NAT that iptables 1.8.9 writes.
func (r IPRule) natRev() uint8 {
	switch {
	case r.Target == DNAT:
		return 2
	case r.Target == SNAT && r.Family == IPv6:
		return 1
	}
	return 0
}

func (r IPRule) xtNAT() xtPart {
	last := r.To.Last
	if !last.IsValid() {
		last = r.To.First
	}
	flags := uint32(flagIf(r.To.First.IsValid(), natMapAddrs) | flagIf(r.To.Ports != PortRange{}, natMapPort))
	putPorts := func(b []byte) {
		binary.BigEndian.PutUint16(b, r.To.Ports.First)
		binary.BigEndian.PutUint16(b[2:], r.To.Ports.Last)
	}
	rev := r.natRev()
	if r.Family == IPv4 && rev == 0 {
		t := newPart(string(r.Target), rev, sizeNAT4)
		native.PutUint32(t.data, 1) // rangesize
		native.PutUint32(t.data[offNAT4Flags:], flags)
		copy(t.data[offNAT4First:], r.To.First.AsSlice())
		copy(t.data[offNAT4First+4:], last.AsSlice())
		putPorts(t.data[offNAT4Ports:])
		return t
	}
	size := sizeNAT6
	if rev == 2 {
		size = sizeNATRange2
	}
	t := newPart(string(r.Target), rev, size)
	native.PutUint32(t.data, flags)
	copy(t.data[offNAT6First:], r.To.First.AsSlice())
	copy(t.data[offNAT6First+16:], last.AsSlice())
	putPorts(t.data[offNAT6Ports:])
	return t
}
