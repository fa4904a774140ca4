package scenarios

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/assert"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// check looks at the lab as its file has it, and at every state that its steps
// bring it to.
func (l *Lab) check() source.List {
	errs := l.structure()
	if len(errs) > 0 {
		return errs
	}
	found := l.reachability()
	state := l
	defer l.forget()
	for i := range l.Steps {
		s := &l.Steps[i]
		for j := range s.Do {
			a := &s.Do[j]
			next := state
			var list source.List
			switch {
			case a.patch != nil:
				next, list = state.patched(a.patch)
			case a.Link != nil:
				if list = state.linkRefs(a.Link); len(list) == 0 {
					next, list = state.withLink(a.Link)
				}
			default:
				list = state.actionRefs(a)
			}
			if len(list) == 0 && next != state {
				list = next.structure()
			}
			if len(list) > 0 {
				errs = append(errs, list...)
				continue
			}
			if next != state {
				found = append(found, next.reachability()...)
				defer next.forget()
				state = next
				l.ipv6 = l.ipv6 || next.UsesIPv6()
			}
		}
		for _, e := range s.Expect {
			if e.Check != nil {
				errs = append(errs, state.refs(e.Refs())...)
			}
		}
	}
	errs = append(errs, l.checkReleases()...)
	return append(errs, l.allow(found)...)
}

// allow keeps the findings that the lab does not allow, and adds the
// permissions that nothing made use of. A lab in which something was set on
// purpose allows all.
func (l *Lab) allow(found source.List) source.List {
	var errs source.List
	used := make(map[string]bool)
	for _, f := range found {
		if l.set || slices.ContainsFunc(l.Allow, func(a Allowed) bool { return a.Code == f.Code }) {
			used[f.Code] = true
			l.Findings = append(l.Findings, f)
			continue
		}
		errs = append(errs, f)
	}
	for _, a := range l.Allow {
		if !used[a.Code] && !l.set {
			errs.Add(a.Pos, "allow: %s is not found in this lab; take it out", a.Code)
		}
	}
	if sorted, ok := l.Findings.Err().(source.List); ok { //nolint:errorlint // Err returns a List as it is
		l.Findings = sorted
	}
	return errs
}

// structure finds what makes no sense whatever the lab is about: names that
// lead nowhere, names that are not allowed.
func (l *Lab) structure() source.List {
	var errs source.List
	if len(l.Nodes) == 0 {
		errs.Add(l.Pos, "a lab needs nodes")
	}
	for _, w := range l.Networks {
		l.checkName(&errs, "network", w.Name, w.Pos)
		if n, ok := l.Nodes.Get(w.Name); ok {
			errs.Add(w.Pos, "network %s has the name of the node at %s; each has a namespace of its own", w.Name, n.Pos)
		}
	}
	l.checkPorts(&errs)
	checkSysctls(&errs, l.Sysctls)
	for _, e := range l.Nodes {
		l.checkName(&errs, "node", e.Name, e.Pos)
		l.checkNode(&errs, e.Name, e.Value)
	}
	seen := make(map[string]string)
	for _, e := range l.VirtualServices {
		l.checkName(&errs, "virtual service", e.Name, e.Pos)
		if n, ok := l.Nodes.Get(e.Name); ok {
			errs.Add(e.Pos, "virtual service %s has the name of the node at %s; which of them would be asked?", e.Name, n.Pos)
		}
		l.checkService(&errs, e.Value)
		if a := e.Value.Address; a.FWMark == 0 && !a.Addr.IsValid() {
			continue // it could not be read
		}
		for _, d := range e.Value.Directors {
			at := d + " " + e.Value.service().Name()
			if first, twice := seen[at]; twice {
				errs.Add(e.Pos, "virtual service %s has the address of %s", e.Name, first)
			}
			seen[at] = e.Name
		}
	}
	l.checkRules(&errs)
	return errs
}

func (l *Lab) checkName(errs *source.List, what, s string, pos source.Pos) {
	if !validName(s) {
		errs.Add(pos, "%s name %q: %s", what, s, nameRule)
	}
	if slices.Contains(reservedNames(), s) {
		errs.Add(pos, "%s name %q: that word has a meaning of its own in a lab file", what, s)
	}
}

