package filter

import (
	"errors"
	"fmt"
	"slices"
)

// ipLayout says where the fields of a family's entry are: struct ipt_entry of
// linux/netfilter_ipv4/ip_tables.h, struct ip6t_entry of
// linux/netfilter_ipv6/ip6_tables.h, on a 64-bit kernel.
type ipLayout struct {
	srcMask, dst, dstMask     int // after src, which is at 0
	in, out, inMask, outMask  int
	proto, flags, inv         int // u16, u8, u8
	target, next              int // u16, u16
	packets, bytes, entrySize int // u64, u64
	// protoFlag has to be set in flags where proto is (IP6T_F_PROTO).
	protoFlag byte
}

var ipLayouts = map[Family]ipLayout{
	IPv4: {
		dst: 4, srcMask: 8, dstMask: 12, in: 16, out: 32, inMask: 48, outMask: 64, proto: 80, flags: 82, inv: 83,
		target: 88, next: 90, packets: 96, bytes: 104, entrySize: 112,
	},
	IPv6: {
		dst: 16, srcMask: 32, dstMask: 48, in: 64, out: 80, inMask: 96, outMask: 112, proto: 128, flags: 131, inv: 132,
		target: 140, next: 142, packets: 152, bytes: 160, entrySize: 168, protoFlag: 1,
	},
}

// ipInversions pairs each negation with its flag, IPT_INV_* and IP6T_INV_*.
var ipInversions = [...]struct {
	not IPNegation
	inv byte
}{
	{IPNotIn, 0x01},
	{IPNotOut, 0x02},
	{IPNotSrc, 0x08},
	{IPNotDst, 0x10},
	{IPNotProtocol, 0x40},
}

// ipBlob is the content of one of the kernel's tables as it travels, as table
// is for ARP. Offsets of hooks that the table has not are zero.
type ipBlob struct {
	hookEntry, underflow [numIPHooks]uint32
	numEntries           uint32
	entries              []byte
}

// CountedIP is a rule with what it has counted.
type CountedIP struct {
	Rule IPRule
	// Packets and Bytes are of packets that matched, with their IP headers.
	Packets, Bytes uint64
}

// encodeIP lays out a table's rules, which must be canonical, valid and of that
// table, with policies that accept.
func encodeIP(f Family, t Table, rules []IPRule) ipBlob {
	var b ipBlob
	l := ipLayouts[f]
	add := func(e []byte) {
		b.entries = append(b.entries, e...)
		b.numEntries++
	}
	for _, chain := range t.Chains() {
		hook := chain.ipHook()
		b.hookEntry[hook] = uint32(len(b.entries))
		for _, r := range rules {
			if r.Chain == chain {
				add(l.encode(r, len(b.entries)))
			}
		}
		b.underflow[hook] = uint32(len(b.entries))
		add(l.entry(make([]byte, l.entrySize), standardTarget(standardAccept)))
	}
	add(l.entry(make([]byte, l.entrySize), errorTarget("ERROR")))
	return b
}

// entry puts a target behind an entry and its matches, and notes their sizes.
func (l ipLayout) entry(e, target []byte) []byte {
	native.PutUint16(e[l.target:], uint16(len(e)))
	native.PutUint16(e[l.next:], uint16(len(e)+len(target)))
	return append(e, target...)
}

// encodePart is struct xt_entry_match or struct xt_entry_target with its data.
func encodePart(p xtPart) []byte {
	b := newTarget(targetHeader+len(p.data), p.name)
	b[2+targetNameSize] = p.rev
	copy(b[targetHeader:], p.data)
	return b
}

