package filter

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

// blobFile is the table that arptables-legacy 0.0.5 wrote for the rules of
// typed, as the kernel gave it back; see TestToolGolden.
const blobFile = "testdata/arptables-legacy.hex"

// formatBlob is a line of hex for where the chains begin and a line for each
// 32 bytes of entries, without what a kernel fills in: comefrom and counters.
func formatBlob(t table) string {
	var head []byte
	for i := range numHooks {
		head = native.AppendUint32(head, t.hookEntry[i])
	}
	for i := range numHooks {
		head = native.AppendUint32(head, t.underflow[i])
	}
	head = native.AppendUint32(head, t.numEntries)
	b := bytes.Clone(t.entries)
	for off := 0; off < len(b); {
		e, err := entryAt(b, off)
		if err != nil {
			return err.Error()
		}
		clear(e[168:172])
		clear(e[offPackets:entrySize])
		off += len(e)
	}
	s := hex.EncodeToString(head) + "\n"
	for c := range slices.Chunk(b, 32) {
		s += hex.EncodeToString(c) + "\n"
	}
	return s
}

// parseBlob reads formatBlob's text.
func parseBlob(tb testing.TB, text string) table {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		tb.Fatal(err)
	}
	var t table
	for i := range numHooks {
		t.hookEntry[i] = native.Uint32(b[4*i:])
		t.underflow[i] = native.Uint32(b[4*(numHooks+i):])
	}
	t.numEntries = native.Uint32(b[24:])
	t.entries = b[28:]
	return t
}

func TestBlobGolden(t *testing.T) {
	if native.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden table is a little-endian machine's")
	}
	text, err := os.ReadFile(blobFile)
	if err != nil {
		t.Fatal(err)
	}
	rules := Canonical(typedRules(t))
	if got := formatBlob(encodeTable(rules)); got != string(text) {
		g, w := strings.Split(got, "\n"), strings.Split(string(text), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Errorf("line %d (bytes %d…):\ngot    %s\nwanted %s", i+1, 32*(i-1), g[i], w[i])
			}
		}
		t.Fatalf("encodeTable: %d lines, arptables-legacy wrote %d", len(g), len(w))
	}
	counted, err := decodeTable(parseBlob(t, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range counted {
		if c.Rule != rules[i] {
			t.Errorf("rule %d is read as %v, wanted %v", i+1, c.Rule, rules[i])
		}
	}
	if len(counted) != len(rules) {
		t.Errorf("%d rules are read, wanted %d", len(counted), len(rules))
	}
}

// TestLayout holds the offsets against Go's own idea of the C structures on a
// 64-bit machine.
func TestLayout(t *testing.T) {
	type arp struct {
		Src, Dst, SrcMask, DstMask               [4]byte
		HLen, HLenMask                           uint8
		SrcMAC, SrcMACMask, DstMAC, DstMACMask   [devAddrLen]byte
		Op, OpMask, HType, HTypeMask, Pro, ProMk [2]byte
		In, Out, InMask, OutMask                 [ifNameSize]byte
	}
	if n := binary.Size(arp{}); n != offFlags {
		t.Errorf("struct arpt_arp before its flags has %d bytes, not %d", n, offFlags)
	}
	type entry struct {
		Arp          arp
		Flags, Hole1 uint8
		Inv, Hole2   uint16
		Target, Next uint16
		ComeFrom     uint32
		Hole3        uint32 // u64 counters are aligned to 8
		Counters     [2]uint64
	}
	if n := binary.Size(entry{}); n != entrySize {
		t.Errorf("struct arpt_entry has %d bytes, not %d", n, entrySize)
	}
	for name, n := range map[string]int{
		"arpt_entry": entrySize, "xt_standard_target": standardTargetSize, "xt_error_target": errorTargetSize,
		"mangle": targetHeader + mangleSize, "arpt_replace": replaceSize, "arpt_get_entries": getEntriesSize,
	} {
		if n%8 != 0 {
			t.Errorf("%s has %d bytes, no multiple of XT_ALIGN(1)", name, n)
		}
	}
	r := encodeReplace(encodeTable(nil))
	if len(r) != replaceSize+4*entrySize+3*standardTargetSize+errorTargetSize {
		t.Errorf("an empty arpt_replace has %d bytes", len(r))
	}
}

func TestDecodeTableForeign(t *testing.T) {
	fresh := func() table { return encodeTable(mustParse(t, "-A INPUT -d 1.2.3.4 -j DROP", "-A OUTPUT -j DROP")) }
	first := entrySize + standardTargetSize
	for name, c := range map[string]struct {
		change func(*table)
		want   string
	}{
		"return":  {func(b *table) { putVerdict(b, 0, standardReturn) }, "chain INPUT: the rule at offset 0: the target RETURN"},
		"jump":    {func(b *table) { putVerdict(b, 0, 928) }, "a jump to a user chain"},
		"policy":  {func(b *table) { putVerdict(b, first, standardDrop) }, "chain INPUT: its policy is DROP"},
		"opcode":  {func(b *table) { b.entries[offOpMask] = 0x0f }, "mask on --opcode"},
		"h-type":  {func(b *table) { b.entries[offHTypeMask] = 0xff }, "--h-type"},
		"proto":   {func(b *table) { b.entries[offProtoMask] = 0xff }, "--proto-type"},
		"holes":   {func(b *table) { b.entries[offDstMask+1] = 0 }, "holes"},
		"matches": {func(b *table) { native.PutUint16(b.entries[offTarget:], entrySize+8) }, "matches"},
		"sizes":   {func(b *table) { native.PutUint16(b.entries[offNext:], 8) }, "impossible sizes"},
		"cut":     {func(b *table) { b.entries = b.entries[:first+3] }, "cut off"},
		"no end":  {func(b *table) { b.entries = b.entries[:first] }, "does not end"},
		"forward": {func(b *table) { b.underflow[hookForward] += uint32(first) }, "FORWARD"},
		"user": {func(b *table) {
			chain := entryWith(make([]byte, entrySize), errorTarget("mine"))
			b.entries = slices.Insert(b.entries, len(b.entries)-entrySize-errorTargetSize, chain...)
			b.numEntries++
		}, "user chain"},
	} {
		b := fresh()
		c.change(&b)
		if got, err := decodeTable(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, wanted an error with %q", name, got, err, c.want)
		}
	}
}

func putVerdict(b *table, off int, v int32) {
	native.PutUint32(b.entries[off+entrySize+targetHeader:], uint32(v))
}

func FuzzDecodeTable(f *testing.F) {
	t := encodeTable(Canonical(typedRules(f)))
	f.Add(t.entries, t.numEntries, t.underflow[0], t.hookEntry[1], t.underflow[1], t.hookEntry[2], t.underflow[2])
	f.Fuzz(func(t *testing.T, b []byte, n, u0, h1, u1, h2, u2 uint32) {
		counted, err := decodeTable(table{
			hookEntry: [numHooks]uint32{0, h1, h2}, underflow: [numHooks]uint32{u0, u1, u2}, numEntries: n, entries: b,
		})
		if err != nil {
			return
		}
		for _, c := range counted {
			_ = c.Rule.String()
		}
	})
}