// reservedNames mean something where a name may stand: every node
// (flush_neighbours), each node's own address (arp_requests).
func reservedNames() []string { return []string{"all", "own"} }

// maxPorts is how many ports a bridge takes: BR_MAX_PORTS (1 << 10 in
// net/bridge/br_private.h) less port number 0.
const maxPorts = 1<<10 - 1

// checkPorts counts what is plugged into each network, by the names of the
// switch's ends.
func (l *Lab) checkPorts(errs *source.List) {
	type port struct{ network, name string }
	ports := make(map[port]source.Pos)
	count := make(map[string]int)
	for _, e := range l.Nodes {
		for _, k := range e.Value.Links {
			p := port{k.Value.Network, topology.PortName(e.Name, k.Name)}
			if first, twice := ports[p]; twice {
				errs.Add(k.Pos, "the switch's end of %s's %s is called %s, as that of the link at %s is; rename one of the nodes", e.Name, k.Name, p.name, first)
			}
			ports[p] = k.Pos
			if count[p.network]++; count[p.network] == maxPorts+1 {
				errs.Add(k.Pos, "network %s has more than %d links, the most that a Linux bridge takes; use a second network", p.network, maxPorts)
			}
		}
	}
}

func checkSysctls(errs *source.List, m source.Map[string]) {
	for _, e := range m {
		if _, err := topology.SysctlPath(e.Name); err != nil {
			errs.Add(e.Pos, "%v", err)
		}
		if strings.TrimSpace(e.Value) == "" || strings.ContainsAny(e.Value, "\n\x00") {
			errs.Add(e.Pos, "sysctl %s: a value is one line of text, found %q", e.Name, e.Value)
		}
	}
}

// checkDotted refuses keys in which the dots of a device's name would be taken for
// those between the parts.
func checkDotted(errs *source.List, n Node) {
	for _, e := range n.Sysctls {
		for _, k := range n.Links {
			if strings.Contains(k.Name, ".") && strings.Contains(e.Name, "."+k.Name+".") {
				before, after, _ := strings.Cut(e.Name, k.Name)
				errs.Add(e.Pos, "sysctl %s: device %s has a dot in its name, so that the parts have slashes between: %s",
					e.Name, k.Name, strings.ReplaceAll(before, ".", "/")+k.Name+strings.ReplaceAll(after, ".", "/"))
			}
		}
	}
}

func (l *Lab) checkNode(errs *source.List, nodeName string, n Node) {
	for _, link := range n.Links {
		if !validDevice(link.Name) || slices.Contains(ownDevices(), link.Name) || strings.HasPrefix(link.Name, "tunl") {
			errs.Add(link.Pos, "a link cannot be called %q: %s, and not as a device that is there anyway: %s",
				link.Name, deviceRule, strings.Join(ownDevices(), ", "))
		}
		if _, ok := l.Networks.Get(link.Value.Network); !ok {
			errs.Add(link.Value.Pos, "%s", source.Unknown("network", link.Value.Network, l.Networks.Names()))
		}
	}
	for _, d := range n.Devices {
		if !slices.Contains(ownDevices(), d.Name) {
			errs.Add(d.Pos, "%s", source.Unknown("device", d.Name, ownDevices()))
		}
	}
	for _, r := range n.Routes {
		if r.Device != "" && !n.has(r.Device) {
			errs.Add(r.Pos, "%s", source.Unknown("device", r.Device, n.deviceNames()))
		}
	}
	checkSysctls(errs, n.Sysctls)
	checkDotted(errs, n)
	l.checkSync(errs, nodeName, n)
	checkServe(errs, nodeName, n.Serve)
	checkKeepalived(errs, nodeName, n)
	l.checkStorage(errs, nodeName, n)
}

// ownDevices are those that a node has by itself.
func ownDevices() []string {
	return append([]string{"lo"}, slices.Sorted(maps.Keys(tunnelDevices()))...)
}