// encode makes the entry of a rule that is at an offset in the table.
func (l ipLayout) encode(r IPRule, off int) []byte {
	e := make([]byte, l.entrySize)
	if r.Src.IsValid() {
		copy(e, r.Src.Addr().AsSlice())
		copy(e[l.srcMask:], prefixMask(r.Src))
	}
	if r.Dst.IsValid() {
		copy(e[l.dst:], r.Dst.Addr().AsSlice())
		copy(e[l.dstMask:], prefixMask(r.Dst))
	}
	putInterface(e[l.in:], e[l.inMask:], r.In)
	putInterface(e[l.out:], e[l.outMask:], r.Out)
	if r.Protocol != 0 {
		native.PutUint16(e[l.proto:], uint16(r.Protocol))
		e[l.flags] |= l.protoFlag
	}
	for _, i := range ipInversions {
		e[l.inv] |= flagIf(r.Not&i.not != 0, i.inv)
	}
	for _, m := range r.xtMatches() {
		e = append(e, encodePart(m)...)
	}
	if t, ok := r.xtTarget(); ok {
		return l.entry(e, encodePart(t))
	}
	return l.entry(e, verdict(r.Target, off+len(e)+standardTargetSize))
}

// verdict is a standard target. A rule that only counts jumps to the rule after
// it, as iptables' own does.
func verdict(t Target, next int) []byte {
	switch t {
	case Accept:
		return standardTarget(standardAccept)
	case Drop:
		return standardTarget(standardDrop)
	case Return:
		return standardTarget(standardReturn)
	}
	return standardTarget(int32(next))
}

// decodeIP reads what encodeIP makes, or what iptables-legacy made. A table
// that holds what an IPRule cannot say is an error. It trusts no length in the
// blob.
func decodeIP(f Family, t Table, b ipBlob) ([]CountedIP, error) {
	l := ipLayouts[f]
	var rules []CountedIP
	chains := t.Chains()
	at := -1
	n := uint32(0)
	for off := 0; off < len(b.entries); {
		e, err := l.at(b.entries, off)
		if err != nil {
			return nil, err
		}
		n++
		if n == b.numEntries && off+len(e) == len(b.entries) {
			return rules, nil // the error entry
		}
		for at+1 < len(chains) && b.hookEntry[chains[at+1].ipHook()] == uint32(off) {
			at++
		}
		if at < 0 {
			return nil, fmt.Errorf("an entry at offset %d is before the first chain", off)
		}
		chain := chains[at]
		switch underflow := b.underflow[chain.ipHook()]; {
		case underflow == uint32(off):
			if err := l.checkPolicy(e); err != nil {
				return nil, fmt.Errorf("chain %s of table %s: %w", chain, t, err)
			}
		case uint32(off) > underflow:
			return nil, fmt.Errorf("table %s has a user chain, which is not supported", t)
		default:
			c, err := l.decode(f, e, off)
			if err != nil {
				return nil, fmt.Errorf("chain %s of table %s: the rule at offset %d: %w", chain, t, off, err)
			}
			c.Rule.Table, c.Rule.Chain = t, chain
			c.Rule = c.Rule.canonicalIP()
			rules = append(rules, c)
		}
		off += len(e)
	}
	return nil, errors.New("the table does not end with its error entry")
}

// at cuts out one entry, at least an entry and a target's header long.
func (l ipLayout) at(b []byte, off int) ([]byte, error) {
	if len(b)-off < l.entrySize+targetHeader {
		return nil, fmt.Errorf("the entry at offset %d of %d is cut off", off, len(b))
	}
	e := b[off:]
	target, next := int(native.Uint16(e[l.target:])), int(native.Uint16(e[l.next:]))
	if target < l.entrySize || next < target+targetHeader || next > len(e) {
		return nil, fmt.Errorf("the entry at offset %d has impossible sizes: target at %d, next at %d, %d bytes left", off, target, next, len(e))
	}
	return e[:next], nil
}

