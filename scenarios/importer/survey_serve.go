package importer

import (
	"slices"
	"strconv"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// endpoint is a port of a node that packets of a service come to.
type endpoint struct {
	node     string
	protocol string // "" for DNS, which one server answers by UDP and TCP
	port     uint16
}

// speech groups endpoints that must speak alike, since one service leads to all
// of them: a forest, as of union-find.
type speech struct {
	parent map[endpoint]endpoint
	// word is the server of a group, by its root: the first that a service gives
	// reason for.
	word map[endpoint]string
}

func (g *speech) root(e endpoint) endpoint {
	for {
		up, ok := g.parent[e]
		if !ok || up == e {
			return e
		}
		if upper, ok := g.parent[up]; ok {
			g.parent[e] = upper // the way is shorter next time
		}
		e = up
	}
}

// join makes two endpoints speak alike.
func (g *speech) join(a, b endpoint) {
	a, b = g.root(a), g.root(b)
	if a == b {
		return
	}
	g.parent[b] = a
	if g.word[a] == "" || g.word[b] == serveDNS {
		if w := g.word[b]; w != "" {
			g.word[a] = w
		}
	}
}

// serveDNS is the server that listens by two protocols at once.
const serveDNS = "dns"

// makeServe chooses the servers of the nodes, and the protocol that requests to
// each service speak.
func (s *surveyor) makeServe() {
	dns := make(map[endpoint]bool)
	for _, p := range s.w.services {
		s.endpoints(p, func(e endpoint) {
			if hint(p) == serveDNS {
				dns[endpoint{node: e.node, port: e.port}] = true
			}
		})
	}
	g := &speech{parent: make(map[endpoint]endpoint), word: make(map[endpoint]string)}
	firsts := make([]endpoint, len(s.w.services))
	var order []endpoint
	for i, p := range s.w.services {
		s.endpoints(p, func(e endpoint) {
			if bare := (endpoint{node: e.node, port: e.port}); dns[bare] {
				e = bare
			}
			if _, known := g.parent[e]; !known {
				g.parent[e] = e
				order = append(order, e)
			}
			r := g.root(e)
			if w := hint(p); w != "" && g.word[r] == "" {
				g.word[r] = w
			}
			if e.protocol == "" {
				g.word[r] = serveDNS
			}
			if firsts[i].port == 0 {
				firsts[i] = e
			}
			g.join(firsts[i], e)
		})
	}
	if s.w.managedBy == managedByKeepalived {
		order = append(order, s.checkedPorts(g, dns)...)
	}
	serve := make(map[string][]string)
	for _, e := range order {
		serve[e.node] = append(serve[e.node], serveText(g.wordOf(e), e.port))
	}
	for _, m := range s.w.nodes {
		m.serve = serve[m.name]
	}
	for i, p := range s.w.services {
		if p.client = p.protocol; firsts[i].port != 0 {
			p.client = g.wordOf(firsts[i])
		}
		p.comment = joinText(p.comment, plainComment(p))
	}
}

// checkedPorts are the ports besides those of services to which the real
// keepalived's checkers connect.
func (s *surveyor) checkedPorts(g *speech, dns map[endpoint]bool) []endpoint {
	var out []endpoint
	for _, p := range s.w.services {
		s.each(p, func(h *host, d *server) {
			for _, k := range d.Checkers {
				e := endpoint{h.node.name, "tcp", k.Port}
				if k.Kind == "UDP_CHECK" || k.Kind == "DNS_CHECK" {
					e.protocol = "udp"
				}
				if _, known := g.parent[e]; known || !k.Passable || k.Port == 0 || dns[endpoint{node: e.node, port: e.port}] {
					continue
				}
				g.parent[e] = e
				if k.Kind == "HTTP_GET" {
					g.word[e] = "http"
				}
				out = append(out, e)
			}
		})
	}
	return out
}

// wordOf is the server that answers at an endpoint.
func (g *speech) wordOf(e endpoint) string {
	if w := g.word[g.root(e)]; w != "" {
		return w
	}
	return e.protocol
}

// endpoints calls f for each port that packets of a service come to.
func (s *surveyor) endpoints(p *placed, f func(endpoint)) {
	asked := p.marked
	if p.FWMark == 0 {
		asked = []Probe{{Protocol: p.Protocol, Addr: p.probe}}
	}
	s.each(p, func(h *host, d *server) {
		for _, a := range asked {
			port := a.Addr.Port()
			if own := d.Addr.Port(); own != 0 && d.Forward == ipvs.NAT {
				port = own
			}
			f(endpoint{h.node.name, a.Protocol.String(), port})
		}
	})
}

// serveText is a server as a lab file has it: "http", "http 8080".
func serveText(word string, port uint16) string {
	usual := map[string]uint16{"http": 80, "smtp": 25, serveDNS: 53}
	if usual[word] == port {
		return word
	}
	return word + " " + strconv.Itoa(int(port))
}

// hint is the server that a service gives reason for, "" where any will do: by
// its checkers, its own port, or that of its real servers.
func hint(p *placed) string {
	for _, d := range p.servers {
		for _, c := range d.Checkers {
			if w := map[string]string{"HTTP_GET": "http", "SMTP_CHECK": "smtp", "DNS_CHECK": serveDNS}[c.Kind]; w != "" && speaks(w, p.protocol) {
				return w
			}
		}
	}
	w := byPort(p.probe.Port(), p.protocol)
	if w == "" && len(p.servers) > 0 && !secured(p.probe.Port()) {
		w = byPort(p.servers[0].Addr.Port(), p.protocol)
	}
	return w
}

// speaks reports whether a server listens by a protocol.
func speaks(word, protocol string) bool {
	return protocol == "tcp" || protocol == "udp" && word == serveDNS
}

// byPort is the server that is usual at a port.
func byPort(port uint16, protocol string) string {
	switch {
	case protocol == "sctp":
		return ""
	case port == 53:
		return serveDNS
	case protocol != "tcp":
		return ""
	case port == 25, port == 587:
		return "smtp"
	case slices.Contains([]uint16{80, 81, 3000, 5000, 8000, 8008, 8080, 8081, 8082, 8088, 8888, 9090}, port):
		return "http"
	}
	return ""
}

// secured reports whether a port is of a protocol that begins with TLS.
func secured(port uint16) bool {
	return slices.Contains([]uint16{443, 465, 636, 853, 989, 990, 993, 995, 5061, 6443, 8443}, port)
}

// plainComment says what a service is tried by, where that is less than its port
// promises.
func plainComment(p *placed) string {
	switch port := p.probe.Port(); {
	case p.client == "tcp" && secured(port):
		return "Tried by plain TCP: the lab's servers speak no TLS, and IPVS does not look at it."
	case p.client == "tcp" && port == 21:
		return "Tried by plain TCP: FTP's data connections need more than this service."
	}
	return ""
}

// joinText puts two comments into one.
func joinText(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}
