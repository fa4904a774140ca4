package filter

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// ipReader reads one rule of nf_tables: what ipExprs and iptables-nft 1.8 write,
// with tests of ports by nf_tables' own expressions too.
type ipReader struct {
	counted CountedIP
	// loaded is what the register holds, from where, through which mask.
	loaded expr.Any
	mask   []byte
	done   bool
}

func decodeIPExprs(f Family, es []expr.Any) (CountedIP, error) {
	var d ipReader
	d.counted.Rule.Family = f
	for _, e := range es {
		if d.done {
			return CountedIP{}, fmt.Errorf("the expression %s after the target is not supported", exprName(e))
		}
		if err := d.next(e); err != nil {
			return CountedIP{}, err
		}
	}
	return d.counted, nil
}

func (d *ipReader) next(e expr.Any) error {
	r := &d.counted.Rule
	switch e := e.(type) {
	case *expr.Meta:
		d.loaded, d.mask = e, nil
		return nil
	case *expr.Payload:
		if e.OperationType == expr.PayloadWrite {
			return errors.New("rewriting packets other than by a target is not supported")
		}
		d.loaded, d.mask = e, nil
		return nil
	case *expr.Bitwise:
		if len(bytes.Trim(e.Xor, "\x00")) != 0 || len(e.Mask) == 0 || d.mask != nil {
			return errors.New("a bitwise operation other than one mask is not supported")
		}
		d.mask = e.Mask
		return nil
	case *expr.Cmp:
		return d.compare(e)
	case *expr.Range:
		return d.portRange(e)
	case *expr.Counter:
		d.counted.Packets, d.counted.Bytes = e.Packets, e.Bytes
		return nil
	case *expr.Match:
		p, err := d.part(e.Name, e.Rev, e.Info)
		if err != nil {
			return err
		}
		return r.readMatch(p)
	case *expr.Target:
		d.done = true
		p, err := d.part(e.Name, e.Rev, e.Info)
		if err != nil {
			return err
		}
		return r.readTarget(p)
	case *expr.Verdict:
		d.done = true
		switch e.Kind {
		case expr.VerdictAccept:
			r.Target = Accept
		case expr.VerdictDrop:
			r.Target = Drop
		case expr.VerdictReturn:
			r.Target = Return
		default:
			return fmt.Errorf("the verdict %d is not supported; accept, drop and return are", e.Kind)
		}
		return nil
	case *expr.Reject:
		d.done = true
		return d.reject(e)
	}
	return fmt.Errorf("the expression %s is not supported", exprName(e))
}

// part is a match or target as its bytes, some of which google/nftables has
// taken apart.
func (d *ipReader) part(name string, rev uint32, info xt.InfoAny) (xtPart, error) {
	data, err := xt.Marshal(xt.TableFamily(d.counted.Rule.Family.nft()), rev, info)
	if err != nil {
		return xtPart{}, fmt.Errorf("the match or target %q: %w", name, err)
	}
	if rev > 0xff {
		return xtPart{}, fmt.Errorf("the revision %d of %q is not supported", rev, name)
	}
	return xtPart{name, uint8(rev), data}, nil
}

