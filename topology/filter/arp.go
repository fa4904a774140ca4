// Package filter is the room of packet filter rules: rules for ARP and for IP as
// values, the words of arptables, iptables and ip6tables for them, and the way
// into a kernel without those tools.
//
// An [ArpRule] is one rule. [ParseArpRule] reads it from the words that a
// person types after "arptables" and [ArpRule.String] gives them back;
// [FormatSave] and [ParseSave] speak the text of arptables-save. What the
// grammar has and lvslab has not (user chains, the chain FORWARD, RETURN,
// masks on opcodes, …) is an error that names it, never left out in silence.
//
// A [Backend] is a kernel's way of taking the rules: nf_tables where it has
// the arp family, else the older arp_tables. [Detect] finds it. Both are used
// from a thread that is in the wanted network namespace and keep nothing open.
//
// [Rule] makes one rule an op of a plan.
//
// An [IPRule], [ParseIPRule], [FormatIPSave], [ParseIPSave], [IPBackend],
// [DetectIP] and [IPRuleOp] are the same for IP, with counters by [CountIP].
// Matches and targets are bytes that both of its backends carry, nf_tables as
// those of x_tables too.
package filter

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Chain is a built-in chain of the ARP filter.
type Chain string

// The chains that lvslab knows. FORWARD, which only bridges with br_netfilter
// pass, is not among them.
const (
	// Input sees the ARP packets that arrive at the node.
	Input Chain = "INPUT"
	// Output sees the ARP packets that the node sends.
	Output Chain = "OUTPUT"
)

// Target says what becomes of a packet that matches.
type Target string

// The targets of arptables(8) that lvslab knows.
const (
	// Accept lets the packet through.
	Accept Target = "ACCEPT"
	// Drop loses the packet.
	Drop Target = "DROP"
	// Mangle rewrites addresses in the packet, then does as
	// ArpRule.MangleTarget says.
	Mangle Target = "mangle"
	// Continue goes on with the next rule; only ArpRule.MangleTarget may say
	// so.
	Continue Target = "CONTINUE"
)

// Negation is a set of fields of a rule whose test is turned round, as "!"
// does.
type Negation uint16

// The fields that can be negated.
const (
	NotSrc Negation = 1 << iota
	NotDst
	NotSrcMAC
	NotDstMAC
	NotIn
	NotOut
	NotHLen
	NotOpcode
)

// MAC is an Ethernet address.
type MAC [6]byte

// String is the usual form, 02:00:5e:10:00:01.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MACMatch matches the addresses that equal Addr in the bits of Mask. The zero
// value matches every address.
type MACMatch struct{ Addr, Mask MAC }

// ExactMAC matches one address.
func ExactMAC(m MAC) MACMatch { return MACMatch{Addr: m, Mask: fullMask} }

var fullMask = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (m MACMatch) isAny() bool { return m.Mask == MAC{} }

// String is "address" or "address/mask", empty for the zero value.
func (m MACMatch) String() string {
	switch m.Mask {
	case MAC{}:
		return ""
	case fullMask:
		return m.Addr.String()
	}
	return m.Addr.String() + "/" + m.Mask.String()
}

func (m MACMatch) canonical() MACMatch {
	for i := range m.Addr {
		m.Addr[i] &= m.Mask[i]
	}
	return m
}

// Opcode is the operation of an ARP packet. Zero in a rule is any.
type Opcode uint16

// The two opcodes that a lab is about; arptables(8) lists the others.
const (
	Request Opcode = 1
	Reply   Opcode = 2
)

// opcodeNames are those of arptables(8), from 1 on.
var opcodeNames = [...]string{
	"Request", "Reply", "Request_Reverse", "Reply_Reverse", "DRARP_Request",
	"DRARP_Reply", "DRARP_Error", "InARP_Request", "ARP_NAK",
}

// String is the name that arptables(8) gives, or the number.
func (o Opcode) String() string {
	if o >= 1 && int(o) <= len(opcodeNames) {
		return opcodeNames[o-1]
	}
	return strconv.Itoa(int(o))
}