// has reports whether the node has a device: a link, lo, or that of a tunnel.
func (n Node) has(dev string) bool { return slices.Contains(n.deviceNames(), dev) }

func (n Node) deviceNames() []string { return append(n.Links.Names(), ownDevices()...) }

func (l *Lab) checkService(errs *source.List, v *VirtualService) {
	whole := l.checkAddress(errs, v)
	if v.Scheduler != "" && !slices.Contains(schedulers(), v.Scheduler) {
		errs.Add(v.SchedulerPos, "%s", source.Unknown("scheduler", v.Scheduler, schedulers()))
	}
	if v.Directors != nil && len(v.Directors) == 0 {
		errs.Add(v.Pos, "directors is an empty list")
	}
	for _, d := range v.Directors {
		l.checkNodeRef(errs, v.Pos, d)
		l.checkPlacement(errs, v.VIP.Directors, d)
	}
	// One machine may serve by several ports, or by several addresses.
	type place struct {
		node    string
		address netip.Addr
		port    uint16
	}
	seen := make(map[place]bool)
	carried := false
	for _, r := range v.RealServers {
		l.checkNodeRef(errs, r.Pos, r.Node)
		l.checkPlacement(errs, v.VIP.RealServers, r.Node)
		at := place{r.Node, r.Address, r.Port}
		if seen[at] {
			errs.Add(r.Pos, "real server %s is here a second time", r.Node)
		}
		seen[at] = true
		carried = carried || v.methodOf(r).Carried() && v.vip().Is4()
		if whole {
			l.checkServer(errs, v, r)
		}
		if slices.Contains(v.Directors, r.Node) {
			errs.Add(r.Pos, "real server %s is a director of the same service", r.Node)
		}
	}
	l.checkManager(errs, v)
	if s := v.ARPSuppression; s != nil && len(s.Parts) > 0 && v.vip().Is6() {
		errs.Add(s.Pos, "arp_suppression: IPv6 has no ARP; a virtual IP on lo is not answered for, so leave this out")
	}
	if carried && v.ARPSuppression == nil {
		errs.Add(v.Pos, "arp_suppression is missing: the real servers carry the virtual IP, so say what keeps them from answering ARP for it: sysctl, arptables, or none")
	}
}

// checkAddress looks at the service itself, by what IPVS would say to it.
func (l *Lab) checkAddress(errs *source.List, v *VirtualService) bool {
	before := len(*errs)
	switch {
	case v.Address.FWMark != 0 && len(v.VIPs) == 0:
		errs.Add(v.Pos, "vips is missing: a service by firewall mark has no address of its own, so say which the directors carry")
	case v.Address.FWMark == 0 && len(v.VIPs) > 0:
		errs.Add(v.Pos, "vips belongs to a service by firewall mark; this one has its address")
	}
	for _, vip := range v.VIPs {
		if !plainAddr(vip) || vip.Is4() != v.VIPs[0].Is4() {
			errs.Add(v.Pos, "vips: wanted plain addresses of one family, found %s", vip)
		}
	}
	for _, p := range []*Placement{v.VIP.Directors, v.VIP.RealServers} {
		if p != nil && v.vip().IsValid() && p.Bits > v.vip().BitLen() {
			errs.Add(p.Pos, "a prefix length of %d is too long for %s", p.Bits, v.vip())
		}
	}
	if len(*errs) > before || !plainAddr(v.vip()) {
		return false
	}
	if v.Address.Protocol == 0 && v.Address.FWMark == 0 {
		return false // it could not be read
	}
	if v.Scheduler == "" || slices.Contains(schedulers(), v.Scheduler) {
		errs.AddError(v.Pos, v.service().Validate())
	}
	return len(*errs) == before
}

// checkServer looks at a real server as each director is told of it.
func (l *Lab) checkServer(errs *source.List, v *VirtualService, r RealServer) {
	m := v.methodOf(r)
	if r.Address.IsValid() && !plainAddr(r.Address) || r.weight() < 0 || r.weight() > ipvs.MaxWeight {
		return // said already
	}
	errs.AddError(r.Pos, checkSNAT(v, m))
	if m.Forward != ipvs.NAT && r.Port != 0 && r.Port != v.Address.Addr.Port() {
		errs.Add(r.Pos, "port %d: by %s packets keep the service's port", r.Port, m.Title)
	}
	for _, d := range v.Directors {
		if _, ok := l.Nodes.Get(d); !ok {
			continue
		}
		if addr, err := l.realServerAddress(d, v, r); err == nil {
			errs.AddError(r.Pos, v.destination(r, addr).Validate(v.service()))
		}
	}
}

