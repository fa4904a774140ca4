package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

func (p *ipParser) setTable(v string) error {
	if p.table != "" {
		return fmt.Errorf("the table of a saved rule is that of its *LINE")
	}
	t, err := oneOf("table", Table(v), Tables()...)
	p.rule.Table = t
	return err
}

func (p *ipParser) setChain(v string) error {
	c, err := oneOf("chain", Chain(v), ipHooks[:]...)
	if err != nil {
		return fmt.Errorf("%w (user chains are not supported)", err)
	}
	p.rule.Chain = c
	return nil
}

// protocolMatch is the name of the match that the rule's protocol brings.
func (r IPRule) protocolMatch() string {
	switch r.Protocol {
	case ICMPv6:
		return "icmp6"
	case ICMP, TCP, UDP, SCTP:
		return r.Protocol.String()
	}
	return ""
}

func (p *ipParser) setProtocol(v string) (err error) {
	if v == "all" || v == "0" {
		return nil
	}
	if p.rule.Protocol, err = parseProtocol(v); err != nil {
		return err
	}
	if m := p.rule.protocolMatch(); m != "" {
		p.matches[m] = true
	}
	return nil
}

func (p *ipParser) addMatch(v string) error {
	if !slices.Contains(ipMatches, v) {
		return fmt.Errorf("%s (others of iptables-extensions(8) are not supported)", source.Unknown("match", v, ipMatches))
	}
	if v == "icmpv6" {
		v = "icmp6"
	}
	if slices.Contains(ipMatches[:6], v) && p.rule.protocolMatch() != v {
		return fmt.Errorf("the match %s needs -p %s before it", v, strings.Replace(v, "icmp6", "icmpv6", 1))
	}
	if p.matches[v] && !slices.Contains(ipMatches[:6], v) {
		return fmt.Errorf("the match %s is given twice, which is not supported", v)
	}
	p.matches[v] = true
	return nil
}

func (p *ipParser) setTarget(v string) error {
	t, err := oneOf("target", Target(v), ipTargets()...)
	if err != nil {
		return fmt.Errorf("%w (others of iptables-extensions(8) and user chains are not supported)", err)
	}
	p.rule.Target = t
	return nil
}

func (p *ipParser) setTCPFlags(mask, set string) (err error) {
	if p.rule.TCPFlags.Mask, err = parseTCPFlags(mask); err != nil {
		return err
	}
	if p.rule.TCPFlags.Mask == 0 {
		return fmt.Errorf("%s looks at no flag", mask)
	}
	p.rule.TCPFlags.Set, err = parseTCPFlags(set)
	return err
}

func (p *ipParser) setState(v string, alias bool) error {
	p.rule.StateWord = alias
	var names []string
	for _, s := range ctStates {
		if !alias || s.bit != CTSNAT && s.bit != CTDNAT {
			names = append(names, s.name)
		}
	}
	for _, name := range strings.Split(v, ",") {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s", source.Unknown("state", name, names))
		}
		for _, s := range ctStates {
			if s.name == name {
				p.rule.CTState |= s.bit
			}
		}
	}
	return nil
}

// prefix reads ADDRESS, ADDRESS/BITS or, for IPv4, ADDRESS/MASK. A mask with
// holes, which iptables would take, is an error.
func (p *ipParser) prefix(v string) (netip.Prefix, error) {
	if strings.Contains(v, ",") {
		return netip.Prefix{}, fmt.Errorf("%q is a list, which makes several rules; write them one by one", v)
	}
	if p.rule.Family == IPv4 {
		return parsePrefix(v)
	}
	host, mask, masked := strings.Cut(v, "/")
	a, err := p.addr(host)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits := uint64(128)
	if masked {
		bits, err = strconv.ParseUint(mask, 10, 8)
		if err != nil || bits > 128 {
			return netip.Prefix{}, fmt.Errorf("%q is not a prefix length from 0 to 128", mask)
		}
	}
	return netip.PrefixFrom(a, int(bits)), nil
}

func (p *ipParser) addr(v string) (netip.Addr, error) {
	if p.rule.Family == IPv4 {
		return parseAddr(v)
	}
	a, err := netip.ParseAddr(v)
	if err != nil || !IPv6.has(a) {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv6 address such as fd00::1", v)
	}
	return a, nil
}

// natRange reads ADDRESS[-ADDRESS][:PORT[-PORT]], with brackets round IPv6
// addresses before a port.
func (p *ipParser) natRange(v string) (n NATRange, err error) {
	addrs, ports := v, ""
	if p.rule.Family == IPv4 {
		addrs, ports, _ = strings.Cut(v, ":")
	} else if inner, ok := strings.CutPrefix(v, "["); ok {
		var rest string
		if addrs, rest, ok = strings.Cut(inner, "]"); !ok || rest != "" && rest[0] != ':' {
			return n, fmt.Errorf("%q is not [ADDRESS]:PORT", v)
		}
		ports = strings.TrimPrefix(rest, ":")
	} else if rest, ok := strings.CutPrefix(v, ":"); ok && !strings.HasPrefix(rest, ":") {
		addrs, ports = "", rest
	}
	first, last, isRange := strings.Cut(addrs, "-")
	if first != "" || isRange {
		if n.First, err = p.addr(first); err != nil {
			return n, err
		}
	}
	if isRange {
		if n.Last, err = p.addr(last); err != nil {
			return n, err
		}
	}
	if ports != "" {
		if n.Ports, err = parsePorts(ports, "-"); err != nil {
			return n, err
		}
		if n.Ports.First == 0 {
			return n, fmt.Errorf("%q: ports begin with 1", ports)
		}
	}
	if n == (NATRange{}) {
		return n, fmt.Errorf("%q is neither an address nor a port", v)
	}
	return n, nil
}

