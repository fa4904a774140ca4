package scenarios

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/lvslab/lvslab/topology"
)

// Script is the plan as a POSIX shell script that makes the same lab with
// iproute2, ipvsadm and arptables: `sh lab.sh up`, then `sh lab.sh step 1` and
// so on, then `sh lab.sh down`. The steps' expectations are comments in it.
//
// Nothing that a lab file says can get out of the comment or the word in which
// it stands.
func (p *Plan) Script(d topology.Dialect) string {
	s := &script{plan: p, dialect: d}
	body := &s.text
	up := s.part(func() { s.up() })
	s.words = append(s.words, s.programs()...)
	steps := s.part(func() { s.steps() })

	s.header()
	fmt.Fprintf(body, "set -eu\n\n")
	s.settings()
	body.WriteString(common)
	body.WriteString(s.functions())
	s.checks()
	body.WriteString(up)
	body.WriteString(steps)
	fmt.Fprintf(body, verbs, len(p.Steps))
	return body.String()
}

// script is a script on its way.
type script struct {
	plan    *Plan
	dialect topology.Dialect
	text    strings.Builder
	// words are the programs and functions that the lines so far call; those
	// of steps' stimuli are kept apart, since a lab goes up without them.
	words, stimuli []string
	// standing are the Shell lines by which what stands was made.
	standing map[topology.Key]string
}

// part is what f writes.
func (s *script) part(f func()) string {
	before := s.text.String()
	s.text.Reset()
	f()
	out := s.text.String()
	s.text.Reset()
	s.text.WriteString(before)
	return out
}

func (s *script) uses(word string) bool { return slices.Contains(s.words, word) }

// comment writes text as comment lines, broken at about 78 columns.
func (s *script) comment(indent, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		for _, l := range wrap(visible(line), 78-len(indent)) {
			s.text.WriteString(strings.TrimRight(indent+"# "+l, " ") + "\n")
		}
	}
}

// visible is a line without anything that a terminal, or sh, could take for
// more than text.
func visible(line string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, line)
}

// wrap breaks a line between words; one that fits keeps its spaces.
func wrap(line string, width int) []string {
	if len(line) <= width {
		return []string{line}
	}
	var lines []string
	var cur string
	for _, w := range strings.Fields(line) {
		if cur != "" && len(cur)+1+len(w) > width {
			lines, cur = append(lines, cur), ""
		}
		if cur != "" {
			cur += " "
		}
		cur += w
	}
	return append(lines, cur)
}

func (s *script) header() {
	p, l := s.plan, s.plan.Lab
	s.text.WriteString("#!/bin/sh\n")
	s.comment("", l.Title)
	s.comment("", fmt.Sprintf("(lab %s, as printed by lvslab plan)", l.Name))
	if strings.TrimSpace(l.About) != "" {
		s.comment("", "\n"+strings.TrimSpace(l.About))
	}
	if out := s.omitted(); len(out) > 0 {
		s.comment("", "\nLeft out on purpose: "+joinRoles(out))
	}
	s.comment("", "\nAs root:")
	s.comment("", "  sh lab.sh up        sets the lab up; so does sh lab.sh alone")
	if n := len(p.Steps); n > 0 {
		s.comment("", fmt.Sprintf("  sh lab.sh step N    does step N, 1 to %d in this order, and shows it", n))
	}
	s.comment("", "  sh lab.sh down      takes the lab down")
	needs := "\nIt needs " + strings.Join(packages(s.tools(s.words)), ", ")
	if more := slices.DeleteFunc(s.tools(s.stimuli), func(t string) bool { return slices.Contains(s.tools(s.words), t) }); len(more) > 0 {
		needs += ", for the steps " + strings.Join(packages(more), ", ")
	}
	if mods := s.modules(); len(mods) > 0 {
		needs += "; and a kernel with " + strings.Join(mods, " and ")
	}
	s.comment("", needs+".")
	s.comment("", "Each machine and each network is a network namespace; this machine's own addresses, routes and rules stay as they are.")
	for _, l := range s.lacks() {
		s.comment("", "What it cannot do: "+l+"; lvslab run can.")
	}
	for _, m := range scriptModules() {
		if m.device != "" && slices.Contains(s.modules(), m.name) {
			s.comment("", fmt.Sprintf("To load %s gives this machine itself a device %s, too, which stays down.", m.name, m.device))
		}
	}
	if l.UsesFiles() || slices.ContainsFunc(s.allOps(), func(o topology.Op) bool { return o.About().Key.Kind == "file" }) {
		s.comment("", "In lvslab each machine sees files of its own. Here the commands of steps see this machine's files, and those that the lab or its steps write are below $state/files.")
	}
}

// omitted are the roles of the lab that its setup leaves out.
func (s *script) omitted() []topology.Role {
	in := topology.Roles(s.plan.Setup)
	return slices.DeleteFunc(topology.Roles(s.plan.Lab.ops()), func(r topology.Role) bool { return slices.Contains(in, r) })
}

// allOps are those of the setup and of all changes.
func (s *script) allOps() []topology.Op {
	ops := slices.Clone(s.plan.Setup)
	for _, st := range s.plan.Steps {
		for _, a := range st.Do {
			ops = append(ops, a.Ops...)
		}
	}
	return ops
}

