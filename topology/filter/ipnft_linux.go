package filter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

func (f Family) nft() nftables.TableFamily {
	if f == IPv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// nftChain is a chain as iptables-nft makes it (nft.c, xtables_ipv4): the tables
// differ by their priorities.
func nftChain(t Table, c Chain, in *nftables.Table) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	chain := &nftables.Chain{
		Name: string(c), Table: in, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookRef(nftables.ChainHook(c.ipHook())), Policy: &accept,
	}
	switch t {
	case RawTable:
		chain.Priority = nftables.ChainPriorityRaw
	case MangleTable:
		chain.Priority = nftables.ChainPriorityMangle
		if c == Output {
			chain.Type = nftables.ChainTypeRoute
		}
	case NATTable:
		chain.Type = nftables.ChainTypeNAT
		chain.Priority = nftables.ChainPriorityNATDest
		if c == Input || c == Postrouting {
			chain.Priority = nftables.ChainPriorityNATSource
		}
	default:
		chain.Priority = nftables.ChainPriorityFilter
	}
	return chain
}

// probeNFTIP tries all that rules need, but for the extensions of single rules,
// in one batch that ends by removing it: the family, a chain for NAT and the
// matches of x_tables. nil is yes, an absentError no.
func probeNFTIP(f Family) error {
	conn, err := openNFT()
	if err != nil {
		return err
	}
	if _, err := conn.ListTablesOfFamily(f.nft()); err != nil {
		return nftAnswer(err)
	}
	t := conn.AddTable(&nftables.Table{Name: probeTable, Family: f.nft()})
	chain := conn.AddChain(nftChain(NATTable, Postrouting, t))
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: ipExprs(IPRule{
		Family: f, Table: NATTable, Chain: Postrouting, Protocol: TCP, DstPorts: PortRange{80, 80}, Target: Accept,
	})})
	conn.DelTable(t)
	return nftAnswer(conn.Flush())
}

// ipExprs is the rule in the form in which iptables-nft 1.8 writes it: addresses,
// interfaces and the protocol by nf_tables' own expressions, matches and targets
// as those of x_tables. ICMP types alone are nf_tables' own, because
// google/nftables cannot say which protocol a match icmp is for; nft shows such a
// rule, iptables-nft 1.8.9 calls its table incompatible.
func ipExprs(r IPRule) []expr.Any {
	var es []expr.Any
	test := func(load expr.Any, not bool, value, mask []byte) {
		op := expr.CmpOpEq
		if not {
			op = expr.CmpOpNeq
		}
		es = append(es, load)
		if mask != nil {
			es = append(es, &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))})
		}
		es = append(es, &expr.Cmp{Op: op, Register: reg, Data: value})
	}
	not := func(bit IPNegation) bool { return r.Not&bit != 0 }
	src, dst, n := addrFields(r.Family)
	if r.Src.IsValid() {
		test(payload(expr.PayloadBaseNetworkHeader, src, n), not(IPNotSrc), r.Src.Addr().AsSlice(), partMask(r.Src.IsSingleIP(), prefixMask(r.Src)))
	}
	if r.Dst.IsValid() {
		test(payload(expr.PayloadBaseNetworkHeader, dst, n), not(IPNotDst), r.Dst.Addr().AsSlice(), partMask(r.Dst.IsSingleIP(), prefixMask(r.Dst)))
	}
	if r.In != "" {
		test(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, not(IPNotIn), nftInterface(r.In), nil)
	}
	if r.Out != "" {
		test(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, not(IPNotOut), nftInterface(r.Out), nil)
	}
	if r.Protocol != 0 {
		test(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, not(IPNotProtocol), []byte{byte(r.Protocol)}, nil)
	}
	if r.ICMP.Valid {
		value := []byte{r.ICMP.Type}
		if !r.ICMP.AnyCode {
			value = append(value, r.ICMP.Code)
		}
		test(payload(expr.PayloadBaseTransportHeader, 0, len(value)), not(IPNotICMP), value, nil)
	}
	for _, m := range r.xtMatches() {
		if m.name == "icmp" || m.name == "icmp6" {
			continue
		}
		info := xt.Unknown(m.data)
		es = append(es, &expr.Match{Name: m.name, Rev: uint32(m.rev), Info: &info})
	}
	es = append(es, &expr.Counter{})
	if t, ok := r.xtTarget(); ok {
		info := xt.Unknown(t.data)
		return append(es, &expr.Target{Name: t.name, Rev: uint32(t.rev), Info: &info})
	}
	switch r.Target {
	case Accept:
		return append(es, &expr.Verdict{Kind: expr.VerdictAccept})
	case Drop:
		return append(es, &expr.Verdict{Kind: expr.VerdictDrop})
	case Return:
		return append(es, &expr.Verdict{Kind: expr.VerdictReturn})
	}
	return es
}

func payload(base expr.PayloadBase, off, n int) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: base, Offset: uint32(off), Len: uint32(n)}
}

