package filter

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Family is the protocol whose packets a rule sees, and with it the tool whose
// words it is written in.
type Family uint8

// The two families. The zero value is none.
const (
	// IPv4 rules are those of iptables(8).
	IPv4 Family = 4
	// IPv6 rules are those of ip6tables(8).
	IPv6 Family = 6
)

// Tool is the name of the program that a person would use: "iptables" or
// "ip6tables".
func (f Family) Tool() string {
	if f == IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

func (f Family) String() string { return "IPv" + string('0'+f) }

// bits is the length of an address.
func (f Family) bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

func (f Family) has(a netip.Addr) bool {
	return a.Is4() == (f == IPv4) && a.Zone() == "" && !a.Is4In6()
}

// Table is one of the tables of iptables(8). What is meant for which is told
// there; "security" is not among them.
type Table string

// The tables, in the order in which a packet meets them.
const (
	RawTable    Table = "raw"
	MangleTable Table = "mangle"
	NATTable    Table = "nat"
	FilterTable Table = "filter"
)

// Tables are all tables, in the order in which a packet meets them.
func Tables() []Table { return []Table{RawTable, MangleTable, NATTable, FilterTable} }

// The chains that IP rules have beside Input and Output.
const (
	Prerouting  Chain = "PREROUTING"
	Forward     Chain = "FORWARD"
	Postrouting Chain = "POSTROUTING"
)

// Hook numbers, enum nf_inet_hooks of linux/netfilter.h.
const (
	hookPrerouting, hookLocalIn, hookIPForward = 0, 1, 2
	hookLocalOut, hookPostrouting, numIPHooks  = 3, 4, 5
)

// ipHooks are the chains by the number of their hook.
var ipHooks = [numIPHooks]Chain{Prerouting, Input, Forward, Output, Postrouting}

func (c Chain) ipHook() int { return slices.Index(ipHooks[:], c) }

// Chains are the built-in chains of a table, in the order of their hooks; nil
// for a table that there is not.
func (t Table) Chains() []Chain {
	switch t {
	case RawTable:
		return []Chain{Prerouting, Output}
	case MangleTable:
		return ipHooks[:]
	case NATTable:
		return []Chain{Prerouting, Input, Output, Postrouting}
	case FilterTable:
		return []Chain{Input, Forward, Output}
	}
	return nil
}

// validHooks is the set of a table's hooks as the kernel writes it.
func (t Table) validHooks() uint32 {
	var set uint32
	for _, c := range t.Chains() {
		set |= 1 << c.ipHook()
	}
	return set
}

// The targets of IP rules beside Accept and Drop (iptables-extensions(8)). A
// rule with CountOnly has none: it counts, and the packet goes on.
const (
	CountOnly  Target = ""
	Return     Target = "RETURN"
	Reject     Target = "REJECT"
	SetMark    Target = "MARK"
	Masquerade Target = "MASQUERADE"
	SNAT       Target = "SNAT"
	DNAT       Target = "DNAT"
	TCPMSS     Target = "TCPMSS"
)

// ipTargets are all targets that an IP rule may have, but for none.
func ipTargets() []Target {
	return []Target{Accept, Drop, Return, Reject, SetMark, Masquerade, SNAT, DNAT, TCPMSS}
}

// ClampMSS is the IPRule.MSS of --clamp-mss-to-pmtu (XT_TCPMSS_CLAMP_PMTU of
// linux/netfilter/xt_TCPMSS.h).
const ClampMSS = 0xffff

// Protocol is the number of a protocol above IP. Zero in a rule is any.
type Protocol uint8

// The protocols that a rule can look into.
const (
	ICMP   Protocol = unix.IPPROTO_ICMP
	TCP    Protocol = unix.IPPROTO_TCP
	UDP    Protocol = unix.IPPROTO_UDP
	ICMPv6 Protocol = unix.IPPROTO_ICMPV6
	SCTP   Protocol = unix.IPPROTO_SCTP
)

func (p Protocol) hasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// IPNegation is a set of tests of an IP rule that are turned round, as "!"
// does.
type IPNegation uint32

// The tests that can be negated.
const (
	IPNotSrc IPNegation = 1 << iota
	IPNotDst
	IPNotIn
	IPNotOut
	IPNotProtocol
	IPNotSrcPorts
	IPNotDstPorts
	IPNotTCPFlags
	IPNotICMP
	IPNotIPVS
	IPNotVProto
	IPNotVAddr
	IPNotVPort
	IPNotVMethod
	IPNotCTState
	IPNotMark
)

// PortRange is the ports from First to Last. The zero value is any port; a
// range that begins with port 0 ends above it.
type PortRange struct{ First, Last uint16 }

func (p PortRange) isAny() bool { return p == PortRange{} || p == PortRange{0, 0xffff} }

// TCPFlags matches segments whose flags in Mask are just those of Set. The bits
// are those of the TCP header. Mask 0 matches every segment.
type TCPFlags struct{ Mask, Set uint8 }

// ICMPType matches a type of ICMP or ICMPv6 message, and its code unless
// AnyCode is set. The zero value, whose Valid is false, matches all.
type ICMPType struct {
	Type, Code     uint8
	AnyCode, Valid bool
}

// MarkMatch matches packets whose firewall mark, in the bits of Mask, is Value.
// Mask 0 matches every packet.
type MarkMatch struct{ Value, Mask uint32 }

// CTState is a set of states that connection tracking gives a packet.
type CTState uint16

// The states of xt_conntrack(8), with its bits (XT_CONNTRACK_STATE_BIT of
// linux/netfilter/xt_conntrack.h).
const (
	CTInvalid     CTState = 1 << 0
	CTEstablished CTState = 1 << 1
	CTRelated     CTState = 1 << 2
	CTNew         CTState = 1 << 3
	CTSNAT        CTState = 1 << 6
	CTDNAT        CTState = 1 << 7
	CTUntracked   CTState = 1 << 8
)

// ctStates are in the order in which iptables prints them.
var ctStates = [...]struct {
	bit  CTState
	name string
}{
	{CTInvalid, "INVALID"},
	{CTNew, "NEW"},
	{CTRelated, "RELATED"},
	{CTEstablished, "ESTABLISHED"},
	{CTUntracked, "UNTRACKED"},
	{CTSNAT, "SNAT"},
	{CTDNAT, "DNAT"},
}

// IPVSDirection is which way a packet of an IPVS connection goes.
type IPVSDirection string

// The directions of --vdir.
const (
	IPVSOriginal IPVSDirection = "ORIGINAL"
	IPVSReply    IPVSDirection = "REPLY"
)

// IPVSMethod is how an IPVS connection is forwarded, as --vmethod calls it.
type IPVSMethod string

// The methods, from iptables-extensions(8): direct routing, tunnelling, NAT.
const (
	IPVSGate IPVSMethod = "GATE"
	IPVSIPIP IPVSMethod = "IPIP"
	IPVSMasq IPVSMethod = "MASQ"
)

// IPVSMatch are the tests of -m ipvs. The zero value matches every packet; any
// other only those that belong to an IPVS connection.
type IPVSMatch struct {
	// Property asks for no more than that (--ipvs).
	Property bool
	// Proto, VAddr and VPort are those of the virtual service.
	Proto  Protocol
	VAddr  netip.Prefix
	VPort  uint16
	Dir    IPVSDirection
	Method IPVSMethod
}

// more reports whether there is another test than Property.
func (m IPVSMatch) more() bool {
	m.Property = false
	return m != IPVSMatch{}
}

// NATRange is where SNAT and DNAT send to: one address or the range up to Last,
// and with ports, if First is not zero. Either may be missing.
type NATRange struct {
	First, Last netip.Addr
	Ports       PortRange
}

// IPRule is one rule of a built-in chain. Rules can be compared with == when
// both come from the parsers or from a kernel; a field's zero value means that
// the rule does not look at it.
type IPRule struct {
	Family Family
	Table  Table
	Chain  Chain
	// Src and Dst are the packet's addresses.
	Src, Dst netip.Prefix
	// In is the interface of arrival, Out the one of departure. A "+" at the
	// end stands for any rest of the name.
	In, Out  string
	Protocol Protocol
	// SrcPorts and DstPorts are for TCP, UDP and SCTP.
	SrcPorts, DstPorts PortRange
	TCPFlags           TCPFlags
	ICMP               ICMPType
	IPVS               IPVSMatch
	CTState            CTState
	// StateWord says that CTState was written with -m state, which is the same
	// test by its older name.
	StateWord bool
	Mark      MarkMatch
	// Not are the tests above that are turned round.
	Not IPNegation

	Target Target
	// NewMark is what target SetMark puts into the packet's mark, in the bits
	// of its Mask: mark = mark &^ Mask ^ Value.
	NewMark MarkMatch
	// To is for SNAT and DNAT.
	To NATRange
	// MSS is the maximum segment size that TCPMSS writes, in bytes, or
	// ClampMSS.
	MSS uint16
	// RejectWith is the answer of REJECT, by the long name that iptables
	// prints. Empty is that of a closed port.
	RejectWith string
}

// canonicalIP is the one form of the many that say the same.
func (r IPRule) canonicalIP() IPRule {
	for _, p := range []*netip.Prefix{&r.Src, &r.Dst, &r.IPVS.VAddr} {
		if *p = p.Masked(); p.Bits() == 0 && p != &r.IPVS.VAddr {
			*p = netip.Prefix{}
		}
	}
	for _, name := range []*string{&r.In, &r.Out} {
		if *name == "+" {
			*name = ""
		}
	}
	for _, p := range []*PortRange{&r.SrcPorts, &r.DstPorts} {
		if p.isAny() {
			*p = PortRange{}
		}
	}
	if r.Table == "" {
		r.Table = FilterTable
	}
	if r.CTState == 0 {
		r.StateWord = false
	}
	if r.IPVS.more() && r.Not&IPNotIPVS == 0 {
		r.IPVS.Property = false // the other tests say as much
	}
	if r.To.First == r.To.Last {
		r.To.Last = netip.Addr{}
	}
	if names := rejectNames(r.Family); r.Target == Reject && r.RejectWith == "" && names != nil {
		r.RejectWith = names[rejectDefault(r.Family)]
	}
	return r
}

// CanonicalIP puts rules into the order in which kernels keep them (by table,
// then by hook, otherwise as given) and each into the one form that the parsers
// and List give. It does not change its argument.
func CanonicalIP(rules []IPRule) []IPRule {
	out := make([]IPRule, len(rules))
	for i, r := range rules {
		out[i] = r.canonicalIP()
	}
	slices.SortStableFunc(out, func(a, b IPRule) int {
		return cmp.Or(
			cmp.Compare(a.Family, b.Family),
			cmp.Compare(slices.Index(Tables(), a.Table), slices.Index(Tables(), b.Table)),
			cmp.Compare(a.Chain.ipHook(), b.Chain.ipHook()),
		)
	})
	return out
}

// Validate says what no kernel or no iptables would take: a chain that the
// table has not, an address of the other family, an interface in a chain that
// has none yet, ports without a protocol that has them, a target in the wrong
// table. All that is wrong is told at once.
func (r IPRule) Validate() error {
	if r.Family != IPv4 && r.Family != IPv6 {
		return fmt.Errorf("the family %d is neither IPv4 nor IPv6", r.Family)
	}
	r = r.canonicalIP()
	chains := r.Table.Chains()
	if chains == nil {
		return fmt.Errorf("table %q is not supported; %s are", r.Table, join(Tables(), ", "))
	}
	if !slices.Contains(chains, r.Chain) {
		return fmt.Errorf("chain %q is not in table %s, which has %s (user chains are not supported)", r.Chain, r.Table, join(chains, ", "))
	}
	return errors.Join(r.validateTests(), r.validateTarget())
}

func join[S ~string](list []S, sep string) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, sep)
}