// ArpRule is one rule of the ARP filter. Rules can be compared with ==
// when both come from the parsers or from a kernel; a field's zero value means
// that the rule does not look at it.
type ArpRule struct {
	Chain Chain
	// Src and Dst are the IPv4 addresses that the ARP packet carries as
	// sender and target; a /32 is one address.
	Src, Dst netip.Prefix
	// SrcMAC and DstMAC are the hardware addresses inside the ARP packet.
	SrcMAC, DstMAC MACMatch
	// In is the interface of arrival (INPUT only), Out the one of departure
	// (OUTPUT only). A "+" at the end stands for any rest of the name.
	In, Out string
	// HLen is the length of a hardware address in bytes, 6 on Ethernet.
	HLen uint8
	// Opcode is the ARP operation.
	Opcode Opcode
	// Not are the fields above whose test is turned round.
	Not Negation

	Target Target
	// MangleIPSrc and MangleIPDst are written over the sender's and the
	// target's IP address in the packet. For Target Mangle only.
	MangleIPSrc, MangleIPDst netip.Addr
	// MangleMACSrc and MangleMACDst are written over the hardware addresses
	// in the packet; the zero address stands for none. HLen must be 6 with
	// them, as arptables demands. For Target Mangle only.
	MangleMACSrc, MangleMACDst MAC
	// MangleTarget is what follows the rewriting: Accept, Drop or Continue.
	// Empty is Accept. For Target Mangle only.
	MangleTarget Target
}

// String is the rule as a person types it after "arptables":
// "-A INPUT -d 172.25.12.100 -j DROP".
func (r ArpRule) String() string { return "-A " + string(r.Chain) + " " + r.spec() }

// spec is the rule without its command and chain.
func (r ArpRule) spec() string {
	r = r.canonical()
	var w words
	w.add(r.Not&NotIn != 0, "-i", r.In)
	w.add(r.Not&NotOut != 0, "-o", r.Out)
	w.add(r.Not&NotSrc != 0, "-s", prefixString(r.Src))
	w.add(r.Not&NotSrcMAC != 0, "--source-mac", r.SrcMAC.String())
	w.add(r.Not&NotDst != 0, "-d", prefixString(r.Dst))
	w.add(r.Not&NotDstMAC != 0, "--destination-mac", r.DstMAC.String())
	if r.HLen != 0 {
		w.add(r.Not&NotHLen != 0, "--h-length", strconv.Itoa(int(r.HLen)))
	}
	if r.Opcode != 0 {
		w.add(r.Not&NotOpcode != 0, "--opcode", r.Opcode.String())
	}
	w.add(false, "-j", string(r.Target))
	r.addMangle(&w)
	return strings.Join(w, " ")
}

// addMangle adds the options of the target mangle in the order in which
// arptables itself prints them.
func (r ArpRule) addMangle(w *words) {
	if r.MangleIPSrc.IsValid() {
		w.add(false, "--mangle-ip-s", r.MangleIPSrc.String())
	}
	if r.MangleMACSrc != (MAC{}) {
		w.add(false, "--mangle-mac-s", r.MangleMACSrc.String())
	}
	if r.MangleIPDst.IsValid() {
		w.add(false, "--mangle-ip-d", r.MangleIPDst.String())
	}
	if r.MangleMACDst != (MAC{}) {
		w.add(false, "--mangle-mac-d", r.MangleMACDst.String())
	}
	w.add(false, "--mangle-target", string(r.MangleTarget))
}

type words []string

// add adds an option with its value, nothing when the value is empty.
func (w *words) add(not bool, option, value string) {
	if value == "" {
		return
	}
	if not {
		*w = append(*w, "!")
	}
	*w = append(*w, option, value)
}

// prefixString leaves out the /32 and is empty for no prefix.
func prefixString(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.Bits() == 32:
		return p.Addr().String()
	}
	return p.String()
}

// canonical is the one form of the many that say the same: masked prefixes,
// no test that everything passes, no default written out.
func (r ArpRule) canonical() ArpRule {
	for _, p := range []*netip.Prefix{&r.Src, &r.Dst} {
		if *p = p.Masked(); p.Bits() == 0 {
			*p = netip.Prefix{}
		}
	}
	r.SrcMAC, r.DstMAC = r.SrcMAC.canonical(), r.DstMAC.canonical()
	for _, name := range []*string{&r.In, &r.Out} {
		if *name == "+" {
			*name = ""
		}
	}
	if r.MangleTarget == Accept {
		r.MangleTarget = ""
	}
	return r
}

