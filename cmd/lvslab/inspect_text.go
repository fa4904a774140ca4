package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/live"
)

// printInspection prints what is broken on purpose, and then a section for each
// node. Of one node alone, the lab is not told of.
func printInspection(w io.Writer, in *live.Inspection, one bool) {
	p := func(format string, args ...any) { fmt.Fprintln(w, visible(fmt.Sprintf(format, args...))) }
	if !one {
		p("%s: %s", in.Lab, in.Title)
	}
	faults := slices.DeleteFunc(slices.Clone(in.Faults), func(f live.Broken) bool { return one && f.Node != in.Nodes[0].Name })
	if len(faults) > 0 {
		p("broken on purpose (lvslab heal takes it back):")
		for _, f := range faults {
			p("  %s, since %s", f.String(), f.Since.Local().Format(time.TimeOnly))
		}
	}
	if !one {
		p("")
		var rows [][]string
		for _, n := range in.Networks {
			rows = append(rows, []string{n.Name, strings.Join(n.Prefixes, ", ")})
		}
		for _, l := range table(rows) {
			p("network %s", l)
		}
	}
	for i, n := range in.Nodes {
		if !one || i > 0 || len(faults) > 0 {
			p("")
		}
		head := n.Name
		if roles := strings.Join(n.Roles, ", "); roles != "" && roles != n.Name {
			head += " (" + roles + ")"
		}
		if n.Stopped {
			p("%s: switched off", head)
			continue
		}
		p("%s", head)
		for _, s := range sections(n) {
			if len(s.lines) > 0 && s.title != "" {
				p("  %s", s.title)
			}
			for _, l := range s.lines {
				p("%s", strings.TrimRight("    "+l, " "))
			}
		}
	}
}

// section is a part of what is told of a node; one without lines is left out.
type section struct {
	title string
	lines []string
}

func sections(n live.Node) []section {
	return []section{
		{"", deviceLines(n.Devices)},
		{"routes", n.Routes},
		{"neighbours", n.Neighbours},
		{"ipvs", ipvsLines(n.IPVS)},
		{"arptables", n.ARPRules},
		{"iptables", n.IPTables},
		{"servers", daemonLines(n.Daemons)},
		{"sysctls, and what they are by default", sysctlLines(n.Sysctls)},
	}
}

// deviceLines leaves out the tunnels that a kernel makes by itself and nobody
// uses; --format json has them.
func deviceLines(devices []live.Device) []string {
	var rows [][]string
	var more [][]string // what stands below each row
	for _, d := range devices {
		if d.Network == "" && d.State == "down" && len(d.Addresses) == 0 {
			continue
		}
		on := d.Kind
		if d.Network != "" {
			on = "on " + d.Network
		}
		rows = append(rows, []string{d.Name, on, d.State, "mtu " + strconv.Itoa(d.MTU), d.MAC})
		var below []string
		for _, a := range d.Addresses {
			if slices.Contains(d.VIPs, a) {
				a += "  virtual IP"
			}
			below = append(below, "    "+a)
		}
		if d.Qdisc != "" {
			below = append(below, "    netem "+d.Qdisc)
		}
		more = append(more, below)
	}
	var lines []string
	for i, l := range table(rows) {
		lines = append(append(lines, l), more[i]...)
	}
	return lines
}

// ipvsLines are those of ipvsadm -Ln, with the nodes' names and the connections
// so far.
func ipvsLines(services []live.Service) []string {
	var rows [][]string
	heads := make(map[int]string)
	for _, s := range services {
		heads[len(rows)] = strings.TrimSpace(strings.Join([]string{s.Protocol, s.Address, s.Scheduler, s.Flags}, " "))
		rows = append(rows, nil)
		for _, d := range s.Destinations {
			rows = append(rows, []string{
				"  -> " + d.Address, d.Node, d.Forward, strconv.Itoa(d.Weight),
				strconv.Itoa(d.ActiveConn), strconv.Itoa(d.InactConn), strconv.FormatUint(d.Connections, 10),
			})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	lines := table(append([][]string{{"  -> RemoteAddress:Port", "Node", "Forward", "Weight", "ActiveConn", "InActConn", "Conns"}}, rows...))
	for i, head := range heads {
		lines[i+1] = head
	}
	return lines
}

func daemonLines(daemons []live.Daemon) []string {
	var rows [][]string
	for _, d := range daemons {
		state, _, _ := strings.Cut(strings.TrimSpace(d.State), "\n")
		rows = append(rows, []string{d.Name, "port " + strconv.Itoa(int(d.Port)), state})
	}
	return table(rows)
}

// sysctlLines puts devices together that have the same: conf.{all,eth0}.rp_filter.
func sysctlLines(sysctls []live.Sysctl) []string {
	type group struct {
		before, after string
		devices       []string
		live.Sysctl
	}
	var groups []*group
	for _, s := range sysctls {
		g := &group{before: s.Key, Sysctl: s}
		if before, rest, ok := strings.Cut(s.Key, ".conf."); ok {
			if device, after, ok := strings.Cut(rest, "."); ok {
				g.before, g.after, g.devices = before+".conf.", "."+after, []string{device}
			}
		}
		i := slices.IndexFunc(groups, func(o *group) bool {
			return g.after != "" && o.before == g.before && o.after == g.after && o.Value == s.Value && o.Default == s.Default
		})
		if i >= 0 {
			groups[i].devices = append(groups[i].devices, g.devices...)
			continue
		}
		groups = append(groups, g)
	}
	var rows [][]string
	for _, g := range groups {
		device := strings.Join(g.devices, ",")
		if len(g.devices) > 1 {
			device = "{" + device + "}"
		}
		was := g.Default
		if was == "" {
			was = "not there"
		}
		rows = append(rows, []string{g.before + device + g.after + " = " + g.Value, "(" + was + ")"})
	}
	return table(rows)
}

// table fills the columns of rows.
func table(rows [][]string) []string {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], widest(cell))
		}
	}
	var lines []string
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			if widths[i] > 0 {
				b.WriteString(pad(cell, widths[i]+2))
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}