// partMask is nil for a whole address, which needs no bitwise.
func partMask(whole bool, mask []byte) []byte {
	if whole {
		return nil
	}
	return mask
}

// addrFields are the offsets of the addresses in an IP header (RFC 791, RFC
// 8200), and their length.
func addrFields(f Family) (src, dst, n int) {
	if f == IPv6 {
		return 8, 24, 16
	}
	return 12, 16, 4
}

// nftRule is a rule with its handle in the kernel.
type nftRule struct {
	CountedIP
	rule *nftables.Rule
}

// readNFTIP reads the built-in chains of the tables that iptables-nft knows. A
// table of another name is nobody's business here: it is not iptables'.
func readNFTIP(f Family, conn *nftables.Conn) ([]nftRule, error) {
	chains, err := conn.ListChainsOfTableFamily(f.nft())
	if err != nil {
		return nil, nftAnswer(err)
	}
	var all []nftRule
	for _, t := range Tables() {
		for _, c := range chains {
			if c.Table.Name == string(t) && (c.Hooknum == nil || !slices.Contains(t.Chains(), Chain(c.Name))) {
				return nil, fmt.Errorf("table %s has the chain %s; user chains are not supported", t, c.Name)
			}
		}
		for _, name := range t.Chains() {
			i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == string(t) && c.Name == string(name) })
			if i < 0 {
				continue
			}
			rules, err := readNFTChain(f, conn, t, chains[i])
			if err != nil {
				return nil, fmt.Errorf("chain %s of table %s: %w", name, t, err)
			}
			all = append(all, rules...)
		}
	}
	return all, nil
}

func readNFTChain(f Family, conn *nftables.Conn, t Table, c *nftables.Chain) ([]nftRule, error) {
	want := nftChain(t, Chain(c.Name), c.Table)
	if *c.Hooknum != *want.Hooknum || c.Type != want.Type || c.Priority == nil || *c.Priority != *want.Priority {
		return nil, errors.New("its hook, type or priority is not that of iptables")
	}
	if c.Policy != nil && *c.Policy != nftables.ChainPolicyAccept {
		return nil, fmt.Errorf("its policy is DROP; only ACCEPT is supported (iptables -P %s ACCEPT)", c.Name)
	}
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return nil, err
	}
	var all []nftRule
	for i, r := range rules {
		counted, err := decodeIPExprs(f, r.Exprs)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		counted.Rule.Table, counted.Rule.Chain = t, Chain(c.Name)
		counted.Rule = counted.Rule.canonicalIP()
		r.Table, r.Chain = c.Table, c
		all = append(all, nftRule{counted, r})
	}
	return all, nil
}

func countNFTIP(f Family) ([]CountedIP, error) {
	conn, err := openNFT()
	if err != nil {
		return nil, err
	}
	rules, err := readNFTIP(f, conn)
	if err != nil {
		return nil, err
	}
	var all []CountedIP
	for _, r := range rules {
		all = append(all, r.CountedIP)
	}
	return all, nil
}

// replaceNFTIP does all in one batch: what does not stay is removed by its
// handle, what is new is appended, and so what stays keeps its counters. A table
// without rules is removed.
func replaceNFTIP(f Family, rules []IPRule) error {
	conn, err := openNFT()
	if err != nil {
		return err
	}
	was, err := readNFTIP(f, conn)
	if err != nil {
		return err
	}
	for _, t := range Tables() {
		var old []nftRule
		for _, r := range was {
			if r.Rule.Table == t {
				old = append(old, r)
			}
		}
		writeNFTTable(conn, f, t, old, ofTable(rules, t))
	}
	// ENOBUFS says that answers were lost, not what they were: Replace reads
	// the rules back and so finds out.
	err = conn.Flush()
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("the kernel lacks a match or a target of these rules, one of %s: %w", needsList(rules), err)
	}
	return err
}

func writeNFTTable(conn *nftables.Conn, f Family, t Table, old []nftRule, rules []IPRule) {
	var was []IPRule
	for _, r := range old {
		was = append(was, r.Rule)
	}
	if slices.Equal(was, rules) {
		return
	}
	table := conn.AddTable(&nftables.Table{Name: string(t), Family: f.nft()})
	if len(rules) == 0 {
		conn.DelTable(table)
		return
	}
	from := survivors(was, rules)
	for i, r := range old {
		if !slices.Contains(from, i) {
			// The error is that of a rule without a handle, which these have.
			_ = conn.DelRule(r.rule)
		}
	}
	added := map[Chain]*nftables.Chain{}
	for i, r := range rules {
		if added[r.Chain] == nil {
			added[r.Chain] = conn.AddChain(nftChain(t, r.Chain, table))
		}
		if from[i] < 0 {
			conn.AddRule(&nftables.Rule{Table: table, Chain: added[r.Chain], Exprs: ipExprs(r)})
		}
	}
}