// Canonical puts rules into the order in which a kernel keeps them (INPUT
// before OUTPUT, otherwise as given) and each into the one form that the
// parsers and List give, so that two sets of rules can be compared. It does
// not change its argument.
func Canonical(rules []ArpRule) []ArpRule {
	out := make([]ArpRule, len(rules))
	for i, r := range rules {
		out[i] = r.canonical()
	}
	slices.SortStableFunc(out, func(a, b ArpRule) int { return cmp.Compare(chainOrder(a.Chain), chainOrder(b.Chain)) })
	return out
}

func chainOrder(c Chain) int {
	if c == Input {
		return hookIn
	}
	return hookOut
}

// Validate says what no kernel or no arptables would take: an unknown chain or
// target, an address that is not IPv4, an interface in the wrong chain, a
// negated test that nothing can pass, mangle without anything to mangle. All
// that is wrong is told at once.
func (r ArpRule) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Chain != Input && r.Chain != Output {
		bad("chain %q is not supported; INPUT and OUTPUT are", r.Chain)
	}
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		if p != (netip.Prefix{}) && (!p.IsValid() || !p.Addr().Is4()) {
			bad("%v is not an IPv4 address or network", p)
		}
	}
	if r.Out != "" && r.Chain == Input {
		bad("-o cannot be used in chain INPUT")
	}
	if r.In != "" && r.Chain == Output {
		bad("-i cannot be used in chain OUTPUT")
	}
	for _, name := range []string{r.In, r.Out} {
		if name != "" {
			if err := checkInterface(name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	c := r.canonical()
	for _, f := range []struct {
		bit    Negation
		isAny  bool
		option string
	}{
		{NotSrc, !c.Src.IsValid(), "-s"},
		{NotDst, !c.Dst.IsValid(), "-d"},
		{NotSrcMAC, c.SrcMAC.isAny(), "--source-mac"},
		{NotDstMAC, c.DstMAC.isAny(), "--destination-mac"},
		{NotIn, c.In == "", "-i"},
		{NotOut, c.Out == "", "-o"},
		{NotHLen, c.HLen == 0, "--h-length"},
		{NotOpcode, c.Opcode == 0, "--opcode"},
	} {
		if r.Not&f.bit != 0 && f.isAny {
			bad("the negated %s can never match, because what it negates matches everything", f.option)
		}
	}
	return errors.Join(append(errs, r.validateTarget())...)
}

func (r ArpRule) validateTarget() error {
	switch r.Target {
	case Accept, Drop:
		if r.MangleIPSrc.IsValid() || r.MangleIPDst.IsValid() || r.MangleMACSrc != (MAC{}) || r.MangleMACDst != (MAC{}) || r.MangleTarget != "" {
			return fmt.Errorf("the mangle options need -j mangle, not %s", r.Target)
		}
		return nil
	case Mangle:
	case "":
		return errors.New("the target is missing (-j ACCEPT, -j DROP or -j mangle)")
	default:
		return fmt.Errorf("target %q is not supported; ACCEPT, DROP and mangle are", r.Target)
	}
	var errs []error
	for _, a := range []netip.Addr{r.MangleIPSrc, r.MangleIPDst} {
		if a.IsValid() && !a.Is4() {
			errs = append(errs, fmt.Errorf("%v is not an IPv4 address", a))
		}
	}
	macs := r.MangleMACSrc != (MAC{}) || r.MangleMACDst != (MAC{})
	if macs && (r.HLen != 6 || r.Not&NotHLen != 0) {
		errs = append(errs, errors.New("--mangle-mac-s and --mangle-mac-d need --h-length 6"))
	}
	if !macs && !r.MangleIPSrc.IsValid() && !r.MangleIPDst.IsValid() {
		errs = append(errs, errors.New("-j mangle needs something to mangle, such as --mangle-ip-s"))
	}
	switch r.MangleTarget {
	case "", Accept, Drop, Continue:
	default:
		errs = append(errs, fmt.Errorf("mangle target %q is none of ACCEPT, DROP, CONTINUE", r.MangleTarget))
	}
	return errors.Join(errs...)
}

// maxIfName is IFNAMSIZ-1 of linux/if.h.
const maxIfName = 15

// checkInterface takes the names that a kernel takes and a shell leaves alone.
func checkInterface(name string) error {
	if len(name) > maxIfName {
		return fmt.Errorf("interface name %q is longer than %d bytes", name, maxIfName)
	}
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == ':', c == '@':
		case c == '-' && i > 0:
		case c == '+' && i == len(name)-1:
		default:
			return fmt.Errorf("interface name %q: %q is not allowed at its position %d", name, c, i+1)
		}
	}
	return nil
}