// compare notes one test.
func (d *ipReader) compare(e *expr.Cmp) error {
	loaded, mask := d.loaded, d.mask
	d.loaded, d.mask = nil, nil
	if e.Op != expr.CmpOpEq && e.Op != expr.CmpOpNeq {
		l, ok := loaded.(*expr.Payload)
		if !ok || l.Base != expr.PayloadBaseTransportHeader || mask != nil {
			return errors.New("a comparison by order of anything but ports is not supported")
		}
		return d.order(int(l.Offset), e)
	}
	not := e.Op == expr.CmpOpNeq
	switch l := loaded.(type) {
	case *expr.Meta:
		return d.compareMeta(l.Key, e.Data, mask, not)
	case *expr.Payload:
		switch {
		case l.Base == expr.PayloadBaseNetworkHeader && int(l.Len) == len(e.Data):
			return d.compareAddr(int(l.Offset), e.Data, mask, not)
		case l.Base == expr.PayloadBaseTransportHeader && int(l.Len) == len(e.Data) && mask == nil:
			return d.compareTransport(int(l.Offset), e.Data, not)
		case l.Base == expr.PayloadBaseTransportHeader && len(mask) == 1 && len(e.Data) == 1 && l.Offset == offTCPFlags && d.exactly(TCP):
			r := &d.counted.Rule
			r.TCPFlags = TCPFlags{Mask: mask[0], Set: e.Data[0]}
			r.not(not, IPNotTCPFlags)
			return nil
		}
	}
	return errors.New("a comparison of what is no field of the packet that iptables knows is not supported")
}

// offTCPFlags is where a TCP header has its flags (RFC 9293).
const offTCPFlags = 13

func (d *ipReader) exactly(p Protocol) bool {
	r := &d.counted.Rule
	return r.Protocol == p && r.Not&IPNotProtocol == 0
}

func (d *ipReader) compareMeta(key expr.MetaKey, data, mask []byte, not bool) error {
	r := &d.counted.Rule
	name := cString(data)
	if len(name) == len(data) && len(data) < ifNameSize {
		name += "+"
	}
	whole := mask == nil
	switch {
	case key == expr.MetaKeyIIFNAME && r.In == "" && whole:
		r.In = name
		r.not(not, IPNotIn)
	case key == expr.MetaKeyOIFNAME && r.Out == "" && whole:
		r.Out = name
		r.not(not, IPNotOut)
	case key == expr.MetaKeyL4PROTO && r.Protocol == 0 && whole && len(data) == 1 && data[0] != 0:
		r.Protocol = Protocol(data[0])
		r.not(not, IPNotProtocol)
	case key == expr.MetaKeyMARK && r.Mark.Mask == 0 && len(data) == 4 && (whole || len(mask) == 4):
		r.Mark = MarkMatch{native.Uint32(data), ^uint32(0)}
		if !whole {
			r.Mark.Mask = native.Uint32(mask)
		}
		r.not(not, IPNotMark)
	default:
		return fmt.Errorf("a test of meta key %d, or a second one, is not supported", key)
	}
	return nil
}

// compareAddr knows the addresses by their offsets. Of a network nft loads only
// the whole bytes.
func (d *ipReader) compareAddr(off int, data, mask []byte, not bool) error {
	r := &d.counted.Rule
	src, dst, n := addrFields(r.Family)
	var into *netip.Prefix
	switch {
	case off == src && len(data) <= n && !r.Src.IsValid():
		into = &r.Src
		r.not(not, IPNotSrc)
	case off == dst && len(data) <= n && !r.Dst.IsValid():
		into = &r.Dst
		r.not(not, IPNotDst)
	case r.Family == IPv4 && off == 9 && len(data) == 1 && mask == nil && r.Protocol == 0 && data[0] != 0:
		// "ip protocol", which is as good as meta l4proto.
		r.Protocol = Protocol(data[0])
		r.not(not, IPNotProtocol)
		return nil
	default:
		return fmt.Errorf("a test of %d bytes at offset %d of the IP header, or a second one there, is not supported", len(data), off)
	}
	addr, m := make([]byte, n), make([]byte, n)
	copy(addr, data)
	copy(m, wholeMask(mask, len(data)))
	var err error
	*into, err = prefixOf(addr, m)
	return err
}

