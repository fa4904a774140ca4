package scenarios

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
)

// indent is spaces and no tab, for which a shell that is pasted into would
// offer completions.
const indent = "  "

// up writes the function that sets the lab up.
func (s *script) up() {
	s.standing = make(map[topology.Key]string)
	s.text.WriteString("\nup() {\n")
	s.ops(s.plan.Setup, section)
	s.text.WriteString("}\n")
}

// section is the heading under which an op stands in a setup.
func section(o topology.Op) string {
	m := o.About()
	switch {
	case m.Key.Kind == "network":
		return "the networks"
	case strings.HasPrefix(string(m.Role), "vip-"):
		return "the virtual IP"
	case m.Key.Kind == "arp-rule":
		return "ARP rules"
	case m.Key.Kind == "iptables" || m.Key.Kind == "ip6tables":
		return "packet filter rules of " + m.Key.Node
	case m.Key.Kind == "daemon":
		return "servers"
	case strings.HasPrefix(m.Key.Kind, "ipvs-"):
		return "the IPVS table of " + m.Key.Node
	}
	return m.Key.Node
}

// ops writes ops in their order, under headings, each reason once for all that
// stand one after the other for it.
func (s *script) ops(ops []topology.Op, heading func(topology.Op) string) {
	var last, why string
	for i := 0; i < len(ops); {
		if h := heading(ops[i]); h != last {
			s.text.WriteString("\n" + indent + "# --- " + h + " ---\n")
			last, why = h, ""
		}
		if w := s.why(ops[i]); w != why {
			s.comment(indent, w)
			why = w
		}
		var lines []string
		for ; i < len(ops) && heading(ops[i]) == last && s.why(ops[i]) == why; i++ {
			shell := ops[i].Shell(s.dialect)
			if s.wentAlong(ops[i]) {
				shell = []string{": # it went with its virtual service"}
			}
			lines = append(lines, shell...)
			s.stand(ops[i])
		}
		for _, l := range fold(lines) {
			s.line(l)
			s.words = append(s.words, called(l)...)
		}
	}
}

// wentAlong reports whether an op takes a real server from a virtual service
// that is gone: it went with it, and ipvsadm fails for one that is not there.
func (s *script) wentAlong(o topology.Op) bool {
	k := o.About().Key
	if k.Kind != ipvs.KindDestination || !s.takesAway(o) {
		return false
	}
	for other := range s.standing {
		if other.Node == k.Node && other.Kind == ipvs.KindService && strings.HasPrefix(k.ID, other.ID+" ") {
			return false
		}
	}
	return true
}

// why is an op's reason; of one that takes away what stands, that it is no
// longer one.
func (s *script) why(o topology.Op) string {
	w := o.About().Why
	const prefix = "no longer wanted: "
	if s.takesAway(o) && !strings.HasPrefix(w, prefix) {
		w = prefix + w
	}
	return w
}

func (s *script) takesAway(o topology.Op) bool {
	back, ok := o.Undo()
	if !ok {
		return false
	}
	was, stands := s.standing[o.About().Key]
	return stands && was == s.key(back) && was != s.key(o)
}

// stand keeps book of what stands.
func (s *script) stand(o topology.Op) {
	if s.takesAway(o) {
		delete(s.standing, o.About().Key)
		return
	}
	s.standing[o.About().Key] = s.key(o)
}

func (s *script) key(o topology.Op) string { return strings.Join(o.Shell(s.dialect), "\n") }

func (s *script) line(l string) { s.text.WriteString(indent + l + "\n") }

// sysctlWidth is where the line of many sysctls is broken.
const sysctlWidth = 100

// fold makes one line of neighbours that set sysctls of one node.
func fold(lines []string) []string {
	const tail = " 2>/dev/null || true"
	split := func(l string) (call, setting, rest string, ok bool) {
		call, setting, ok = strings.Cut(l, " sysctl -qw ")
		if s, optional := strings.CutSuffix(setting, tail); optional {
			setting, rest = s, tail
		}
		return call, setting, rest, ok && strings.HasPrefix(call, "ip netns exec ")
	}
	var out []string
	for i := 0; i < len(lines); {
		call, setting, rest, ok := split(lines[i])
		i++
		if !ok {
			out = append(out, lines[i-1])
			continue
		}
		all := call + " sysctl -qw " + setting
		width := len(all)
		for ; i < len(lines); i++ {
			c, next, r, ok := split(lines[i])
			if !ok || c != call || r != rest {
				break
			}
			if width += 1 + len(next); width > sysctlWidth {
				all += " \\\n" + indent + "   "
				width = len(indent) + 3 + 1 + len(next)
			}
			all += " " + next
		}
		out = append(out, all+rest)
	}
	return out
}

