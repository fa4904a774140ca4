package tools

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// list is -L in all its ways.
func (a *ipvsAdmin) list(ctx context.Context, r *ipvsRule) error {
	switch g := r.groups; {
	case g["connection"]:
		return a.connections(r)
	case g["timeout"]:
		t, err := a.conn.Timeouts(ctx)
		if err == nil {
			a.printf("Timeout (tcp tcpfin udp): %v\n", t)
		}
		return err
	case g["daemon"]:
		all, err := a.conn.Daemons(ctx)
		if err == nil {
			a.printf("%s", ipvs.FormatDaemons(all))
		}
		return err
	}
	all, err := a.conn.Traffic(ctx)
	if err != nil {
		return fail(1, "%s", ipvsText(r.command, err))
	}
	table := make(ipvs.Table, len(all))
	for i, t := range all {
		table[i].Service = t.Service
		for _, d := range t.Destinations {
			table[i].Destinations = append(table[i].Destinations, d.Destination)
		}
	}
	v := viewOf(r, a.names)
	if r.groups["service-address"] {
		e, ok := table.Find(r.service)
		if !ok {
			return fail(1, "No such service")
		}
		table = ipvs.Table{*e}
	} else {
		info, err := a.conn.Info(ctx)
		if err != nil {
			return err
		}
		a.printf("%v\n", info)
	}
	a.printf("%s", v.header)
	for _, e := range table.Listed() {
		for _, t := range all {
			if t.Same(e.Service) {
				a.entry(v, e, t)
			}
		}
	}
	return nil
}

// entry prints a service and its real servers in the order of e.
func (a *ipvsAdmin) entry(v listView, e ipvs.Entry, t ipvs.Traffic) {
	a.printf("%s\n", v.service(t))
	for _, d := range e.Destinations {
		for _, dt := range t.Destinations {
			if dt.For(e.Service).Addr == d.Addr {
				a.printf("  -> %-28s%s\n", v.addr(d.Addr, e.Service), v.columns(dt))
			}
		}
	}
}

// listView is one way to list: its header and its columns.
type listView struct {
	header  string
	names   *names // nil for numbers
	service func(ipvs.Traffic) string
	columns func(ipvs.DestinationTraffic) string
}

