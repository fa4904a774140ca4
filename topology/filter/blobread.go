package filter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// decodeTable reads what encodeTable makes, or what arptables-legacy made. A
// table that holds what an ArpRule cannot say is an error. It trusts no
// length in the blob.
func decodeTable(t table) ([]Counted, error) {
	var rules []Counted
	hook := -1
	place := func() string {
		switch hook {
		case hookIn:
			return "chain INPUT"
		case hookOut:
			return "chain OUTPUT"
		}
		return "chain FORWARD"
	}
	n := uint32(0)
	for off := 0; off < len(t.entries); {
		e, err := entryAt(t.entries, off)
		if err != nil {
			return nil, err
		}
		n++
		if n == t.numEntries && off+len(e) == len(t.entries) {
			return rules, nil // the error entry
		}
		for hook+1 < numHooks && t.hookEntry[hook+1] == uint32(off) {
			hook++
		}
		if hook < 0 {
			return nil, fmt.Errorf("an entry at offset %d is before the first chain", off)
		}
		switch {
		case t.underflow[hook] == uint32(off):
			if err := checkPolicy(e); err != nil {
				return nil, fmt.Errorf("%s: %w", place(), err)
			}
		case uint32(off) > t.underflow[hook]:
			return nil, errors.New("there is a user chain, which is not supported")
		case hook == hookForward:
			return nil, errors.New("chain FORWARD holds rules, which is not supported")
		default:
			c, err := decodeRule(e)
			if err != nil {
				return nil, fmt.Errorf("%s: the rule at offset %d: %w", place(), off, err)
			}
			c.Rule.Chain = Input
			if hook == hookOut {
				c.Rule.Chain = Output
			}
			rules = append(rules, c)
		}
		off += len(e)
	}
	return nil, errors.New("the table does not end with its error entry")
}

// entryAt cuts out one entry, at least an entry and a target's header long.
func entryAt(b []byte, off int) ([]byte, error) {
	if len(b)-off < entrySize+targetHeader {
		return nil, fmt.Errorf("the entry at offset %d of %d is cut off", off, len(b))
	}
	e := b[off:]
	target, next := int(native.Uint16(e[offTarget:])), int(native.Uint16(e[offNext:]))
	if target < entrySize || next < target+targetHeader || next > len(e) {
		return nil, fmt.Errorf("the entry at offset %d has impossible sizes: target at %d, next at %d, %d bytes left", off, target, next, len(e))
	}
	return e[:next], nil
}

// targetOf returns the target's name, its revision and what follows its
// header.
func targetOf(e []byte) (name string, rev byte, data []byte) {
	t := e[native.Uint16(e[offTarget:]):]
	return cString(t[2 : 2+targetNameSize]), t[2+targetNameSize], t[targetHeader:]
}

func checkPolicy(e []byte) error {
	name, _, data := targetOf(e)
	if name != "" || len(data) < 4 {
		return fmt.Errorf("its policy is the target %q, which is not supported", name)
	}
	if v := int32(native.Uint32(data)); v != standardAccept {
		return fmt.Errorf("its policy is %s; only ACCEPT is supported (arptables -P CHAIN ACCEPT)", standardName(v))
	}
	return nil
}

func standardName(v int32) string {
	switch v {
	case standardAccept:
		return "ACCEPT"
	case standardDrop:
		return "DROP"
	case standardReturn:
		return "RETURN"
	}
	if v >= 0 {
		return "a jump to a user chain"
	}
	return fmt.Sprintf("verdict %d", v)
}

