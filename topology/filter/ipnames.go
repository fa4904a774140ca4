package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// protocolNames are those of /etc/protocols that iptables prints, the first
// name of a number.
var protocolNames = [...]struct {
	p    Protocol
	name string
}{
	{TCP, "tcp"},
	{UDP, "udp"},
	{SCTP, "sctp"},
	{ICMP, "icmp"},
	{ICMPv6, "ipv6-icmp"},
	{ICMPv6, "icmpv6"},
	{4, "ipencap"}, // IPIP
	{41, "ipv6"},
	{47, "gre"},
}

// String is the name that iptables prints, or the number.
func (p Protocol) String() string {
	for _, n := range protocolNames {
		if n.p == p {
			return n.name
		}
	}
	return strconv.Itoa(int(p))
}

func (f Family) icmp() Protocol {
	if f == IPv6 {
		return ICMPv6
	}
	return ICMP
}

func (f Family) icmpOption() string {
	if f == IPv6 {
		return "--icmpv6-type"
	}
	return "--icmp-type"
}

// Bits of the TCP header's flags (RFC 9293).
const tcpSYN = 0x02

// tcpFlagNames are those of iptables, bit by bit.
var tcpFlagNames = [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}

const allTCPFlags = 1<<len(tcpFlagNames) - 1

func tcpFlagsString(set uint8) string {
	if set == 0 {
		return "NONE"
	}
	var names []string
	for i, name := range tcpFlagNames {
		if set&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

func (s CTState) String() string {
	var names []string
	for _, c := range ctStates {
		if s&c.bit != 0 {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ",")
}

func (p PortRange) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d:%d", p.First, p.Last)
}

// String is "type" or "type/code".
func (t ICMPType) String() string {
	if t.AnyCode {
		return strconv.Itoa(int(t.Type))
	}
	return fmt.Sprintf("%d/%d", t.Type, t.Code)
}

// String is "0x1", with "/mask" if that is not whole.
func (m MarkMatch) String() string {
	if m.Mask == ^uint32(0) {
		return fmt.Sprintf("%#x", m.Value)
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

// String is as after --to-source: "10.0.0.1", "10.0.0.1-10.0.0.9:1-9", ":80",
// "[fd00::1]:80".
func (n NATRange) String() string {
	addrs := ""
	if n.First.IsValid() {
		addrs = n.First.String()
	}
	if n.Last.IsValid() {
		addrs += "-" + n.Last.String()
	}
	if n.Ports == (PortRange{}) {
		return addrs
	}
	ports := strings.ReplaceAll(n.Ports.String(), ":", "-")
	if n.First.Is6() {
		addrs = "[" + addrs + "]"
	}
	return addrs + ":" + ports
}

// icmpNames are the names of iptables-extensions(8) that a lab is about, each
// with its number; others are written as numbers.
var icmpNames = map[Family]map[string]ICMPType{
	IPv4: {
		"echo-reply":              {Type: 0, AnyCode: true, Valid: true},
		"destination-unreachable": {Type: 3, AnyCode: true, Valid: true},
		"network-unreachable":     {Type: 3, Code: 0, Valid: true},
		"host-unreachable":        {Type: 3, Code: 1, Valid: true},
		"port-unreachable":        {Type: 3, Code: 3, Valid: true},
		"fragmentation-needed":    {Type: 3, Code: 4, Valid: true},
		"redirect":                {Type: 5, AnyCode: true, Valid: true},
		"echo-request":            {Type: 8, AnyCode: true, Valid: true},
		"time-exceeded":           {Type: 11, AnyCode: true, Valid: true},
	},
	IPv6: {
		"destination-unreachable": {Type: 1, AnyCode: true, Valid: true},
		"port-unreachable":        {Type: 1, Code: 4, Valid: true},
		"packet-too-big":          {Type: 2, AnyCode: true, Valid: true},
		"time-exceeded":           {Type: 3, AnyCode: true, Valid: true},
		"echo-request":            {Type: 128, AnyCode: true, Valid: true},
		"echo-reply":              {Type: 129, AnyCode: true, Valid: true},
		"neighbour-solicitation":  {Type: 135, AnyCode: true, Valid: true},
		"neighbour-advertisement": {Type: 136, AnyCode: true, Valid: true},
	},
}

const tcpReset = "tcp-reset"

// rejectNames are the answers of REJECT by their numbers, enum ipt_reject_with
// of linux/netfilter_ipv4/ipt_REJECT.h and enum ip6t_reject_with of
// linux/netfilter_ipv6/ip6t_REJECT.h. Numbers without a name are empty.
func rejectNames(f Family) []string {
	switch f {
	case IPv4:
		return []string{
			"icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "",
			"icmp-net-prohibited", "icmp-host-prohibited", tcpReset, "icmp-admin-prohibited",
		}
	case IPv6:
		return []string{
			"icmp6-no-route", "icmp6-adm-prohibited", "", "icmp6-addr-unreachable", "icmp6-port-unreachable", "",
			tcpReset, "icmp6-policy-fail", "icmp6-reject-route",
		}
	}
	return nil
}

// rejectDefault is the number of the answer of a closed port.
func rejectDefault(f Family) int {
	return slices.IndexFunc(rejectNames(f), func(s string) bool { return strings.HasSuffix(s, "port-unreachable") })
}