// viewOf is the way to list that a rule asks for.
func viewOf(r *ipvsRule, n *names) listView {
	v := listView{names: n}
	if r.groups["numeric"] {
		v.names = nil
	}
	v.service = func(t ipvs.Traffic) string { return v.serviceLine(t.Service) }
	const servers = "  -> RemoteAddress:Port"
	five := func(f string, titles ...any) string {
		return fmt.Sprintf(f, append([]any{"Prot LocalAddress:Port"}, titles...)...) + "\n" + servers + "\n"
	}
	switch g := r.groups; {
	case g["stats"], g["rate"]:
		exact, rate := g["exact"], !g["stats"]
		const f = "%-33s %8s %8s %8s %8s %8s"
		if v.header = five(f, "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"); rate {
			v.header = five(f, "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
		}
		numbers := func(c ipvs.Counters, r ipvs.Rates) string {
			list := []uint64{c.Conns, c.InPkts, c.OutPkts, c.InBytes, c.OutBytes}
			if rate {
				list = []uint64{r.Conns, r.InPkts, r.OutPkts, r.InBytes, r.OutBytes}
			}
			var b strings.Builder
			for _, n := range list {
				b.WriteString(largeNumber(n, exact))
			}
			return b.String()
		}
		v.service = func(t ipvs.Traffic) string {
			return fmt.Sprintf("%-33s%s", v.serviceName(t.Service), numbers(t.Counters, t.Rates))
		}
		v.columns = func(d ipvs.DestinationTraffic) string { return numbers(d.Counters, d.Rates) }
	case g["thresholds"]:
		v.header = five("%-33s %-10s %-10s %-10s %-10s", "Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
		v.columns = func(d ipvs.DestinationTraffic) string {
			return fmt.Sprintf(" %-10d %-10d %-10d %-10d", d.Upper, d.Lower, d.Active, d.Inactive)
		}
	case g["persistent-conn"]:
		v.header = five("%-33s %-9s %-11s %-10s %-10s", "Weight", "PersistConn", "ActiveConn", "InActConn")
		v.columns = func(d ipvs.DestinationTraffic) string {
			return fmt.Sprintf(" %-9d %-11d %-10d %-10d", d.Weight, d.Templates, d.Active, d.Inactive)
		}
	case g["tun-info"]:
		v.header = "Prot LocalAddress:Port Scheduler Flags\n" + servers + "           Forward TunnelInfo    Weight ActiveConn InActConn\n"
		v.columns = func(d ipvs.DestinationTraffic) string {
			return fmt.Sprintf(" %-7s %-13s %-6d %-10d %-10d", forwardName(d.Forward), tunnelInfo(d.Destination), d.Weight, d.Active, d.Inactive)
		}
	default:
		v.header = "Prot LocalAddress:Port Scheduler Flags\n" + servers + "           Forward Weight ActiveConn InActConn\n"
		v.columns = func(d ipvs.DestinationTraffic) string {
			return fmt.Sprintf(" %-7s %-6d %-10d %-10d", forwardName(d.Forward), d.Weight, d.Active, d.Inactive)
		}
	}
	return v
}

// serviceLine is a service with how it is set.
func (v listView) serviceLine(s ipvs.Service) string {
	lines := strings.Split(strings.TrimSuffix(ipvs.FormatList(ipvs.Table{{Service: s}}), "\n"), "\n")
	line := lines[len(lines)-1]
	if s.FWMark != 0 {
		return line
	}
	return strings.Replace(line, s.Addr.String(), v.addr(s.Addr, s), 1)
}

// serviceName is what a line of numbers begins with.
func (v listView) serviceName(s ipvs.Service) string {
	switch {
	case s.FWMark == 0:
		return fmt.Sprintf("%-4s %s", strings.ToUpper(s.Protocol.String()), v.addr(s.Addr, s))
	case s.Family == ipvs.IPv6:
		return fmt.Sprintf("FWM  %d IPv6", s.FWMark)
	}
	return fmt.Sprintf("FWM  %d", s.FWMark)
}

// addr is an address and port of a service, by name or number.
func (v listView) addr(ap netip.AddrPort, s ipvs.Service) string {
	if v.names == nil {
		return ap.String()
	}
	protocol := "tcp"
	if s.Protocol != 0 {
		protocol = s.Protocol.String()
	}
	return v.names.addrPort(ap, protocol)
}

// addrPort is an address and port by name where there is one. An IPv6 address
// that has no name keeps its brackets.
func (n *names) addrPort(ap netip.AddrPort, protocol string) string {
	host := n.addrName(ap.Addr())
	if ap.Addr().Is6() && host == ap.Addr().String() {
		host = "[" + host + "]"
	}
	return host + ":" + n.portName(ap.Port(), protocol)
}

func forwardName(f ipvs.Forward) string {
	return map[ipvs.Forward]string{ipvs.DR: "Route", ipvs.TUN: "Tunnel", ipvs.NAT: "Masq"}[f]
}

// tunnelInfo is a real server's wrapping, with the port of GUE and how it is
// summed: "gue:6080:-c".
func tunnelInfo(d ipvs.Destination) string {
	if d.Forward != ipvs.TUN {
		return "n/a"
	}
	sum := map[ipvs.TunFlags]string{ipvs.NoChecksum: "-c", ipvs.Checksum: "+c", ipvs.RemoteChecksum: "+r"}[d.TunFlags]
	switch d.TunType {
	case ipvs.GUE:
		return fmt.Sprintf("gue:%d:%s", d.TunPort, sum)
	case ipvs.GRE:
		return "gre:" + sum
	}
	return "ipip"
}

// largeNumber is a number in the nine columns that ipvsadm gives it, in
// thousands, millions and so on where it is too long.
func largeNumber(n uint64, exact bool) string {
	switch {
	case exact, n < 1e8:
		return fmt.Sprintf(" %8d", n)
	case n < 1e9:
		return fmt.Sprintf("%8dK", n/1e3)
	case n < 1e11:
		return fmt.Sprintf("%8dM", n/1e6)
	case n < 1e14:
		return fmt.Sprintf("%8dG", n/1e9)
	}
	return fmt.Sprintf("%8dT", n/1e12)
}

// connections is -L -c.
func (a *ipvsAdmin) connections(r *ipvsRule) error {
	list, err := ipvs.Connections(here{})
	if err != nil {
		return fail(1, "%v", err)
	}
	engines := r.groups["persistent-conn"]
	a.printf("IPVS connection entries\npro expire %-11s %-18s %-18s ", "state", "source", "virtual")
	if engines {
		a.printf("%-18s %-16s %s\n", "destination", "pe name", "pe_data")
	} else {
		a.printf("destination\n")
	}
	text := func(ap netip.AddrPort, c ipvs.Connection) string {
		if r.groups["numeric"] {
			return ap.String()
		}
		protocol := "tcp"
		if c.Protocol != 0 {
			protocol = c.Protocol.String()
		}
		return a.names.addrPort(ap, protocol)
	}
	for _, c := range list {
		protocol := "IP"
		if c.Protocol != 0 {
			protocol = strings.ToUpper(c.Protocol.String())
		}
		seconds := int(c.Expires.Seconds())
		a.printf("%-3s %-6s %-11s %-18s %-18s ", protocol, fmt.Sprintf("%02d:%02d", seconds/60, seconds%60), c.State,
			text(c.Client, c), text(c.Virtual, c))
		if engines {
			a.printf("%-18s %-16s %s\n", text(c.Real, c), c.PE, c.PEData)
		} else {
			a.printf("%s\n", text(c.Real, c))
		}
	}
	return nil
}

// save is -S.
func (a *ipvsAdmin) save(ctx context.Context, r *ipvsRule) error {
	t, err := a.conn.Table(ctx)
	if err != nil {
		return fail(1, "%s", ipvsText(r.command, err))
	}
	for line := range strings.Lines(ipvs.FormatRules(t)) {
		if !r.groups["numeric"] {
			line = a.named(line)
		}
		a.printf("%s", line)
	}
	return nil
}

// named is a rule of -S -n with names in it.
func (a *ipvsAdmin) named(line string) string {
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	protocol := "tcp"
	for i := 1; i < len(words); i++ {
		switch words[i-1] {
		case "-u":
			protocol = "udp"
		case "--sctp-service":
			protocol = "sctp"
		case "-t", "-r":
		default:
			continue
		}
		if ap, err := netip.ParseAddrPort(words[i]); err == nil {
			words[i] = a.names.addrPort(ap, protocol)
		}
	}
	return strings.Join(words, " ") + "\n"
}