// part reads the match or target at the head of b.
func part(b []byte) (xtPart, int, error) {
	if len(b) < targetHeader {
		return xtPart{}, 0, errors.New("a match is cut off")
	}
	size := int(native.Uint16(b))
	if size < targetHeader || size > len(b) {
		return xtPart{}, 0, fmt.Errorf("a match of %d bytes where %d are left", size, len(b))
	}
	return xtPart{cString(b[2 : 2+targetNameSize]), b[2+targetNameSize], b[targetHeader:size]}, size, nil
}

func (l ipLayout) checkPolicy(e []byte) error {
	p, _, err := part(e[native.Uint16(e[l.target:]):])
	if err != nil {
		return err
	}
	if p.name != "" || len(p.data) < 4 {
		return fmt.Errorf("its policy is the target %q, which is not supported", p.name)
	}
	if v := int32(native.Uint32(p.data)); v != standardAccept {
		return fmt.Errorf("its policy is %s; only ACCEPT is supported (iptables -P CHAIN ACCEPT)", standardName(v))
	}
	return nil
}

func (l ipLayout) decode(f Family, e []byte, off int) (CountedIP, error) {
	c := CountedIP{Packets: native.Uint64(e[l.packets:]), Bytes: native.Uint64(e[l.bytes:])}
	r := &c.Rule
	r.Family = f
	n := f.bits() / 8
	var errs [4]error
	r.Src, errs[0] = prefixOf(e[:n], e[l.srcMask:l.srcMask+n])
	r.Dst, errs[1] = prefixOf(e[l.dst:l.dst+n], e[l.dstMask:l.dstMask+n])
	r.In, errs[2] = decodeInterface(e[l.in:l.in+ifNameSize], e[l.inMask:l.inMask+ifNameSize])
	r.Out, errs[3] = decodeInterface(e[l.out:l.out+ifNameSize], e[l.outMask:l.outMask+ifNameSize])
	if err := errors.Join(errs[:]...); err != nil {
		return c, err
	}
	proto := native.Uint16(e[l.proto:])
	if proto > 0xff {
		return c, fmt.Errorf("the protocol %d is not supported", proto)
	}
	r.Protocol = Protocol(proto)
	inv := e[l.inv]
	for _, i := range ipInversions {
		r.not(inv&i.inv != 0, i.not)
		inv &^= i.inv
	}
	if inv != 0 || e[l.flags]&^l.protoFlag != 0 {
		return c, fmt.Errorf("the flags %#x and inverse flags %#x are not supported", e[l.flags], inv)
	}
	target := int(native.Uint16(e[l.target:]))
	for at := l.entrySize; at < target; {
		p, size, err := part(e[at:target])
		if err != nil {
			return c, err
		}
		if err := r.readMatch(p); err != nil {
			return c, err
		}
		at += size
	}
	p, _, err := part(e[target:])
	if err != nil {
		return c, err
	}
	if p.name != "" {
		return c, r.readTarget(p)
	}
	if len(p.data) < 4 {
		return c, errors.New("its target is cut off")
	}
	switch v := int32(native.Uint32(p.data)); v {
	case standardAccept:
		r.Target = Accept
	case standardDrop:
		r.Target = Drop
	case standardReturn:
		r.Target = Return
	case int32(off + len(e)): // to the rule after it
	default:
		return c, fmt.Errorf("the target %s is not supported", standardName(v))
	}
	return c, nil
}

// survivors finds which of a table's rules stay: for each new rule the number of
// the old one that it is, or -1. In each chain they keep their order, and what
// is new comes after what stays. Both lists are canonical.
func survivors(old, new []IPRule) []int {
	from := make([]int, len(new))
	next := make(map[Chain]int)  // where to look from
	lost := make(map[Chain]bool) // something new has come
	for i, r := range new {
		from[i] = -1
		if lost[r.Chain] {
			continue
		}
		at := next[r.Chain]
		if j := slices.Index(old[at:], r); j >= 0 {
			from[i], next[r.Chain] = at+j, at+j+1
		} else {
			lost[r.Chain] = true
		}
	}
	return from
}
