package scenarios

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Who, other than lvslab itself, may write a virtual service into the directors'
// tables, the values of managed_by.
const (
	// ManagedByRules: the rules of the director nodes, which may say something
	// else of it, or nothing.
	ManagedByRules = "rules"
	// ManagedByKeepalived: the keepalived that runs in the director nodes.
	ManagedByKeepalived = "keepalived"
)

// Managers are the values of managed_by.
func Managers() []string { return []string{ManagedByKeepalived, ManagedByRules} }

// serviceKeepalived is the word of serve for the machine's own keepalived.
const serviceKeepalived = "keepalived"

// KeepalivedConf is where the keepalived of a node has its configuration.
const KeepalivedConf = "/etc/keepalived/keepalived.conf"

// KeepalivedReady is the file by which a node's keepalived tells that it runs:
// that of its process's number, which it writes when it has read its
// configuration.
const KeepalivedReady = "/run/keepalived.pid"

// keepalivedCommand keeps it in the foreground, with all that it says on its
// standard error. A number that another one has left would be taken for that of
// a keepalived that runs already: numbers begin anew with each.
const keepalivedCommand = "rm -f /run/keepalived*.pid; exec keepalived --dont-fork --log-console --log-detail" +
	" --use-file " + KeepalivedConf + " --pid " + KeepalivedReady +
	" --vrrp_pid /run/keepalived-vrrp.pid --checkers_pid /run/keepalived-checkers.pid"

// completeKeepalived refuses what is said of keepalived that its configuration
// says.
func (s *Serve) completeKeepalived(d *source.Decoder, n *yaml.Node) {
	switch {
	case s.Command != "" || child(n, "command") != nil:
		d.Fail(n, "command: lvslab knows how keepalived is run; what it shall do is said in %s", KeepalivedConf)
	case s.Port != 0 || s.Address.IsValid() || s.Root != "" || s.PassivePorts != PortRange{}:
		d.Fail(n, "keepalived listens nowhere and serves no files; leave the other keys out")
	}
	s.Command = keepalivedCommand
	if s.ConfigID != "" {
		s.Command += " --config-id " + topology.Quote(s.ConfigID)
	}
}

// ready is the file by which a server tells that it is, "" for one that listens.
func (s Serve) ready() string {
	if s.Service == serviceKeepalived {
		return KeepalivedReady
	}
	return ""
}

// keepalived is the node's, false where it runs none.
func (n Node) keepalived() (Serve, bool) {
	i := slices.IndexFunc(n.Serve, func(s Serve) bool { return s.Service == serviceKeepalived })
	if i < 0 {
		return Serve{}, false
	}
	return n.Serve[i], true
}

// checkKeepalived refuses a keepalived that would read the machine's own
// configuration, and a second one.
func checkKeepalived(errs *source.List, node string, n Node) {
	first, ok := n.keepalived()
	if !ok {
		return
	}
	for _, s := range n.Serve {
		if s.Service == serviceKeepalived && s.Pos != first.Pos {
			errs.Add(s.Pos, "node %s runs keepalived twice; the first is at %s", node, first.Pos)
		}
	}
	_, written := n.Files.Get(KeepalivedConf)
	mounted := slices.ContainsFunc(n.Mounts, func(m source.Entry[Mount]) bool { return below(KeepalivedConf, m.Name) })
	if !written && !mounted {
		errs.Add(first.Pos, "keepalived of node %s has no configuration: give the node files: {%s: …}", node, KeepalivedConf)
	}
}

// checkManager looks for what writes a service that lvslab does not.
func (l *Lab) checkManager(errs *source.List, v *VirtualService) {
	switch v.ManagedBy {
	case "", ManagedByRules, ManagedByKeepalived:
	default:
		errs.Add(v.ManagedByPos, "%s; leave the key out where lvslab shall write the service", source.Unknown("manager", v.ManagedBy, Managers()))
		return
	}
	for _, name := range v.Directors {
		n, ok := l.Nodes.Get(name)
		if !ok {
			continue // said already
		}
		switch _, runs := n.keepalived(); {
		case v.ManagedBy == ManagedByRules && n.Rules == nil:
			errs.Add(v.ManagedByPos, "managed_by: rules, and director %s has none: give the node rules: as ipvsadm -S -n prints them", name)
		case v.ManagedBy == ManagedByKeepalived && !runs:
			errs.Add(v.ManagedByPos, "managed_by: keepalived, and director %s runs none: give the node serve: [keepalived] and files: {%s: …}", name, KeepalivedConf)
		}
	}
}