// Schedulers are the schedulers that a lab may name.
func Schedulers() []string { return schedulers() }

// schedulers are those of ipvsadm(8).
func schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}
}

func (l *Lab) checkPlacement(errs *source.List, p *Placement, node string) {
	n, ok := l.Nodes.Get(node)
	if p == nil || p.Device == "" || !ok || n.has(p.Device) {
		return
	}
	errs.Add(p.Pos, "node %s: %s", node, source.Unknown("device", p.Device, n.deviceNames()))
}

func (l *Lab) checkNodeRef(errs *source.List, pos source.Pos, node string) bool {
	if _, ok := l.Nodes.Get(node); !ok {
		errs.Add(pos, "%s", source.Unknown("node", node, l.Nodes.Names()))
		return false
	}
	return true
}

// refs looks up the names that a check uses.
func (l *Lab) refs(refs []assert.Ref) source.List {
	var errs source.List
	for _, r := range refs {
		switch r.Kind {
		case assert.NodeRef:
			l.checkNodeRef(&errs, r.Pos, r.Name)
		case assert.AddressRef:
			if _, err := l.Resolve(r.Name); err != nil {
				errs.Add(r.Pos, "%v", err)
			}
		}
	}
	return errs
}

// actionRefs looks up the names that an action uses and fills in what the lab
// leaves to be worked out.
func (l *Lab) actionRefs(a *Action) source.List {
	var errs source.List
	from := func(s *string) {
		if *s == "" {
			clients := l.Clients()
			if len(clients) != 1 {
				errs.Add(a.Pos, "from is missing: there are %d nodes that neither balance nor serve", len(clients))
				return
			}
			*s = clients[0]
		}
		l.checkNodeRef(&errs, a.Pos, *s)
	}
	switch {
	case a.Request != nil:
		l.requestRefs(&errs, a.Pos, a.Request)
	case a.Release != nil:
		if a.Release.Node != "" {
			l.checkNodeRef(&errs, a.Release.Pos, a.Release.Node)
		}
	case a.Daemon != nil:
		l.daemonRefs(&errs, a.Daemon)
	case a.Ping != nil:
		from(&a.Ping.From)
		addr, err := l.Resolve(a.Ping.To)
		errs.AddError(a.Ping.Pos, err)
		a.Ping.Addr = addr
	case a.Run != nil:
		l.checkNodeRef(&errs, a.Run.Pos, a.Run.Node)
	case a.Write != nil:
		l.checkNodeRef(&errs, a.Write.Pos, a.Write.Node)
	case a.Save != nil:
		l.checkNodeRef(&errs, a.Save.Pos, a.Save.Node)
	case a.Restore != nil:
		l.checkNodeRef(&errs, a.Restore.Pos, a.Restore.Node)
	case a.Systemctl != nil:
		l.checkNodeRef(&errs, a.Systemctl.Pos, a.Systemctl.Node)
	case a.Zero != nil:
		for _, n := range a.Zero {
			l.checkNodeRef(&errs, a.Pos, n)
		}
	case a.Flush != nil:
		for _, n := range a.Flush {
			l.checkNodeRef(&errs, a.Pos, n)
		}
	}
	return errs
}

func (l *Lab) linkRefs(c *LinkChange) source.List {
	var errs source.List
	for _, node := range c.Nodes {
		if !l.checkNodeRef(&errs, c.Pos, node) {
			continue
		}
		n, _ := l.Nodes.Get(node)
		if _, ok := n.Links.Get(c.Device); !ok {
			errs.Add(c.Pos, "node %s: %s", node, source.Unknown("link", c.Device, n.Links.Names()))
		}
	}
	return errs
}
