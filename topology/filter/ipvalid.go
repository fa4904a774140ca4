package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

func (r IPRule) validateTests() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, p := range []netip.Prefix{r.Src, r.Dst, r.IPVS.VAddr} {
		if p != (netip.Prefix{}) && (!p.IsValid() || !r.Family.has(p.Addr())) {
			bad("%v is not an %s address or network, which %s needs", p, r.Family, r.Family.Tool())
		}
	}
	if r.Out != "" && (r.Chain == Prerouting || r.Chain == Input) {
		bad("-o cannot be used in chain %s", r.Chain)
	}
	if r.In != "" && (r.Chain == Postrouting || r.Chain == Output) {
		bad("-i cannot be used in chain %s", r.Chain)
	}
	for _, name := range []string{r.In, r.Out} {
		if name != "" {
			if err := checkInterface(name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	exact := r.Protocol
	if r.Not&IPNotProtocol != 0 {
		exact = 0
	}
	if (r.SrcPorts != (PortRange{}) || r.DstPorts != (PortRange{})) && !exact.hasPorts() {
		bad("--sport and --dport need -p tcp, -p udp or -p sctp")
	}
	for _, p := range []PortRange{r.SrcPorts, r.DstPorts, r.To.Ports} {
		if p.First > p.Last {
			bad("the ports %d:%d end before they begin", p.First, p.Last)
		}
	}
	if r.TCPFlags.Mask != 0 && exact != TCP {
		bad("--tcp-flags needs -p tcp")
	}
	if r.TCPFlags.Set&^r.TCPFlags.Mask != 0 {
		bad("--tcp-flags wants flags set that it does not look at, which never matches")
	}
	if r.Mark.Value&^r.Mark.Mask != 0 {
		bad("--mark %s has bits outside of its mask, which never matches", r.Mark)
	}
	if r.ICMP.Valid && exact != r.Family.icmp() {
		bad("%s needs -p %s", r.Family.icmpOption(), r.Family.icmp())
	}
	if other := [...]Protocol{IPv4: ICMPv6, IPv6: ICMP}[r.Family]; r.Protocol == other {
		bad("-p %s is not the ICMP of %s; -p %s is", other, r.Family, r.Family.icmp())
	}
	if r.CTState&^allCTStates != 0 {
		bad("the connection states %#x are not known", uint16(r.CTState&^allCTStates))
	}
	if r.IPVS.more() && r.Not&IPNotIPVS != 0 {
		bad("! --ipvs cannot go with other tests of -m ipvs, which only packets of IPVS pass")
	}
	if !slices.Contains([]IPVSDirection{"", IPVSOriginal, IPVSReply}, r.IPVS.Dir) {
		bad("--vdir %s is neither ORIGINAL nor REPLY", r.IPVS.Dir)
	}
	if !slices.Contains([]IPVSMethod{"", IPVSGate, IPVSIPIP, IPVSMasq}, r.IPVS.Method) {
		bad("--vmethod %s is none of GATE, IPIP, MASQ", r.IPVS.Method)
	}
	return errors.Join(append(errs, r.validateNot())...)
}

const allCTStates = CTInvalid | CTEstablished | CTRelated | CTNew | CTSNAT | CTDNAT | CTUntracked

// validateNot finds negated tests of nothing.
func (r IPRule) validateNot() error {
	var errs []error
	for _, f := range []struct {
		bit    IPNegation
		isAny  bool
		option string
	}{
		{IPNotSrc, !r.Src.IsValid(), "-s"},
		{IPNotDst, !r.Dst.IsValid(), "-d"},
		{IPNotIn, r.In == "", "-i"},
		{IPNotOut, r.Out == "", "-o"},
		{IPNotProtocol, r.Protocol == 0, "-p"},
		{IPNotSrcPorts, r.SrcPorts == PortRange{}, "--sport"},
		{IPNotDstPorts, r.DstPorts == PortRange{}, "--dport"},
		{IPNotTCPFlags, r.TCPFlags.Mask == 0, "--tcp-flags"},
		{IPNotICMP, !r.ICMP.Valid, r.Family.icmpOption()},
		{IPNotIPVS, !r.IPVS.Property, "--ipvs"},
		{IPNotVProto, r.IPVS.Proto == 0, "--vproto"},
		{IPNotVAddr, !r.IPVS.VAddr.IsValid(), "--vaddr"},
		{IPNotVPort, r.IPVS.VPort == 0, "--vport"},
		{IPNotVMethod, r.IPVS.Method == "", "--vmethod"},
		{IPNotCTState, r.CTState == 0, "--ctstate"},
		{IPNotMark, r.Mark.Mask == 0, "--mark"},
	} {
		if r.Not&f.bit != 0 && f.isAny {
			errs = append(errs, fmt.Errorf("the negated %s can never match, because what it negates matches everything", f.option))
		}
	}
	return errors.Join(errs...)
}

// targetPlaces are the tables, and the chains in them, that the kernel and
// iptables take a target in; a target that is not here is taken everywhere.
var targetPlaces = map[Target]map[Table][]Chain{
	Masquerade: {NATTable: {Postrouting}},
	SNAT:       {NATTable: {Postrouting, Input}},
	DNAT:       {NATTable: {Prerouting, Output}},
	Reject:     {FilterTable: {Input, Forward, Output}},
	Drop:       {RawTable: {Prerouting, Output}, MangleTable: ipHooks[:], FilterTable: {Input, Forward, Output}},
}

func (r IPRule) validateTarget() error {
	if r.Target != CountOnly && !slices.Contains(ipTargets(), r.Target) {
		return fmt.Errorf("target %q is not supported; %s are", r.Target, join(ipTargets(), ", "))
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if places, ok := targetPlaces[r.Target]; ok {
		chains, ok := places[r.Table]
		switch {
		case !ok && r.Target == Drop:
			bad("-j DROP is not for table %s; filter in table filter", r.Table)
		case !ok:
			for table, chains := range places {
				bad("-j %s is for table %s only (chains %s), not for %s", r.Target, table, join(chains, ", "), r.Table)
			}
		case !slices.Contains(chains, r.Chain):
			bad("-j %s is for the chains %s of table %s, not for %s", r.Target, join(chains, ", "), r.Table, r.Chain)
		}
	}
	exact := r.Protocol
	if r.Not&IPNotProtocol != 0 {
		exact = 0
	}
	for _, f := range []struct {
		given  bool
		option string
		of     []Target
		must   bool
	}{
		{r.NewMark != MarkMatch{}, "--set-mark", []Target{SetMark}, false},
		{r.To != NATRange{}, "--to-source and --to-destination", []Target{SNAT, DNAT}, true},
		{r.MSS != 0, "--set-mss and --clamp-mss-to-pmtu", []Target{TCPMSS}, true},
		{r.RejectWith != "", "--reject-with", []Target{Reject}, false},
	} {
		of := slices.Contains(f.of, r.Target)
		switch {
		case f.given && !of:
			bad("%s needs -j %s", f.option, join(f.of, " or -j "))
		case !f.given && of && f.must:
			bad("-j %s needs one of %s", r.Target, f.option)
		}
	}
	switch r.Target {
	case TCPMSS:
		errs = append(errs, r.validateMSS(exact))
	case SNAT, DNAT:
		errs = append(errs, r.validateTo(exact))
	case Reject:
		if !slices.Contains(rejectNames(r.Family), r.RejectWith) || r.RejectWith == "" {
			bad("--reject-with %s is none of %s", r.RejectWith, join(rejectNames(r.Family), ", "))
		}
		if r.RejectWith == tcpReset && exact != TCP {
			bad("--reject-with tcp-reset needs -p tcp")
		}
	}
	return errors.Join(errs...)
}

// validateMSS is tcpmss_tg4_check of net/netfilter/xt_TCPMSS.c.
func (r IPRule) validateMSS(exact Protocol) error {
	var errs []error
	if exact != TCP || r.TCPFlags.Set&tcpSYN == 0 || r.Not&IPNotTCPFlags != 0 {
		errs = append(errs, errors.New("-j TCPMSS works on SYN packets only: it needs -p tcp --tcp-flags SYN,RST SYN"))
	}
	if r.MSS == ClampMSS && (r.Chain == Prerouting || r.Chain == Input) {
		errs = append(errs, fmt.Errorf("--clamp-mss-to-pmtu works in FORWARD, OUTPUT and POSTROUTING only, not in %s", r.Chain))
	}
	return errors.Join(errs...)
}

func (r IPRule) validateTo(exact Protocol) error {
	var errs []error
	for _, a := range []netip.Addr{r.To.First, r.To.Last} {
		if a.IsValid() && !r.Family.has(a) {
			errs = append(errs, fmt.Errorf("%v is not an %s address, which %s needs", a, r.Family, r.Family.Tool()))
		}
	}
	if r.To.Last.IsValid() && (!r.To.First.IsValid() || r.To.Last.Less(r.To.First)) {
		errs = append(errs, fmt.Errorf("the addresses %s-%s end before they begin", r.To.First, r.To.Last))
	}
	if r.To.Ports != (PortRange{}) && (!exact.hasPorts() || r.To.Ports.First == 0) {
		errs = append(errs, fmt.Errorf("ports for -j %s need -p tcp, -p udp or -p sctp, and begin with 1", r.Target))
	}
	return errors.Join(errs...)
}
