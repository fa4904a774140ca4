package filter

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
)

// The structures of the arp_tables socket options, from
// linux/netfilter_arp/arp_tables.h, linux/netfilter_arp/arpt_mangle.h and
// linux/netfilter/x_tables.h, as a 64-bit kernel lays them out: u64 and
// pointers aligned to 8. (XT_ALIGN is 8 there; on i386 it would be 4, which is
// why openLegacy refuses 32-bit machines.) Numbers are in the machine's byte
// order, addresses and the opcode in the network's.
const (
	// Hooks, from linux/netfilter_arp.h.
	hookIn, hookOut, hookForward, numHooks = 0, 1, 2, 3
	// validHooks is what arptable_filter registers.
	validHooks = 1<<hookIn | 1<<hookOut | 1<<hookForward

	// struct arpt_entry begins with struct arpt_arp (164 bytes).
	offSrc, offDst          = 0, 4  // in_addr
	offSrcMask, offDstMask  = 8, 12 // in_addr
	offHLen, offHLenMask    = 16, 17
	offSrcMAC, offDstMAC    = 18, 50 // 16 bytes of address, 16 of mask
	offOp, offOpMask        = 82, 84 // be16
	offHType, offHTypeMask  = 86, 88 // be16
	offProto, offProtoMask  = 90, 92 // be16
	offIn, offOut           = 94, 110
	offInMask, offOutMask   = 126, 142
	offFlags, offInvFlags   = 158, 160 // u8, u16
	offTarget, offNext      = 164, 166 // u16
	offPackets, offBytes    = 176, 184 // u64; comefrom at 168, hole at 172
	entrySize               = 192
	devAddrLen, ifNameSize  = 16, 16
	tableNameSize           = 32
	countersSize            = 16 // struct xt_counters
	getInfoSize             = 68 // struct arpt_getinfo
	offInfoHooks            = 32
	offInfoEntry            = 36
	offInfoUnderflow        = 48
	offInfoNum, offInfoSize = 60, 64
	replaceSize             = 80 // struct arpt_replace without its entries
	offReplaceCounters      = 72
	getEntriesSize          = 40 // struct arpt_get_entries without its entries

	// struct xt_entry_target: u16 size, name[29], u8 revision.
	targetHeader, targetNameSize = 32, 29
	standardTargetSize           = 40 // XT_ALIGN(target, int verdict)
	errorTargetSize              = 64 // XT_ALIGN(target, char errorname[30])
	// struct arpt_mangle after the target's header.
	offMangleSrcMAC, offMangleDstMAC = 0, 16
	offMangleIPSrc, offMangleIPDst   = 32, 36
	offMangleFlags, offMangleVerdict = 40, 44
	mangleSize                       = 48
)

// Inverse flags, ARPT_INV_*.
const (
	invIn, invOut, invSrc, invDst = 0x001, 0x002, 0x004, 0x008
	invSrcMAC, invDstMAC, invOp   = 0x010, 0x020, 0x040
	invHLen                       = 0x200
)

// inversions pairs each Negation with its flag.
var inversions = [...]struct {
	not Negation
	inv uint16
}{
	{NotIn, invIn},
	{NotOut, invOut},
	{NotSrc, invSrc},
	{NotDst, invDst},
	{NotSrcMAC, invSrcMAC},
	{NotDstMAC, invDstMAC},
	{NotOpcode, invOp},
	{NotHLen, invHLen},
}

// Flags of struct arpt_mangle, ARPT_MANGLE_*.
const mangleSrcMAC, mangleDstMAC, mangleIPSrc, mangleIPDst = 0x01, 0x02, 0x04, 0x08

// Verdicts, from linux/netfilter.h and x_tables.h. A standard target holds
// -NF_x-1; mangle holds NF_x itself, or XT_CONTINUE.
const (
	nfDrop, nfAccept = 0, 1
	standardDrop     = -nfDrop - 1
	standardAccept   = -nfAccept - 1
	standardReturn   = -5 // XT_RETURN, -NF_REPEAT-1
	xtContinue       = -1
)

var native = binary.NativeEndian

// table is the content of the kernel's arp table "filter" as it travels: where
// each hook begins, where its policy is, and the entries.
type table struct {
	hookEntry, underflow [numHooks]uint32
	numEntries           uint32
	entries              []byte
}

