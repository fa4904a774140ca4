package filter

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftDeadline bounds every exchange with nf_tables. A kernel that refuses a
// batch as a whole answers once where google/nftables waits for an answer to
// each message; without a deadline it would wait for ever.
const nftDeadline = 10 * time.Second

// nftBuffer is the room, in bytes, for a batch and for its answers; the
// kernel's usual 208 KiB end at some 200 rules.
const nftBuffer = 4 << 20

// probeTable is made and removed in one batch, so nobody ever sees it.
const probeTable = "lvslab-probe"

// openNFT makes a connection whose sockets are opened in the thread's
// namespace, one for each exchange.
func openNFT() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		// A hint: without privilege over the kernel's limits, what there is
		// must do.
		_, _ = c.SetReadBuffer(nftBuffer), c.SetWriteBuffer(nftBuffer)
		return c.SetDeadline(time.Now().Add(nftDeadline))
	}))
}

// probeNFT tries all that a rule needs in one batch that ends by removing it.
// nil is yes, an absentError no.
func probeNFT() error {
	conn, err := openNFT()
	if err != nil {
		return err
	}
	// A question first, because it is answered whatever the kernel lacks.
	if _, err := conn.ListTablesOfFamily(nftables.TableFamilyARP); err != nil {
		return nftAnswer(err)
	}
	t := conn.AddTable(&nftables.Table{Name: probeTable, Family: nftables.TableFamilyARP})
	addRules(conn, t, []ArpRule{{
		Chain: Output, Target: Mangle, Out: "lo",
		Src: exampleAddr, MangleIPSrc: exampleAddr.Addr(),
	}})
	conn.DelTable(t)
	return nftAnswer(conn.Flush())
}

func nftAnswer(err error) error {
	if err == nil {
		return nil
	}
	// EINVAL is nfnetlink's answer where nf_tables is not registered with it.
	for _, no := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOENT} {
		if errors.Is(err, no) {
			return &absentError{err}
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("CAP_NET_ADMIN is needed in the network namespace: %w", err)
	}
	return err
}

// addRules adds both chains, with policies that accept, and the rules.
func addRules(conn *nftables.Conn, t *nftables.Table, rules []ArpRule) {
	accept := nftables.ChainPolicyAccept
	for _, c := range []struct {
		name Chain
		hook nftables.ChainHook
	}{{Input, hookIn}, {Output, hookOut}} {
		chain := conn.AddChain(&nftables.Chain{
			Name: string(c.name), Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookRef(c.hook), Priority: nftables.ChainPriorityFilter, Policy: &accept,
		})
		for _, r := range rules {
			if r.Chain == c.name {
				conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprsOf(r)})
			}
		}
	}
}

// replaceNFT does all in one batch: the table is added so that it can be
// removed whether it was there or not.
func replaceNFT(rules []ArpRule) error {
	conn, err := openNFT()
	if err != nil {
		return err
	}
	if _, err := ownChains(conn); err != nil {
		return err
	}
	t := &nftables.Table{Name: filterTable, Family: nftables.TableFamilyARP}
	conn.AddTable(t)
	conn.DelTable(t)
	if len(rules) > 0 {
		conn.AddTable(t)
		addRules(conn, t, rules)
	}
	// ENOBUFS says that answers were lost, not what they were: Replace reads
	// the rules back and so finds out.
	if err := conn.Flush(); !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	return nil
}

// ownChains returns the chains of the table "arp filter" by hook. Anything in
// the arp family beside them would filter too, so it is an error.
func ownChains(conn *nftables.Conn) (map[nftables.ChainHook]*nftables.Chain, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyARP)
	if err != nil {
		return nil, nftAnswer(err)
	}
	own := map[nftables.ChainHook]*nftables.Chain{}
	for _, c := range chains {
		if c.Table.Name != filterTable {
			return nil, fmt.Errorf("the namespace has the table arp %s, which lvslab did not make; remove it with: nft delete table arp %s",
				c.Table.Name, c.Table.Name)
		}
		switch {
		case c.Hooknum == nil:
			return nil, fmt.Errorf("the table arp %s has the chain %s without a hook; user chains are not supported", filterTable, c.Name)
		case *c.Hooknum != hookIn && *c.Hooknum != hookOut:
			return nil, fmt.Errorf("the chain %s has the hook %d; only input and output are supported", c.Name, *c.Hooknum)
		case own[*c.Hooknum] != nil:
			return nil, fmt.Errorf("the chains %s and %s have the same hook, which is not supported", own[*c.Hooknum].Name, c.Name)
		case c.Policy != nil && *c.Policy != nftables.ChainPolicyAccept:
			return nil, fmt.Errorf("the policy of chain %s is DROP; only ACCEPT is supported (arptables -P %s ACCEPT)", c.Name, c.Name)
		}
		own[*c.Hooknum] = c
	}
	return own, nil
}

func countNFT() ([]Counted, error) {
	conn, err := openNFT()
	if err != nil {
		return nil, err
	}
	own, err := ownChains(conn)
	if err != nil {
		return nil, err
	}
	var counted []Counted
	for _, h := range []struct {
		hook nftables.ChainHook
		name Chain
	}{{hookIn, Input}, {hookOut, Output}} {
		chain := own[h.hook]
		if chain == nil {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", chain.Name, err)
		}
		for i, r := range rules {
			c, err := decodeExprs(r.Exprs)
			if err != nil {
				return nil, fmt.Errorf("chain %s: rule %d: %w", chain.Name, i+1, err)
			}
			c.Rule.Chain = h.name
			counted = append(counted, c)
		}
	}
	return counted, nil
}

