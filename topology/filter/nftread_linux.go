package filter

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

var exampleAddr = netip.MustParsePrefix("192.0.2.1/32")

// nftReader reads one rule of nf_tables: what exprsOf writes, what
// arptables-nft writes (which tests htype, hlen and plen first and mangles
// with the target of xtables), and what a person writes with nft as long as
// an ArpRule can say it.
type nftReader struct {
	counted Counted
	// loaded is what the register holds, from where, through which mask.
	loaded expr.Any
	mask   []byte
	// imm is what an immediate put into the register.
	imm []byte
	// ethernet and ipv4 note arptables-nft's tests of htype and plen, which
	// with hlen 6 say only that this is ARP for IPv4 over Ethernet.
	ethernet, ipv4 bool
	done           bool
}

func decodeExprs(es []expr.Any) (Counted, error) {
	var d nftReader
	for _, e := range es {
		if d.done {
			return Counted{}, fmt.Errorf("the expression %s after the verdict is not supported", exprName(e))
		}
		if err := d.next(e); err != nil {
			return Counted{}, err
		}
	}
	r := &d.counted.Rule
	switch {
	case d.done:
	case r.Target == Mangle:
		r.MangleTarget = Continue
	default:
		return Counted{}, errors.New("a rule without a verdict is not supported")
	}
	if d.ethernet != d.ipv4 {
		return Counted{}, errors.New("--h-type and --proto-type are not supported")
	}
	if d.ethernet && r.HLen == hlenEthernet && r.Not&NotHLen == 0 && r.MangleMACSrc == (MAC{}) && r.MangleMACDst == (MAC{}) {
		r.HLen = 0
	}
	*r = r.canonical()
	return d.counted, nil
}