// steps writes a function for each step.
func (s *script) steps() {
	bodies := s.part(func() {
		for i := range s.plan.Steps {
			s.step(i, &s.plan.Steps[i])
		}
	})
	s.text.WriteString("\n# What the steps need beside all that.\nstep_tools() {\n  :\n")
	s.needs(slices.DeleteFunc(s.tools(s.stimuli), func(t string) bool { return slices.Contains(s.tools(s.words), t) }))
	s.legacyARP()
	s.text.WriteString("}\n" + bodies)
}

func (s *script) step(i int, st *Step) {
	s.text.WriteString("\n")
	s.comment("", fmt.Sprintf("Step %d: %s", i+1, st.Name))
	fmt.Fprintf(&s.text, "step_%d() {\n", i+1)
	empty := true
	for j := range st.Do {
		a := &st.Do[j]
		if a.Changes() {
			empty = empty && len(a.Ops) == 0
			s.ops(a.Ops, func(topology.Op) string { return "" })
			continue
		}
		for _, l := range s.stimulus(st, a) {
			empty = empty && strings.HasPrefix(l, "#")
			s.line(l)
		}
	}
	for _, l := range leftOver(st) {
		s.line(l)
	}
	if empty {
		s.line(":")
	}
	if exp := s.plan.Lab.expectations(i); len(exp) > 0 {
		s.text.WriteString(indent + "# Expected:\n")
		for _, e := range exp {
			s.text.WriteString(indent + "#   " + visible(e) + "\n")
		}
	}
	s.text.WriteString("}\n")
}

// failure follows a stimulus, whose failing may be what a step is about.
const failure = ` || echo "exit status $?"`

// stimulus is an action as lines that a person would type.
func (s *script) stimulus(st *Step, a *Action) []string {
	in := func(node, command string) string {
		tool, _, _ := strings.Cut(command, " ")
		s.stimuli = append(s.stimuli, "ip", tool)
		return "ip netns exec " + node + " " + command
	}
	switch {
	case a.Request != nil:
		return s.request(in, a.Request)
	case a.Release != nil:
		return s.release(a.Release)
	case a.Wait != nil:
		return []string{waiting}
	case a.Daemon != nil:
		return s.daemon(a)
	case a.Ping != nil:
		return []string{in(a.Ping.From, fmt.Sprintf("ping -c %d -W %s %s", a.Ping.Count, seconds(a.Ping.Timeout), a.Ping.Addr)) + failure}
	case a.Run != nil:
		return []string{in(a.Run.Node, "sh -c "+topology.Quote(a.Run.Command)) + failure}
	case a.Write != nil:
		return topology.WriteLines(nodeFile(a.Write.Node, a.Write.File), a.Write.Content)
	case a.Save != nil:
		return s.save(in, a.Save)
	case a.Restore != nil:
		return s.restore(in, a.Restore)
	case a.Systemctl != nil:
		return s.systemctl(in, a.Systemctl)
	case a.Zero != nil:
		var lines []string
		for _, n := range a.Zero {
			lines = append(lines, in(n, "ipvsadm -Z"))
		}
		return lines
	case a.Kind == "flush_neighbours":
		nodes := a.Flush
		if len(nodes) == 0 {
			nodes = st.After.Nodes.Names()
		}
		var lines []string
		for _, n := range nodes {
			lines = append(lines, "ip -n "+n+" neigh flush all")
		}
		s.stimuli = append(s.stimuli, "ip")
		return lines
	}
	return []string{"# " + visible(a.Words())}
}