// encodeTable lays out rules with policies that accept: the rules of a hook,
// its policy, the next hook, and the error entry that ends every table. The
// rules must be canonical and valid.
func encodeTable(rules []ArpRule) table {
	var t table
	add := func(e []byte) {
		t.entries = append(t.entries, e...)
		t.numEntries++
	}
	for hook := range numHooks {
		t.hookEntry[hook] = uint32(len(t.entries))
		for _, r := range rules {
			if chainOrder(r.Chain) == hook && hook != hookForward {
				add(encodeRule(r))
			}
		}
		t.underflow[hook] = uint32(len(t.entries))
		add(entryWith(make([]byte, entrySize), standardTarget(standardAccept)))
	}
	add(entryWith(make([]byte, entrySize), errorTarget("ERROR")))
	return t
}

// entryWith puts a target behind an entry and notes their sizes.
func entryWith(e, target []byte) []byte {
	native.PutUint16(e[offTarget:], uint16(len(e)))
	native.PutUint16(e[offNext:], uint16(len(e)+len(target)))
	return append(e, target...)
}

func newTarget(size int, name string) []byte {
	t := make([]byte, size)
	native.PutUint16(t, uint16(size))
	copy(t[2:2+targetNameSize], name)
	return t
}

// standardTarget has the empty name.
func standardTarget(verdict int32) []byte {
	t := newTarget(standardTargetSize, "")
	native.PutUint32(t[targetHeader:], uint32(verdict))
	return t
}

func errorTarget(name string) []byte {
	t := newTarget(errorTargetSize, "ERROR")
	copy(t[targetHeader:], name)
	return t
}

func encodeRule(r ArpRule) []byte {
	e := make([]byte, entrySize, entrySize+targetHeader+mangleSize)
	putPrefix(e[offSrc:], e[offSrcMask:], r.Src)
	putPrefix(e[offDst:], e[offDstMask:], r.Dst)
	if r.HLen != 0 {
		e[offHLen], e[offHLenMask] = r.HLen, 0xff
	}
	putMAC(e[offSrcMAC:], r.SrcMAC)
	putMAC(e[offDstMAC:], r.DstMAC)
	if r.Opcode != 0 {
		binary.BigEndian.PutUint16(e[offOp:], uint16(r.Opcode))
		binary.BigEndian.PutUint16(e[offOpMask:], math.MaxUint16)
	}
	putInterface(e[offIn:], e[offInMask:], r.In)
	putInterface(e[offOut:], e[offOutMask:], r.Out)
	var inv uint16
	for _, i := range inversions {
		if r.Not&i.not != 0 {
			inv |= i.inv
		}
	}
	native.PutUint16(e[offInvFlags:], inv)
	switch r.Target {
	case Accept:
		return entryWith(e, standardTarget(standardAccept))
	case Drop:
		return entryWith(e, standardTarget(standardDrop))
	}
	return entryWith(e, append(newTarget(targetHeader+mangleSize, "mangle")[:targetHeader], encodeMangle(r)...))
}

func encodeMangle(r ArpRule) []byte {
	m := make([]byte, mangleSize)
	put := func(off int, flag byte, addr []byte) {
		m[offMangleFlags] |= flag
		copy(m[off:], addr)
	}
	if r.MangleMACSrc != (MAC{}) {
		put(offMangleSrcMAC, mangleSrcMAC, r.MangleMACSrc[:])
	}
	if r.MangleMACDst != (MAC{}) {
		put(offMangleDstMAC, mangleDstMAC, r.MangleMACDst[:])
	}
	if r.MangleIPSrc.IsValid() {
		put(offMangleIPSrc, mangleIPSrc, r.MangleIPSrc.AsSlice())
	}
	if r.MangleIPDst.IsValid() {
		put(offMangleIPDst, mangleIPDst, r.MangleIPDst.AsSlice())
	}
	verdict := int32(nfAccept)
	switch r.MangleTarget {
	case Drop:
		verdict = nfDrop
	case Continue:
		verdict = xtContinue
	}
	native.PutUint32(m[offMangleVerdict:], uint32(verdict))
	return m
}

func putMAC(b []byte, m MACMatch) {
	copy(b, m.Addr[:])
	copy(b[devAddrLen:], m.Mask[:])
}

func putPrefix(addr, mask []byte, p netip.Prefix) {
	if p.IsValid() {
		copy(addr, p.Addr().AsSlice())
		binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	}
}

// putInterface sets the mask over the name and its final zero, so that "eth1"
// is not "eth10"; with "+" over what is before it. The kernel compares the
// masked bytes only, so the "+" itself stays in the name, as arptables does.
func putInterface(name, mask []byte, ifname string) {
	if ifname == "" {
		return
	}
	copy(name, ifname)
	n := len(ifname) + 1
	if strings.HasSuffix(ifname, "+") {
		n = len(ifname) - 1
	}
	for i := range n {
		mask[i] = 0xff
	}
}