// keepalivedOps start the nodes' own keepalived, after all that it looks at: a
// real server that does not answer yet would be taken out until the next look.
func (l *Lab) keepalivedOps() []topology.Op {
	var ops []topology.Op
	for _, e := range l.Nodes {
		if s, ok := e.Value.keepalived(); ok {
			ops = append(ops, topology.NewDaemon(topology.Meta{
				Pos: s.Pos, Why: fmt.Sprintf("%s runs a real keepalived, which checks the real servers and tells IPVS of them", e.Name),
				Needs: l.keepalivedNeeds(e.Name),
			}, e.Name, s.Daemon()))
		}
	}
	return ops
}

// keepalivedNeeds are the program, and what its table needs of the kernel as far
// as the lab's own services tell. It speaks generic netlink, as ipvsadm does, and
// opens raw sockets for VRRP.
func (l *Lab) keepalivedNeeds(node string) []topology.Feature {
	needs := []topology.Feature{topology.Program(serviceKeepalived), "overlay", "other-users", "ip_vs", "ip_vs-ipvsadm"}
	for _, e := range l.VirtualServices {
		if e.Value.ManagedBy != ManagedByKeepalived || !slices.Contains(e.Value.Directors, node) {
			continue
		}
		for _, f := range topology.Features(l.serviceOps(e, node)) {
			if !slices.Contains(needs, f) {
				needs = append(needs, f)
			}
		}
	}
	return needs
}

// Declared is a virtual service as a lab declares it, whoever writes it into the
// directors' tables.
type Declared struct {
	// Name is the lab's word for it, Pos its place.
	Name string
	Pos  source.Pos
	// Entry is what a director is told, and Places are those of its real servers.
	Entry  ipvs.Entry
	Places []source.Pos
}

// Declared are the virtual services of a director, in the file's order. A real
// server whose address is not known is left out.
func (l *Lab) Declared(director string) []Declared {
	var list []Declared
	for _, e := range l.VirtualServices {
		v := e.Value
		if !slices.Contains(v.Directors, director) {
			continue
		}
		d := Declared{Name: e.Name, Pos: e.Pos, Entry: ipvs.Entry{Service: v.service()}}
		for _, r := range v.RealServers {
			if addr, err := l.realServerAddress(director, v, r); err == nil {
				d.Entry.Destinations = append(d.Entry.Destinations, v.destination(r, addr))
				d.Places = append(d.Places, r.Pos)
			}
		}
		list = append(list, d)
	}
	return list
}

// ChangesServices reports whether the action is a change of the lab that has to do
// with its virtual services.
func (a *Action) ChangesServices() bool {
	return a.patch != nil && child(a.patch, "virtual_services") != nil
}

// RealServers are the nodes that the action makes the real servers of a virtual
// service, false for one that does something else, or more than that.
func (a *Action) RealServers() (service string, nodes []string, ok bool) {
	only := func(n *yaml.Node) (key string, value *yaml.Node) {
		if n == nil || n.Kind != yaml.MappingNode || len(n.Content) != 2 {
			return "", nil
		}
		return n.Content[0].Value, n.Content[1]
	}
	what, services := only(a.patch)
	service, changed := only(services)
	key, list := only(changed)
	if what != "virtual_services" || key != "real_servers" || list.Kind != yaml.SequenceNode {
		return "", nil, false
	}
	for _, item := range list.Content {
		if item.Kind == yaml.MappingNode {
			item = child(item, "node")
		}
		if item == nil || item.Kind != yaml.ScalarNode {
			return "", nil, false
		}
		nodes = append(nodes, item.Value)
	}
	return service, nodes, len(nodes) > 0
}
