package scenarios

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Serve is a server that a node runs: "http", "http 8080", or with more said of
// it the long form.
type Serve struct {
	Pos source.Pos
	// Service is one of the services that lvslab has itself; with a command it
	// may be any word. "keepalived" is the machine's own, which balances and
	// serves nothing: it starts when all servers of the lab have, with the node's
	// /etc/keepalived/keepalived.conf, and is stopped as if it had crashed.
	Service string `yaml:"service,required"`
	// Port is the service's usual one when not given.
	Port uint16 `yaml:"port"`
	// Address is the only one listened at; every address of the node when not
	// given.
	Address netip.Addr `yaml:"address"`
	// Root is a folder of the node's own view whose files are served.
	Root string `yaml:"root"`
	// Command is a real daemon of the machine, run by sh -c in the node. It
	// stays in the foreground and is ready when the port listens.
	Command string `yaml:"command"`
	// PassivePorts are those of an FTP server's passive mode: "30000-30009".
	PassivePorts PortRange `yaml:"passive_ports"`
	// ConfigID is keepalived's --config-id, by which it chooses the lines of its
	// configuration that begin with @ID; the node's name when it is not given.
	ConfigID string `yaml:"config_id"`
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// UnmarshalSource reads "FIRST-LAST".
func (r *PortRange) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s, ok := d.Scalar(n, "ports such as 30000-30009")
	if !ok {
		return
	}
	first, last, _ := strings.Cut(s, "-")
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || a == 0 || b < a {
		d.Fail(n, "wanted ports such as 30000-30009, found %q", s)
		return
	}
	r.First, r.Last = uint16(a), uint16(b)
}

// served is what lvslab knows of a service of its own.
type served struct {
	// port is where it listens when a lab does not say.
	port uint16
	// protocols are those of the port: "tcp", "udp", "sctp".
	protocols []string
	// client is what asks it.
	client string
}

// services are what a node can serve by itself. http, dns, smtp and ftp have
// their ports from the service name registry (RFC 6335); tcp, udp and sctp,
// which answer a line with the server's and the client's name, have none there.
func services() map[string]served {
	return map[string]served{
		"http": {80, []string{"tcp"}, "http"},
		"tcp":  {7000, []string{"tcp"}, "tcp"},
		"udp":  {7000, []string{"udp"}, "udp"},
		"sctp": {7000, []string{"sctp"}, "sctp"},
		"dns":  {53, []string{"udp", "tcp"}, "dns"},
		"smtp": {25, []string{"tcp"}, "smtp"},
		"ftp":  {21, []string{"tcp"}, "ftp"},
		"nfs":  {topology.NFSPort, []string{"tcp"}, "tcp"},
	}
}

// protocols are those that the server listens by. A command's are not known:
// by its port alone TCP is meant, unless the service is one of lvslab's names.
func (s Serve) protocols() []string {
	if known, ok := services()[s.Service]; ok {
		return known.protocols
	}
	if s.Service == serviceKeepalived {
		return nil
	}
	return []string{"tcp"}
}

// UnmarshalSource reads "SERVICE [PORT]" and the long form.
func (s *Serve) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.MappingNode {
		type plain Serve
		before := len(d.Errs)
		d.Decode(n, (*plain)(s))
		if len(d.Errs) == before {
			s.complete(d, n, child(n, "port") != nil)
		}
		return
	}
	s.Pos = d.Pos(n)
	text, ok := d.Scalar(n, "a service such as http or \"http 8080\"")
	if !ok {
		return
	}
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > 2 {
		d.Fail(n, "wanted a service such as http or \"http 8080\", found %q", text)
		return
	}
	s.Service = words[0]
	if len(words) == 2 {
		p, err := strconv.ParseUint(words[1], 10, 16)
		if err != nil || p == 0 {
			d.Fail(n, "port %q is not from 1 to 65535", words[1])
			return
		}
		s.Port = uint16(p)
	}
	s.complete(d, n, len(words) == 2)
}

// complete fills in what was not said, and refuses what makes no sense.
func (s *Serve) complete(d *source.Decoder, n *yaml.Node, ported bool) {
	if s.Service == serviceKeepalived {
		s.completeKeepalived(d, n)
		return
	}
	known, ok := services()[s.Service]
	switch {
	case s.ConfigID != "":
		d.Fail(n, "config_id is keepalived's, not %s's", s.Service)
	case s.Command == "" && child(n, "command") != nil:
		d.Fail(n, "command is empty")
	case s.Command != "" && !validName(s.Service):
		d.Fail(n, "service %q: %s", s.Service, nameRule)
	case s.Command == "" && !ok:
		d.Fail(n, "%s", source.Unknown("service", s.Service, Services()))
	case ported && s.Port == 0:
		d.Fail(n, "port \"0\" is not from 1 to 65535")
	case s.Port == 0 && !ok:
		d.Fail(n, "key \"port\" is missing: no usual port of %s is known", s.Service)
	case s.Command != "" && program(s.Command) == "":
		d.Fail(n, "command %q: wanted a program first, as in \"nginx -g 'daemon off;'\"", s.Command)
	case s.Command != "" && (s.Root != "" || s.PassivePorts != PortRange{}):
		d.Fail(n, "root and passive_ports are of lvslab's own servers; a command has its own way to say them")
	case s.Root != "" && !cleanPath(s.Root):
		d.Fail(n, "root: %q: %s", s.Root, pathRule)
	case s.Root != "" && s.Service != "http" && s.Service != serviceNFS:
		d.Fail(n, "root: %s serves no files; http and nfs do", s.Service)
	case s.PassivePorts != PortRange{} && s.Service != "ftp":
		d.Fail(n, "passive_ports are ftp's, not %s's", s.Service)
	case s.Address.Zone() != "":
		d.Fail(n, "address %s: a server listens at an address without a zone", s.Address)
	}
	s.Port = cmp.Or(s.Port, known.port)
	if s.Service == serviceNFS && s.Command == "" {
		s.Root = cmp.Or(s.Root, defaultNFSRoot)
	}
}