// Fields of an ARP packet for IPv4 over Ethernet (RFC 826), as offsets from
// the network header.
const (
	arpHType, arpHLen, arpPLen, arpOp             = 0, 4, 5, 6
	arpSrcMAC, arpSrcIP, arpDstMAC, arpDstIP      = 8, 14, 18, 24
	lenHType, lenHLen, lenOp, lenMAC, lenIP       = 2, 1, 2, 6, 4
	htypeEthernet, hlenEthernet, plenIPv4    byte = 1, 6, 4
)

// arpFields are the fields that rules test, with their lengths.
var arpFields = [...]struct{ off, len int }{
	{arpHType, lenHType},
	{arpHLen, lenHLen},
	{arpPLen, lenHLen},
	{arpOp, lenOp},
	{arpSrcMAC, lenMAC},
	{arpSrcIP, lenIP},
	{arpDstMAC, lenMAC},
	{arpDstIP, lenIP},
}

// reg is NFT_REG_1; each test loads it anew.
const reg = unix.NFT_REG_1

// exprsOf is the rule in the form in which nft itself writes it, so that
// "nft list ruleset" shows "arp daddr ip 172.25.12.100 counter drop".
func exprsOf(r ArpRule) []expr.Any {
	var es []expr.Any
	test := func(load expr.Any, not bool, value, mask []byte) {
		op := expr.CmpOpEq
		if not {
			op = expr.CmpOpNeq
		}
		es = append(es, load)
		if mask != nil {
			es = append(es, &expr.Bitwise{
				SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)),
				Mask: mask, Xor: make([]byte, len(mask)),
			})
		}
		es = append(es, &expr.Cmp{Op: op, Register: reg, Data: value})
	}
	field := func(off, n int) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(off), Len: uint32(n)}
	}
	if r.In != "" {
		test(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, r.Not&NotIn != 0, nftInterface(r.In), nil)
	}
	if r.Out != "" {
		test(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, r.Not&NotOut != 0, nftInterface(r.Out), nil)
	}
	if r.HLen != 0 {
		test(field(arpHLen, lenHLen), r.Not&NotHLen != 0, []byte{r.HLen}, nil)
	}
	if r.Opcode != 0 {
		test(field(arpOp, lenOp), r.Not&NotOpcode != 0, []byte{byte(r.Opcode >> 8), byte(r.Opcode)}, nil)
	}
	for _, f := range []struct {
		off int
		m   MACMatch
		not Negation
	}{{arpSrcMAC, r.SrcMAC, NotSrcMAC}, {arpDstMAC, r.DstMAC, NotDstMAC}} {
		if f.m.isAny() {
			continue
		}
		var mask []byte
		if f.m.Mask != fullMask {
			mask = f.m.Mask[:]
		}
		test(field(f.off, lenMAC), r.Not&f.not != 0, f.m.Addr[:], mask)
	}
	if r.Src.IsValid() {
		test(field(arpSrcIP, lenIP), r.Not&NotSrc != 0, r.Src.Addr().AsSlice(), nftMask(r.Src.Bits()))
	}
	if r.Dst.IsValid() {
		test(field(arpDstIP, lenIP), r.Not&NotDst != 0, r.Dst.Addr().AsSlice(), nftMask(r.Dst.Bits()))
	}
	return append(append(es, &expr.Counter{}), targetExprs(r)...)
}

func targetExprs(r ArpRule) []expr.Any {
	verdict := r.Target
	var es []expr.Any
	if r.Target == Mangle {
		write := func(off int, value []byte) {
			es = append(es,
				&expr.Immediate{Register: reg, Data: value},
				&expr.Payload{
					OperationType: expr.PayloadWrite, SourceRegister: reg,
					Base: expr.PayloadBaseNetworkHeader, Offset: uint32(off), Len: uint32(len(value)),
				})
		}
		if r.MangleIPSrc.IsValid() {
			write(arpSrcIP, r.MangleIPSrc.AsSlice())
		}
		if r.MangleMACSrc != (MAC{}) {
			write(arpSrcMAC, r.MangleMACSrc[:])
		}
		if r.MangleIPDst.IsValid() {
			write(arpDstIP, r.MangleIPDst.AsSlice())
		}
		if r.MangleMACDst != (MAC{}) {
			write(arpDstMAC, r.MangleMACDst[:])
		}
		verdict = r.MangleTarget
	}
	switch verdict {
	case Drop:
		return append(es, &expr.Verdict{Kind: expr.VerdictDrop})
	case Continue:
		return es
	}
	return append(es, &expr.Verdict{Kind: expr.VerdictAccept})
}

// nftMask is nil for a whole address, which needs no bitwise.
func nftMask(bits int) []byte {
	if bits == 32 {
		return nil
	}
	u := ^uint32(0) << (32 - bits)
	return []byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)}
}

// nftInterface is the name with its zeros, or the bytes before a "+".
func nftInterface(name string) []byte {
	if n := len(name) - 1; name[n] == '+' {
		return []byte(name[:n])
	}
	b := make([]byte, ifNameSize)
	copy(b, name)
	return b
}
