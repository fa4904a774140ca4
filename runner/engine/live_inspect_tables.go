package engine

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/filter"
)

// services is a node's IPVS table with its counts.
func services(ctx context.Context, n *liveNode) ([]live.Service, error) {
	// Asking for IPVS where it is not would have the kernel look for its module.
	if _, err := n.ProcNet("ip_vs"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	conn, err := ipvs.Open(n)
	if errors.Is(err, ipvs.ErrNoIPVS) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	table, err := conn.Traffic(ctx)
	if err != nil {
		return nil, err
	}
	var list []live.Service
	for _, t := range table {
		s := serviceWords(t.Service)
		for _, d := range t.Destinations {
			s.Destinations = append(s.Destinations, live.Destination{
				Address: d.Addr.String(), Forward: forwardWord(d.Forward), Weight: d.Weight,
				ActiveConn: d.Active, InactConn: d.Inactive, Connections: d.Conns,
			})
		}
		list = append(list, s)
	}
	return list, nil
}

// serviceWords is a service as ipvsadm -Ln prints it, word by word:
// "TCP  10.0.0.100:80 rr (sh-port) persistent 360".
func serviceWords(s ipvs.Service) live.Service {
	lines := strings.Split(strings.TrimSpace(ipvs.FormatList(ipvs.Table{{Service: s}})), "\n")
	words := strings.Fields(lines[len(lines)-1])
	head := 2
	if s.FWMark != 0 && s.Family == ipvs.IPv6 {
		head++ // FWM 1 IPv6
	}
	return live.Service{
		Protocol: words[0], Address: strings.Join(words[1:head], " "), Scheduler: words[head],
		Flags: strings.Join(words[head+1:], " "), Destinations: []live.Destination{},
	}
}

func forwardWord(f ipvs.Forward) string {
	switch f {
	case ipvs.NAT:
		return "Masq"
	case ipvs.TUN:
		return "Tunnel"
	default:
		return "Route"
	}
}

// arpRules are the ARP rules of the calling thread's namespace, in arptables'
// words. Rules that lvslab cannot say are told as a comment.
func (o onlooker) arpRules() []string {
	var rules []filter.ArpRule
	var err error
	// To ask for a table of arp_tables makes it; this tells which are there.
	names, _ := os.ReadFile("/proc/thread-self/net/arp_tables_names") // absent: no arp_tables
	if slices.ContainsFunc(bytes.Fields(names), func(w []byte) bool { return string(w) == "filter" }) {
		rules, err = filter.ARPTables.List()
	}
	if err == nil && len(rules) == 0 && o.nft {
		rules, err = filter.NFTables.List()
	}
	var lines []string
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	return withComment(lines, err)
}

// ipTables are the IP rules of the calling thread's namespace, in the words of
// iptables-save(8).
func (o onlooker) ipTables() []string {
	var lines []string
	for _, family := range []filter.Family{filter.IPv4, filter.IPv6} {
		rules, err := filter.IPTables.List(family) // makes no table
		if err == nil && len(rules) == 0 && o.nft {
			rules, err = filter.IPNFTables.List(family)
		}
		if filter.IsMissing(err) {
			err = nil // nf_tables without this family
		}
		text := strings.TrimSpace(filter.FormatIPSave(rules))
		if text == "" && err == nil {
			continue
		}
		if family == filter.IPv6 {
			lines = append(lines, "# "+family.Tool())
		}
		if text != "" {
			lines = append(lines, strings.Split(text, "\n")...)
		}
		lines = withComment(lines, err)
	}
	return lines
}

// withComment adds what could not be read: it hides nothing that could.
func withComment(lines []string, err error) []string {
	if err == nil || filter.IsMissing(err) {
		return lines
	}
	return append(lines, "# "+strings.ReplaceAll(err.Error(), "\n", " "))
}

// nftThere reports whether nf_tables is in this kernel already: a question to it
// would otherwise have the kernel load it.
func nftThere() bool {
	if !nfnetlinkThere() {
		return false
	}
	loaded, err := os.ReadFile("/proc/modules")
	if errors.Is(err, fs.ErrNotExist) {
		return true // a kernel that cannot load any
	}
	if bytes.Contains(append([]byte("\n"), loaded...), []byte("\nnf_tables ")) {
		return true
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	builtin, _ := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.builtin")
	return bytes.Contains(builtin, []byte("/nf_tables.ko"))
}

// nfnetlinkThere reports whether the kernel listens to NETLINK_NETFILTER: it has a
// socket of its own, without a port, in every namespace (netlink_seq_show in
// net/netlink/af_netlink.c: sk, Eth, Pid, …).
func nfnetlinkThere() bool {
	text, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if w := bytes.Fields(line); len(w) > 2 && string(w[1]) == "12" && string(w[2]) == "0" {
			return true
		}
	}
	return false
}