func (s *script) settings() {
	var names []string
	for _, o := range s.allOps() {
		if k := o.About().Key; (k.Kind == "network" || k.Kind == "node") && !slices.Contains(names, k.Node) {
			names = append(names, k.Node)
		}
	}
	// A lab's name has letters, digits, dashes, underscores and slashes.
	fmt.Fprintf(&s.text, "lab=%s\n", topology.Quote(s.plan.Lab.Name))
	fmt.Fprintf(&s.text, "namespaces=%s\n", topology.Quote(strings.Join(names, " ")))
	fmt.Fprintf(&s.text, "state=/run/lvslab-plan/%s # what `down` must know\n\n", strings.ReplaceAll(path.Clean("/" + s.plan.Lab.Name)[1:], "/", "."))
}

// modules are those that no kernel loads by itself when they are needed, or
// without which it is better to say so at once.
func (s *script) modules() []string {
	var mods []string
	for _, m := range scriptModules() {
		if s.needsModule(m.name) {
			mods = append(mods, m.name)
		}
	}
	return mods
}

// scriptModule is a module and a file that is there when the kernel has it.
type scriptModule struct{ name, file, device string }

func scriptModules() []scriptModule {
	list := []scriptModule{
		{name: "ip_vs", file: "/proc/net/ip_vs"},
		{name: "ip_vs_ftp", file: "/sys/module/ip_vs_ftp"},
		{name: "ipv6", file: "/proc/net/if_inet6"},
	}
	for _, device := range slices.Sorted(maps.Keys(tunnelDevices())) {
		family := "ipv4"
		if strings.HasPrefix(device, "ip6") {
			family = "ipv6"
		}
		list = append(list, scriptModule{string(tunnelDevices()[device]), "/proc/sys/net/" + family + "/conf/" + device, device})
	}
	return list
}

// tunnels are the devices that the modules put into every namespace.
func (s *script) tunnels() []string {
	var devices []string
	for _, m := range scriptModules() {
		if m.device != "" && slices.Contains(s.modules(), m.name) {
			devices = append(devices, m.device)
		}
	}
	return devices
}

func (s *script) checks() {
	b := &s.text
	b.WriteString("\ncheck() {\n")
	for _, l := range s.lacks() {
		fmt.Fprintf(b, "  fail %s\n", topology.Quote(l+"; lvslab run can: lvslab run "+s.plan.Lab.Name))
	}
	b.WriteString("  [ \"$(id -u)\" = 0 ] || fail 'only root can make network namespaces'\n")
	s.needs(s.tools(s.words))
	if s.uses("serve_http") {
		b.WriteString("  web_server >/dev/null || fail 'a small web server is missing: apt install busybox, or python3'\n")
	}
	b.WriteString(`  [ ! -e "$state" ] || fail "the lab is up; sh $0 down takes it down"
  for ns in $namespaces; do
    [ ! -e "/var/run/netns/$ns" ] || fail "there is a network namespace $ns already, and it is not this lab's (see: ip netns list)"
  done
`)
	for _, m := range scriptModules() {
		if slices.Contains(s.modules(), m.name) {
			fmt.Fprintf(b, "  module %s %s\n", m.name, m.file)
		}
	}
	if t := strings.Join(s.tunnels(), ", "); t != "" {
		fmt.Fprintf(b, `  # Otherwise only this machine itself would have %s.
  only=/proc/sys/net/core/fb_tunnels_only_for_init_net
  [ ! -e "$only" ] || [ "$(cat "$only")" = 0 ] ||
    fail 'new namespaces get no %s here: sysctl -w net.core.fb_tunnels_only_for_init_net=0'
`, t, t)
	}
	b.WriteString("}\n")
}

// needs writes a line for each package of which a tool is needed.
func (s *script) needs(tools []string) {
	for _, t := range tools {
		fmt.Fprintf(&s.text, "  tool %s %s\n", t, packageOf(t))
	}
}

// packageOf is the package of Debian's, and mostly of others', that has a tool.
func packageOf(tool string) string {
	switch strings.TrimSuffix(strings.TrimSuffix(tool, "-save"), "-restore") {
	case "iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy":
		return "iptables"
	case "ip", "tc", "ss":
		return "iproute2"
	case "sysctl":
		return "procps"
	case "arptables", "arptables-legacy":
		return "arptables"
	case "ping":
		return "iputils-ping"
	case "setsid":
		return "util-linux"
	case "mount.nfs", "umount.nfs":
		return "nfs-common"
	case "dig":
		return "bind9-dnsutils"
	case "nc":
		return "netcat-openbsd"
	}
	return tool
}

// packages are tools with their package where that is called otherwise.
func packages(tools []string) []string {
	var out []string
	for _, t := range tools {
		if p := packageOf(t); p != t {
			t += " (" + p + ")"
		}
		out = append(out, t)
	}
	return out
}

// tools are the programs among words, each once. A web server is either of
// two, which tools leaves to web_server.
func (s *script) tools(words []string) []string {
	var out []string
	for _, w := range words {
		if slices.Contains(everywhere(), w) {
			continue
		}
		programs, ok := isFunction(w)
		if !ok {
			programs = []string{w}
		}
		for _, w := range programs {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// everywhere are the words that every POSIX system knows.
func everywhere() []string { return []string{":", "mkdir", "printf", "rm", "sh"} }

// called are the programs that a Shell line calls.
func called(line string) []string {
	f := strings.Fields(line)
	if len(f) > 4 && f[0] == "ip" && f[1] == "netns" && f[2] == "exec" {
		if f[4] == "mount" || f[4] == "umount" {
			return []string{"ip", f[4] + ".nfs"} // which does it for them
		}
		return []string{"ip", f[4]}
	}
	return f[:1]
}