func exprName(e expr.Any) string { return strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr.") }

func (d *nftReader) next(e expr.Any) error {
	r := &d.counted.Rule
	if r.Target == Mangle {
		switch e.(type) {
		case *expr.Immediate, *expr.Payload, *expr.Verdict:
		default:
			return fmt.Errorf("the expression %s after a rewriting is not supported", exprName(e))
		}
	}
	switch e := e.(type) {
	case *expr.Meta:
		d.loaded, d.mask = e, nil
		return nil
	case *expr.Payload:
		if e.OperationType == expr.PayloadWrite {
			return d.write(e)
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
	case *expr.Counter:
		d.counted.Packets, d.counted.Bytes = e.Packets, e.Bytes
		return nil
	case *expr.Immediate:
		d.imm = e.Data
		return nil
	case *expr.Verdict:
		return d.verdict(e)
	case *expr.Target:
		info, ok := e.Info.(*xt.Unknown)
		if !ok || e.Name != "mangle" || e.Rev != 0 || len(*info) < mangleSize {
			return fmt.Errorf("the target %q of xtables is not supported", e.Name)
		}
		d.done = true
		return decodeMangle(r, *info)
	}
	return fmt.Errorf("the expression %s is not supported", exprName(e))
}

func (d *nftReader) verdict(e *expr.Verdict) error {
	r := &d.counted.Rule
	var t Target
	switch e.Kind {
	case expr.VerdictAccept:
		t = Accept
	case expr.VerdictDrop:
		t = Drop
	default:
		return fmt.Errorf("the verdict %d is not supported; accept and drop are", e.Kind)
	}
	if r.Target == Mangle {
		r.MangleTarget = t
	} else {
		r.Target = t
	}
	d.done = true
	return nil
}

// write notes what is written over a field, an immediate that came before.
func (d *nftReader) write(e *expr.Payload) error {
	r := &d.counted.Rule
	v := d.imm
	d.imm = nil
	if e.Base != expr.PayloadBaseNetworkHeader || int(e.Len) != len(v) {
		return fmt.Errorf("writing %d bytes at offset %d is not supported", e.Len, e.Offset)
	}
	r.Target = Mangle
	switch {
	case e.Offset == arpSrcIP && len(v) == lenIP:
		r.MangleIPSrc = netip.AddrFrom4([4]byte(v))
	case e.Offset == arpDstIP && len(v) == lenIP:
		r.MangleIPDst = netip.AddrFrom4([4]byte(v))
	case e.Offset == arpSrcMAC && len(v) == lenMAC:
		r.MangleMACSrc = MAC(v)
	case e.Offset == arpDstMAC && len(v) == lenMAC:
		r.MangleMACDst = MAC(v)
	default:
		return fmt.Errorf("writing %d bytes at offset %d is not supported", e.Len, e.Offset)
	}
	return nil
}

// compare notes one test.
func (d *nftReader) compare(e *expr.Cmp) error {
	if e.Op != expr.CmpOpEq && e.Op != expr.CmpOpNeq {
		return errors.New("a comparison other than == and != is not supported")
	}
	loaded, mask := d.loaded, d.mask
	d.loaded, d.mask = nil, nil
	not := e.Op == expr.CmpOpNeq
	switch l := loaded.(type) {
	case *expr.Meta:
		if mask != nil {
			return errors.New("a mask on an interface name is not supported")
		}
		return d.compareInterface(l.Key, e.Data, not)
	case *expr.Payload:
		if l.Base == expr.PayloadBaseNetworkHeader && int(l.Len) == len(e.Data) && (mask == nil || len(mask) == len(e.Data)) {
			return d.compareFields(int(l.Offset), e.Data, mask, not)
		}
	}
	return errors.New("a comparison of what is no field of the ARP packet is not supported")
}

func (d *nftReader) compareInterface(key expr.MetaKey, data []byte, not bool) error {
	name := cString(data)
	if len(name) == len(data) && len(data) < ifNameSize {
		name += "+"
	}
	r := &d.counted.Rule
	switch {
	case key == expr.MetaKeyIIFNAME && r.In == "":
		r.In = name
		d.not(not, NotIn)
	case key == expr.MetaKeyOIFNAME && r.Out == "":
		r.Out = name
		d.not(not, NotOut)
	default:
		return fmt.Errorf("a test of meta key %d, or a second one of an interface, is not supported", key)
	}
	return nil
}

func (d *nftReader) not(not bool, bit Negation) {
	if not {
		d.counted.Rule.Not |= bit
	}
}

// compareFields takes apart what nft has put together: tests of neighbouring
// fields become one of all their bytes.
func (d *nftReader) compareFields(off int, data, mask []byte, not bool) error {
	for _, f := range arpFields {
		if f.off != off || f.len >= len(data) || not {
			continue
		}
		var mask1, mask2 []byte
		if mask != nil {
			mask1, mask2 = mask[:f.len], mask[f.len:]
		}
		if err := d.compareField(off, data[:f.len], mask1, not); err != nil {
			return err
		}
		return d.compareFields(off+f.len, data[f.len:], mask2, not)
	}
	return d.compareField(off, data, mask, not)
}

// compareField knows the fields by offset. Of addresses nft loads only the
// whole bytes of a prefix.
func (d *nftReader) compareField(off int, data, mask []byte, not bool) error {
	r := &d.counted.Rule
	is := func(wantOff, wantLen int, fresh bool) bool {
		return off == wantOff && len(data) == wantLen && mask == nil && fresh
	}
	switch {
	case is(arpHType, lenHType, !d.ethernet) && data[0] == 0 && data[1] == htypeEthernet && !not:
		d.ethernet = true
	case is(arpPLen, 1, !d.ipv4) && data[0] == plenIPv4 && !not:
		d.ipv4 = true
	case is(arpHLen, lenHLen, r.HLen == 0) && data[0] != 0:
		r.HLen = data[0]
		d.not(not, NotHLen)
	case is(arpOp, lenOp, r.Opcode == 0) && (data[0] != 0 || data[1] != 0):
		r.Opcode = Opcode(data[0])<<8 | Opcode(data[1])
		d.not(not, NotOpcode)
	case off == arpSrcIP && len(data) <= lenIP && !r.Src.IsValid():
		d.not(not, NotSrc)
		return setPrefix(&r.Src, data, mask)
	case off == arpDstIP && len(data) <= lenIP && !r.Dst.IsValid():
		d.not(not, NotDst)
		return setPrefix(&r.Dst, data, mask)
	case off == arpSrcMAC && len(data) <= lenMAC && r.SrcMAC.isAny():
		d.not(not, NotSrcMAC)
		setMAC(&r.SrcMAC, data, mask)
	case off == arpDstMAC && len(data) <= lenMAC && r.DstMAC.isAny():
		d.not(not, NotDstMAC)
		setMAC(&r.DstMAC, data, mask)
	default:
		return fmt.Errorf("a test of %d bytes at offset %d of the ARP packet, or a second one there, is not supported", len(data), off)
	}
	return nil
}

func setPrefix(p *netip.Prefix, data, mask []byte) error {
	var addr, m [lenIP]byte
	copy(addr[:], data)
	copy(m[:], wholeMask(mask, len(data)))
	var err error
	*p, err = decodePrefix(addr[:], m[:])
	return err
}

func setMAC(m *MACMatch, data, mask []byte) {
	copy(m.Addr[:], data)
	copy(m.Mask[:], wholeMask(mask, len(data)))
}

func wholeMask(mask []byte, n int) []byte {
	if mask == nil {
		return bytes.Repeat([]byte{0xff}, n)
	}
	return mask
}