// compareTransport reads ports and ICMP types.
func (d *ipReader) compareTransport(off int, data []byte, not bool) error {
	r := &d.counted.Rule
	if d.exactly(r.Family.icmp()) && off == 0 && len(data) <= 2 && !r.ICMP.Valid {
		r.ICMP = ICMPType{Type: data[0], AnyCode: len(data) == 1, Valid: true}
		if len(data) == 2 {
			r.ICMP.Code = data[1]
		}
		r.not(not, IPNotICMP)
		return nil
	}
	if len(data) == 4 && off == 0 && !not {
		// nft puts tests of both ports into one.
		if err := d.ports(0, data[:2], data[:2], false); err != nil {
			return err
		}
		return d.ports(2, data[2:], data[2:], false)
	}
	return d.ports(off, data, data, not)
}

func (d *ipReader) portRange(e *expr.Range) error {
	l, ok := d.loaded.(*expr.Payload)
	if !ok || l.Base != expr.PayloadBaseTransportHeader || d.mask != nil || e.Op != expr.CmpOpEq && e.Op != expr.CmpOpNeq {
		return errors.New("a range of anything but ports is not supported")
	}
	d.loaded = nil
	return d.ports(int(l.Offset), e.FromData, e.ToData, e.Op == expr.CmpOpNeq)
}

// order reads ranges of ports that begin with the lowest, or end with the
// highest, which iptables-nft 1.8.9 writes as one comparison.
func (d *ipReader) order(off int, e *expr.Cmp) error {
	lowest, highest := []byte{0, 0}, []byte{0xff, 0xff}
	switch e.Op {
	case expr.CmpOpLte:
		return d.ports(off, lowest, e.Data, false)
	case expr.CmpOpGt:
		return d.ports(off, lowest, e.Data, true)
	case expr.CmpOpGte:
		return d.ports(off, e.Data, highest, false)
	case expr.CmpOpLt:
		return d.ports(off, e.Data, highest, true)
	}
	return fmt.Errorf("the comparison %d is not supported", e.Op)
}

func (d *ipReader) ports(off int, first, last []byte, not bool) error {
	r := &d.counted.Rule
	if !r.Protocol.hasPorts() || len(first) != 2 || len(last) != 2 {
		return fmt.Errorf("a test of %d bytes at offset %d of what is above IP is not supported", len(first), off)
	}
	p := PortRange{uint16(first[0])<<8 | uint16(first[1]), uint16(last[0])<<8 | uint16(last[1])}
	switch {
	case off == 0 && r.SrcPorts == PortRange{} && p.Last != 0:
		r.SrcPorts = p
		r.not(not, IPNotSrcPorts)
	case off == 2 && r.DstPorts == PortRange{} && p.Last != 0:
		r.DstPorts = p
		r.not(not, IPNotDstPorts)
	default:
		return fmt.Errorf("a test at offset %d of what is above IP, or a second one there, is not supported", off)
	}
	return nil
}

// reject reads what iptables-nft writes for -j REJECT.
func (d *ipReader) reject(e *expr.Reject) error {
	r := &d.counted.Rule
	r.Target = Reject
	if e.Type == unix.NFT_REJECT_TCP_RST {
		r.RejectWith = tcpReset
		return nil
	}
	codes := map[Family]map[uint8]string{
		// ICMP_NET_UNREACH and so on of linux/icmp.h, ICMPV6_NOROUTE of
		// linux/icmpv6.h.
		IPv4: {
			0: "icmp-net-unreachable", 1: "icmp-host-unreachable", 2: "icmp-proto-unreachable", 3: "icmp-port-unreachable",
			9: "icmp-net-prohibited", 10: "icmp-host-prohibited", 13: "icmp-admin-prohibited",
		},
		IPv6: {
			0: "icmp6-no-route", 1: "icmp6-adm-prohibited", 3: "icmp6-addr-unreachable", 4: "icmp6-port-unreachable",
			5: "icmp6-policy-fail", 6: "icmp6-reject-route",
		},
	}
	name, ok := codes[r.Family][e.Code]
	if !ok || e.Type != unix.NFT_REJECT_ICMP_UNREACH {
		return fmt.Errorf("a reject of type %d with code %d is not supported", e.Type, e.Code)
	}
	r.RejectWith = name
	return nil
}