func times(n int, line string) string {
	if n == 1 {
		return line
	}
	return fmt.Sprintf("for i in $(seq %d); do %s; done", n, line)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// nodeFile is where a script keeps a file of a node, as a word of the shell.
func nodeFile(node, file string) string { return topology.NodeFile(node, file) }

type inNode func(node, command string) string

func (s *script) save(in inNode, a *Save) []string {
	file := nodeFile(a.Node, a.File)
	command := "ipvsadm -Sn"
	if a.Table == "arp" {
		command = s.dialect.Arptables + "-save"
	}
	return []string{"mkdir -p " + path.Dir(file), in(a.Node, command) + " >" + file}
}

func (s *script) restore(in inNode, a *Save) []string {
	command := in(a.Node, s.dialect.Arptables+"-restore")
	if a.Table == "ipvs" {
		// -R adds to what is there; without a file nothing is lost.
		command = in(a.Node, "ipvsadm -C") + " && " + in(a.Node, "ipvsadm -R")
	}
	return []string{"file=" + nodeFile(a.Node, a.File), `ls "$file" && ` + command + ` <"$file"` + failure}
}

// The files of the tutorial's services, as runner/engine has them.
const (
	ipvsadmFile   = "/etc/sysconfig/ipvsadm"
	ipvsadmConfig = "/etc/sysconfig/ipvsadm-config"
	arptablesFile = "/etc/sysconfig/arptables"
)

func (s *script) systemctl(in inNode, a *Systemctl) []string {
	lines := []string{"# what systemctl " + a.Verb + " " + a.Unit + " does on the tutorial's machines"}
	if a.Unit == "arptables" {
		if a.Verb != "start" {
			lines = append(lines, in(a.Node, s.dialect.Arptables+" -F"))
		}
		if a.Verb != "stop" {
			lines = append(lines, s.restore(in, &Save{Node: a.Node, Table: "arp", File: arptablesFile})...)
		}
		return lines
	}
	if a.Verb == "restart" {
		save := s.save(in, &Save{Node: a.Node, Table: "ipvs", File: ipvsadmFile})
		lines = append(lines, fmt.Sprintf(`if grep -Eqs "^IPVS_SAVE_ON_RESTART=[\"']?yes" %s; then %s; fi`,
			nodeFile(a.Node, ipvsadmConfig), strings.Join(save, "; ")))
	}
	if a.Verb != "start" {
		lines = append(lines, in(a.Node, "ipvsadm -C"))
	}
	if a.Verb != "stop" {
		lines = append(lines, s.restore(in, &Save{Node: a.Node, Table: "ipvs", File: ipvsadmFile})...)
	}
	return lines
}

// expectations are what the lab's file says under expect: of a step, a line
// each, in its own words.
func (l *Lab) expectations(step int) []string {
	list := child(child(l.doc, "steps"), strconv.Itoa(step))
	list = child(list, "expect")
	if list == nil {
		return nil
	}
	var out []string
	for _, e := range list.Content {
		text, err := yaml.Marshal(inline(e))
		if err != nil {
			continue // it came from YAML; a comment is not worth an error
		}
		// Flow style in braces: "{rotation: [web1, web2]}".
		s := strings.TrimSpace(string(text))
		if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
			s = s[1 : len(s)-1]
		}
		out = append(out, s)
	}
	return out
}

// isZero reports whether a value stands there and is the number 0.
func isZero(n *yaml.Node) bool {
	if n == nil {
		return false
	}
	i, err := strconv.Atoi(n.Value)
	return err == nil && i == 0
}

// child is the value under a key of a mapping, or at an index of a sequence;
// nil when there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	for n != nil && (n.Kind == yaml.AliasNode || n.Kind == yaml.DocumentNode) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		} else {
			n = n.Content[0]
		}
	}
	if n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
	}
	return nil
}

// inline is a copy of a node that is written on one line, without comments and
// aliases. What an alias may unfold to is bounded where the file is read.
func inline(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value}
	switch n.Kind {
	case yaml.ScalarNode:
		if c.Style = n.Style & (yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle); strings.Contains(n.Value, "\n") {
			c.Style = yaml.DoubleQuotedStyle
		}
	default:
		c.Style = yaml.FlowStyle
	}
	for _, e := range n.Content {
		c.Content = append(c.Content, inline(e))
	}
	return c
}