// oneOf is v if it is in the list, else an error that names the nearest.
func oneOf[S ~string](what string, v S, list ...S) (S, error) {
	if slices.Contains(list, v) {
		return v, nil
	}
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return "", fmt.Errorf("%s", source.Unknown(what, string(v), words))
}

func parseProtocol(v string) (Protocol, error) {
	var names []string
	for _, n := range protocolNames {
		if n.name == v {
			return n.p, nil
		}
		names = append(names, n.name)
	}
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s, or a number from 1 to 255", source.Unknown("protocol", v, names))
	}
	return Protocol(n), nil
}

// parsePorts reads PORT or FIRST and LAST with a separator; one that is missing
// is the lowest or highest port. Port 0 alone, which is never on the wire, is
// an error.
func parsePorts(v, sep string) (PortRange, error) {
	first, last, isRange := strings.Cut(v, sep)
	if !isRange {
		last = first
	}
	p := PortRange{Last: 0xffff}
	for _, f := range []struct {
		text string
		into *uint16
	}{{first, &p.First}, {last, &p.Last}} {
		if f.text == "" && isRange && sep == ":" {
			continue
		}
		n, err := strconv.ParseUint(f.text, 10, 16)
		if err != nil {
			return PortRange{}, fmt.Errorf("%q is not a port from 1 to 65535 or a range such as 1024%s65535 (names of services are not supported)", v, sep)
		}
		*f.into = uint16(n)
	}
	switch {
	case p.Last == 0:
		return PortRange{}, fmt.Errorf("port 0 is on no packet")
	case p.First > p.Last:
		return PortRange{}, fmt.Errorf("%q ends before it begins", v)
	}
	return p, nil
}

func parseTCPFlags(v string) (uint8, error) {
	switch v {
	case "ALL":
		return allTCPFlags, nil
	case "NONE":
		return 0, nil
	}
	var set uint8
	for _, name := range strings.Split(v, ",") {
		i := slices.Index(tcpFlagNames[:], name)
		if i < 0 {
			return 0, fmt.Errorf("%s", source.Unknown("flag", name, append(tcpFlagNames[:], "ALL", "NONE")))
		}
		set |= 1 << i
	}
	return set, nil
}

func parseICMP(f Family, v string) (ICMPType, error) {
	if t, ok := icmpNames[f][v]; ok {
		return t, nil
	}
	kind, code, coded := strings.Cut(v, "/")
	n, err := strconv.ParseUint(kind, 10, 8)
	if err != nil || n == 255 {
		var names []string
		for name := range icmpNames[f] {
			names = append(names, name)
		}
		slices.Sort(names)
		return ICMPType{}, fmt.Errorf("%s, or a number such as 3 or 3/4", source.Unknown("type", v, names))
	}
	t := ICMPType{Type: uint8(n), AnyCode: !coded, Valid: true}
	if coded {
		c, err := strconv.ParseUint(code, 10, 8)
		if err != nil {
			return ICMPType{}, fmt.Errorf("%q is not a code from 0 to 255", code)
		}
		t.Code = uint8(c)
	}
	return t, nil
}

// parseMark reads VALUE[/MASK], each as in C.
func parseMark(v string) (MarkMatch, error) {
	value, mask, masked := strings.Cut(v, "/")
	m := MarkMatch{Mask: ^uint32(0)}
	n, err := strconv.ParseUint(value, 0, 32)
	if err != nil || strings.Contains(v, "_") {
		return m, fmt.Errorf("%q is not a mark such as 1, 0x1 or 0x1/0xff", v)
	}
	m.Value = uint32(n)
	if masked {
		if n, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return m, fmt.Errorf("%q is not a mark's mask such as 0xff", mask)
		}
		m.Mask = uint32(n)
	}
	return m, nil
}

func parseMSS(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 || n == ClampMSS {
		return 0, fmt.Errorf("%q is not a segment size from 1 to 65534 bytes", v)
	}
	return uint16(n), nil
}

// rejectShort are the short names that iptables takes too.
var rejectShort = map[string]string{
	"net-unreach": "icmp-net-unreachable", "host-unreach": "icmp-host-unreachable", "proto-unreach": "icmp-proto-unreachable",
	"port-unreach": "icmp-port-unreachable", "net-prohib": "icmp-net-prohibited", "host-prohib": "icmp-host-prohibited",
	"admin-prohib": "icmp-admin-prohibited", "tcp-rst": tcpReset,
	"no-route": "icmp6-no-route", "adm-prohibited": "icmp6-adm-prohibited", "addr-unreach": "icmp6-addr-unreachable",
}

func parseReject(f Family, v string) (string, error) {
	if long, ok := rejectShort[v]; ok && slices.Contains(rejectNames(f), long) {
		return long, nil
	}
	if f == IPv6 && v == "port-unreach" {
		return "icmp6-port-unreachable", nil
	}
	names := slices.DeleteFunc(rejectNames(f), func(s string) bool { return s == "" })
	return oneOf("answer", v, names...)
}
