package importer

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// writeHead writes the lab file up to its steps.
func (w *world) writeHead(p *page) {
	w.writeTitle(p)
	p.comment(0, "A service that fails does not keep the next ones from being tried.")
	p.line(0, source.Pos{}, "keep_going: true")
	p.space()
	p.line(0, source.Pos{}, "networks:")
	for _, n := range w.networks {
		p.comment(1, n.comment)
		p.line(1, n.pos, "%s: %s", n.name, prefixesText(n))
	}
	p.space()
	p.line(0, source.Pos{}, "nodes:")
	for _, m := range w.nodes {
		w.writeNode(p, m)
	}
	p.space()
	p.line(0, source.Pos{}, "virtual_services:")
	for i, s := range w.services {
		if i > 0 {
			p.space()
		}
		w.writeService(p, s)
	}
}

// writeTitle writes what the lab is.
func (w *world) writeTitle(p *page) {
	file := "the configuration"
	if len(w.config.Files) > 0 {
		file = filepath.Base(w.config.Files[0].Name)
	}
	servers := make(map[string]bool)
	for _, s := range w.services {
		for _, d := range s.servers {
			servers[d.Addr.Addr().String()] = true
		}
	}
	p.line(0, source.Pos{}, "title: %s", blockScalar(fmt.Sprintf("%s: %s with %s", file, count(len(w.services), "virtual service"), count(len(servers), "real server"))))
	p.line(0, source.Pos{}, "about: |")
	what := "ipvsadm rules"
	if w.config.Kind == config.Keepalived {
		what = "a configuration of keepalived's"
	}
	text := fmt.Sprintf("Drafted from %s, %s: each virtual service, tried by a client. What a line came from stands at its end, as FILE:LINE.", file, what)
	if w.router != "" {
		text += " A router stands between the client and the rest, so that replies of direct routing and tunnelling find their way past the director."
	}
	if len(w.clients) > 1 {
		text += fmt.Sprintf(" There are %d clients, since some real servers must answer one service through the director and another past it, and tell them apart by who asked.", len(w.clients))
	}
	for _, line := range wrap(text, 80) {
		p.line(1, source.Pos{}, "%s", line)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// prefixesText is a network's prefix, or a list of them.
func prefixesText(n network) string {
	var words []string
	for _, q := range n.prefixes {
		words = append(words, scalar(q.String()))
	}
	if len(words) == 1 {
		return blockScalar(n.prefixes[0].String())
	}
	return flowList(words)
}

// flowList is a list in flow style of items that are YAML already.
func flowList(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

// flowMap is a mapping in flow style.
func flowMap(pairs ...string) string { return "{" + strings.Join(pairs, ", ") + "}" }

// longestLine is how long a node may be and stay on one line, in bytes.
const longestLine = 150

// writeNode writes a node: on one line, where it is short and comes from one
// place.
func (w *world) writeNode(p *page, m *machine) {
	p.comment(1, m.comment)
	if text := nodeText(m); len(text) <= longestLine && m.origins() <= 1 && len(m.iptables)+len(m.ip6tables) == 0 && (m.name != w.director || w.managedBy == "") {
		p.line(1, m.origin(), "%s: %s", m.name, text)
		return
	}
	p.line(1, source.Pos{}, "%s:", m.name)
	p.line(2, source.Pos{}, "links:")
	for _, k := range m.links {
		writeLink(p, k)
	}
	if len(m.routes) > 0 && len(strings.Join(m.routes, ", ")) < longestLine {
		p.line(2, source.Pos{}, "routes: %s", flowList(scalars(m.routes)))
	} else if len(m.routes) > 0 {
		p.line(2, source.Pos{}, "routes:")
		for _, r := range m.routes {
			p.line(2, source.Pos{}, "- %s", blockScalar(r))
		}
	}
	if len(m.sysctls) > 0 {
		p.line(2, source.Pos{}, "sysctls: %s", sysctlsText(m))
	}
	writeRules(p, "iptables", m.iptables)
	writeRules(p, "ip6tables", m.ip6tables)
	if len(m.serve) > 0 {
		p.line(2, source.Pos{}, "serve: %s", flowList(scalars(m.serve)))
	}
	if m.name == w.director && w.managedBy == managedByKeepalived {
		w.writeManaged(p, 2)
	}
}

func writeRules(p *page, key string, rules []machineRule) {
	if len(rules) == 0 {
		return
	}
	p.line(2, source.Pos{}, "%s:", key)
	for _, r := range rules {
		p.line(2, r.pos, "- %s", blockScalar(r.text))
	}
}

// origins counts the places of the configuration that a node comes from.
func (m *machine) origins() int {
	n := len(m.iptables) + len(m.ip6tables)
	for _, k := range m.links {
		for _, a := range k.addresses {
			if a.pos.IsValid() {
				n++
			}
		}
	}
	return n
}

// origin is the one place that a node comes from.
func (m *machine) origin() source.Pos {
	for _, k := range m.links {
		for _, a := range k.addresses {
			if a.pos.IsValid() {
				return a.pos
			}
		}
	}
	return source.Pos{}
}

// nodeText is a whole node in flow style.
func nodeText(m *machine) string {
	var links []string
	for _, k := range m.links {
		links = append(links, k.device+": "+scalar(linkText(k)))
	}
	parts := []string{"links: " + flowMap(links...)}
	if len(m.routes) > 0 {
		parts = append(parts, "routes: "+flowList(scalars(m.routes)))
	}
	if len(m.sysctls) > 0 {
		parts = append(parts, "sysctls: "+sysctlsText(m))
	}
	if len(m.serve) > 0 {
		parts = append(parts, "serve: "+flowList(scalars(m.serve)))
	}
	return flowMap(parts...)
}

func linkText(k link) string {
	words := make([]string, 1, 1+len(k.addresses))
	words[0] = k.network
	for _, a := range k.addresses {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

func sysctlsText(m *machine) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(m.sysctls)) {
		pairs = append(pairs, key+": "+m.sysctls[key])
	}
	return flowMap(pairs...)
}

// writeLink writes a link of a node: one line, or where addresses come from
// different places a line for each.
func writeLink(p *page, k link) {
	said := 0
	for _, a := range k.addresses {
		if a.pos.IsValid() {
			said++
		}
	}
	if said <= 1 && len(k.addresses) <= clientAddresses {
		var pos source.Pos
		for _, a := range k.addresses {
			if a.pos.IsValid() {
				pos = a.pos
			}
		}
		p.line(3, pos, "%s: %s", k.device, blockScalar(linkText(k)))
		return
	}
	p.line(3, source.Pos{}, "%s:", k.device)
	p.line(4, source.Pos{}, "network: %s", k.network)
	p.line(4, source.Pos{}, "addresses:")
	for _, a := range k.addresses {
		p.line(4, a.pos, "- %s", blockScalar(a.String()))
	}
}

// writeService writes a virtual service.
func (w *world) writeService(p *page, s *placed) {
	none := source.Pos{}
	p.comment(1, s.comment)
	p.line(1, none, "%s:", s.name)
	if s.FWMark != 0 {
		p.line(2, s.Pos, "address: fwmark %d", s.FWMark)
		var vips []string
		for _, a := range s.vips {
			vips = append(vips, scalar(a.String()))
		}
		p.line(2, none, "vips: %s", flowList(vips))
	} else {
		p.line(2, s.Pos, "address: %s", blockScalar(s.Protocol.String()+" "+s.Addr.String()))
	}
	p.line(2, none, "directors: [%s]", w.director)
	p.line(2, s.Places["scheduler"], "scheduler: %s", s.Normal().Scheduler)
	if len(s.Flags) > 0 {
		p.line(2, s.Places["flags"], "scheduler_flags: %s", flowList(scalars(s.Flags)))
	}
	if s.Persistent() {
		p.line(2, s.Place("persistence"), "persistence: %s", labPersistence(s.Service.Service))
	}
	if s.OnePacket {
		p.line(2, s.Place("one_packet"), "one_packet: true")
	}
	if w.managedBy != "" {
		p.line(2, none, "managed_by: %s", w.managedBy)
	}
	main := s.forwarding()
	p.line(2, s.Place("forwarding"), "forwarding: %s", main)
	switch {
	case w.managedBy == managedByKeepalived && w.managedByVRRP(s):
		p.line(2, w.carriedAt(s), "vip: {directors: none}") // VRRP brings them
	case s.directorVIP != "":
		p.line(2, w.carriedAt(s), "vip: {directors: %s}", s.directorVIP)
	}
	if s.suppressed() {
		p.line(2, none, "arp_suppression: sysctl")
	}
	if len(s.servers) == 0 {
		p.line(2, none, "real_servers: []")
		return
	}
	p.line(2, none, "real_servers:")
	for _, d := range s.servers {
		p.line(2, d.Pos, "- %s", s.serverText(d, main))
	}
	if w.managedBy == managedByKeepalived {
		p.managedSorry(s, main)
	}
}

// carriedAt is where the file says who carries a service's address.
func (w *world) carriedAt(s *placed) source.Pos {
	return w.carried[s.vips[0]].Pos
}

// labPersistence is a persistence as a lab file has it.
func labPersistence(s ipvs.Service) string {
	s = s.Normal()
	timeout := fmt.Sprintf("%ds", s.Timeout/time.Second)
	if s.Netmask == 0 && s.PE == "" {
		return timeout
	}
	parts := []string{"timeout: " + timeout}
	if s.Netmask != 0 {
		parts = append(parts, fmt.Sprintf("netmask: %d", s.Netmask))
	}
	if s.PE != "" {
		parts = append(parts, "engine: "+scalar(s.PE))
	}
	return flowMap(parts...)
}

// forwarding is the method of most of the service's real servers, in a lab
// file's words.
func (s *placed) forwarding() string {
	count := make(map[string]int)
	best := ""
	for _, d := range s.servers {
		word := forwardText(d.Destination)
		if count[word]++; best == "" || count[word] > count[best] {
			best = word
		}
	}
	switch {
	case best != "":
		return best
	case s.sorry != nil:
		return forwardText(s.sorry.Destination)
	}
	return ipvs.DR.String()
}

// forwardText is a forwarding method in a lab file's words.
func forwardText(d ipvs.Destination) string {
	if d.Forward != ipvs.TUN || d.TunType == ipvs.IPIP {
		return d.Forward.String()
	}
	words := []string{"tun", d.TunType.String()}
	if d.TunType == ipvs.GUE {
		words = append(words, strconv.Itoa(int(d.TunPort)))
	}
	switch d.TunFlags {
	case ipvs.Checksum:
		words = append(words, "csum")
	case ipvs.RemoteChecksum:
		words = append(words, "remcsum")
	}
	return strings.Join(words, " ")
}

// suppressed reports whether real servers carry an IPv4 address, for which they
// must not answer ARP.
func (s *placed) suppressed() bool {
	direct := func(d server) bool { return d.Forward != ipvs.NAT }
	return s.AddrFamily() == ipvs.IPv4 && (slices.ContainsFunc(s.servers, direct) || s.sorry != nil && direct(*s.sorry))
}

// serverText is a real server of a service: its node's name, or with more said
// of it a mapping.
func (s *placed) serverText(d server, main string) string {
	parts := []string{"node: " + d.node}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if d.Weight != 1 {
		add("weight: %d", d.Weight)
	}
	if d.address.IsValid() {
		add("address: %s", blockScalar(d.address.String()))
	}
	dest := d.For(s.Service.Service)
	if port := dest.Addr.Port(); port != s.Addr.Port() {
		add("port: %d", port)
	}
	if word := forwardText(d.Destination); word != main {
		add("forwarding: %s", word)
	}
	if d.Upper != 0 {
		add("upper_threshold: %d", d.Upper)
	}
	if d.Lower != 0 {
		add("lower_threshold: %d", d.Lower)
	}
	if len(parts) == 1 {
		return d.node
	}
	return flowMap(parts...)
}