// defaultNFSRoot is the folder that a node exports when the lab does not say.
const defaultNFSRoot = "/srv"

// program is the name of the program that a command line begins with; settings
// of variables and an exec may stand before it. It is empty when the line begins
// with anything that only a shell could work out.
func program(command string) string {
	for _, w := range strings.Fields(command) {
		name, _, set := strings.Cut(w, "=")
		if w == "exec" || set && validName(strings.ToLower(name)) {
			continue
		}
		if strings.ContainsAny(w, "$`'\"\\;&|<>(){}*?~#") {
			return ""
		}
		return w
	}
	return ""
}

// Title is how the lab's reader calls the server: "http 8080".
func (s Serve) Title() string {
	if services()[s.Service].port == s.Port {
		return s.Service
	}
	return fmt.Sprintf("%s %d", s.Service, s.Port)
}

// name is the daemon's, unique in its node.
func (s Serve) name() string {
	if s.Service == serviceKeepalived {
		return s.Service
	}
	name := fmt.Sprintf("%s:%d", s.Service, s.Port)
	if s.Address.IsValid() {
		name += "@" + s.Address.String()
	}
	return name
}

// Daemon is the server as a node runs it.
func (s Serve) Daemon() topology.Daemon {
	return topology.Daemon{
		Name: s.name(), Service: s.Service, Protocols: s.protocols(), Port: s.Port, Address: s.Address,
		Root: s.Root, Command: s.Command, Ready: s.ready(),
		PassiveFirst: s.PassivePorts.First, PassiveLast: s.PassivePorts.Last,
	}
}

// op starts the server.
func (s Serve) op(node string) topology.Op {
	m := topology.Meta{Pos: s.Pos, Why: fmt.Sprintf("%s answers on port %d with its own name", node, s.Port)}
	switch {
	case s.Command != "":
		m.Why = fmt.Sprintf("%s runs a real %s, which listens on port %d", node, program(s.Command), s.Port)
		// The command sees the node's own files, through an overlay. It may become
		// another user.
		m.Needs = []topology.Feature{topology.Program(program(s.Command)), "overlay", "other-users"}
	case s.Service == "sctp":
		m.Needs = []topology.Feature{"sctp"}
	case s.Service == serviceNFS:
		m.Why = fmt.Sprintf("%s lets others mount its folder %s", node, s.Root)
		m.Needs = []topology.Feature{"overlay"}
	case s.Root != "":
		m.Why = fmt.Sprintf("%s answers on port %d with the files of its folder %s", node, s.Port, s.Root)
		m.Needs = []topology.Feature{"overlay"}
	}
	return topology.NewDaemon(m, node, s.Daemon())
}

// checkServe refuses two servers of a node at one port of a protocol.
func checkServe(errs *source.List, node string, list []Serve) {
	for i, s := range list {
		for _, first := range list[:i] {
			if s.Port == 0 || first.Port != s.Port {
				continue
			}
			if first.Address.IsValid() && s.Address.IsValid() && first.Address != s.Address {
				continue
			}
			if slices.ContainsFunc(s.protocols(), func(p string) bool { return slices.Contains(first.protocols(), p) }) {
				errs.Add(s.Pos, "node %s serves port %d twice; the first is at %s", node, s.Port, first.Pos)
				break
			}
		}
	}
}

// findServe is the server that a stop or a start means: "http" when the node
// has only one of that name, or "http 8080".
func (n Node) findServe(node, service string) (Serve, error) {
	var found []Serve
	var titles []string
	for _, s := range n.Serve {
		titles = append(titles, s.Title())
		if s.Service == service || s.Title() == service || fmt.Sprintf("%s %d", s.Service, s.Port) == service {
			found = append(found, s)
		}
	}
	switch {
	case len(n.Serve) == 0:
		return Serve{}, fmt.Errorf("node %s serves nothing", node)
	case len(found) == 0:
		return Serve{}, fmt.Errorf("node %s: %s", node, source.Unknown("service", service, titles))
	case len(found) > 1:
		return Serve{}, fmt.Errorf("node %s has more than one %s; say which by its port: %s", node, service, strings.Join(titles, ", "))
	}
	return found[0], nil
}