func decodeRule(e []byte) (Counted, error) {
	c := Counted{Packets: native.Uint64(e[offPackets:]), Bytes: native.Uint64(e[offBytes:])}
	r := &c.Rule
	if native.Uint16(e[offTarget:]) != entrySize {
		return c, errors.New("matches are not supported")
	}
	var errs [4]error
	r.Src, errs[0] = decodePrefix(e[offSrc:], e[offSrcMask:])
	r.Dst, errs[1] = decodePrefix(e[offDst:], e[offDstMask:])
	r.In, errs[2] = decodeInterface(e[offIn:offIn+ifNameSize], e[offInMask:offInMask+ifNameSize])
	r.Out, errs[3] = decodeInterface(e[offOut:offOut+ifNameSize], e[offOutMask:offOutMask+ifNameSize])
	if err := errors.Join(errs[:]...); err != nil {
		return c, err
	}
	var ok1, ok2 bool
	r.SrcMAC, ok1 = decodeMACMatch(e[offSrcMAC:])
	r.DstMAC, ok2 = decodeMACMatch(e[offDstMAC:])
	if !ok1 || !ok2 {
		return c, errors.New("a hardware address longer than 6 bytes is not supported")
	}
	switch e[offHLenMask] {
	case 0:
	case 0xff:
		r.HLen = e[offHLen]
	default:
		return c, errors.New("a mask on --h-length is not supported")
	}
	switch binary.BigEndian.Uint16(e[offOpMask:]) {
	case 0:
	case math.MaxUint16:
		r.Opcode = Opcode(binary.BigEndian.Uint16(e[offOp:]))
	default:
		return c, errors.New("a mask on --opcode is not supported")
	}
	if e[offHLenMask] != 0 && r.HLen == 0 || native.Uint16(e[offOpMask:]) != 0 && r.Opcode == 0 {
		return c, errors.New("--h-length 0 and --opcode 0 are not supported")
	}
	if native.Uint16(e[offHTypeMask:]) != 0 {
		return c, errors.New("--h-type is not supported")
	}
	if native.Uint16(e[offProtoMask:]) != 0 {
		return c, errors.New("--proto-type is not supported")
	}
	inv := native.Uint16(e[offInvFlags:])
	for _, i := range inversions {
		if inv&i.inv != 0 {
			r.Not |= i.not
			inv &^= i.inv
		}
	}
	if inv != 0 || e[offFlags] != 0 {
		return c, fmt.Errorf("the flags %#x and inverse flags %#x are not supported", e[offFlags], inv)
	}
	return c, decodeTarget(r, e)
}

func decodeTarget(r *ArpRule, e []byte) error {
	name, rev, data := targetOf(e)
	switch {
	case name == "" && len(data) >= 4:
		switch v := int32(native.Uint32(data)); v {
		case standardAccept:
			r.Target = Accept
		case standardDrop:
			r.Target = Drop
		default:
			return fmt.Errorf("the target %s is not supported", standardName(v))
		}
		return nil
	case name == "mangle" && rev == 0 && len(data) >= mangleSize:
		return decodeMangle(r, data)
	}
	return fmt.Errorf("the target %q (revision %d, %d bytes) is not supported", name, rev, len(data))
}

// decodeMangle reads a struct arpt_mangle, which nf_tables carries too when
// arptables-nft wrote the rule.
func decodeMangle(r *ArpRule, m []byte) error {
	r.Target = Mangle
	flags := m[offMangleFlags]
	if flags&mangleSrcMAC != 0 {
		copy(r.MangleMACSrc[:], m[offMangleSrcMAC:])
	}
	if flags&mangleDstMAC != 0 {
		copy(r.MangleMACDst[:], m[offMangleDstMAC:])
	}
	if flags&mangleIPSrc != 0 {
		r.MangleIPSrc = netip.AddrFrom4([4]byte(m[offMangleIPSrc:]))
	}
	if flags&mangleIPDst != 0 {
		r.MangleIPDst = netip.AddrFrom4([4]byte(m[offMangleIPDst:]))
	}
	switch v := int32(native.Uint32(m[offMangleVerdict:])); v {
	case nfAccept:
	case nfDrop:
		r.MangleTarget = Drop
	case xtContinue:
		r.MangleTarget = Continue
	default:
		return fmt.Errorf("the mangle target %d is not supported", v)
	}
	return nil
}

func decodePrefix(addr, mask []byte) (netip.Prefix, error) {
	bits, ok := maskBits([4]byte(mask))
	if !ok {
		return netip.Prefix{}, fmt.Errorf("the mask %v has holes, which is not supported", netip.AddrFrom4([4]byte(mask)))
	}
	if bits == 0 {
		return netip.Prefix{}, nil
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(addr)), bits).Masked(), nil
}

func decodeMACMatch(b []byte) (MACMatch, bool) {
	m := MACMatch{Addr: MAC(b), Mask: MAC(b[devAddrLen:])}
	rest := b[devAddrLen+len(m.Mask) : 2*devAddrLen]
	return m.canonical(), len(bytes.Trim(rest, "\x00")) == 0
}

func decodeInterface(name, mask []byte) (string, error) {
	n := len(mask) - len(bytes.TrimLeft(mask, "\xff"))
	if len(bytes.Trim(mask[n:], "\x00")) != 0 {
		return "", errors.New("a mask with holes on an interface name is not supported")
	}
	s := cString(name)
	switch {
	case n == 0:
		return "", nil
	case n > len(s):
		return s, nil
	}
	return s[:n] + "+", nil
}

// cString is what is before the first zero byte.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
