package importer

import (
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// namer gives out the names of networks, nodes and services, each once: a lab
// has them in one room.
type namer struct {
	taken map[string]bool
	next  map[string]int // by base, the number that was given out last
}

func newNamer() *namer {
	// Words that mean something of their own where a name may stand.
	return &namer{taken: map[string]bool{"all": true, "own": true}, next: make(map[string]int)}
}

// take gives out a name, which is known to be free.
func (n *namer) take(name string) string {
	n.taken[name] = true
	return name
}

// unique is base, or base2 and so on.
func (n *namer) unique(base string) string {
	if !n.taken[base] {
		return n.take(base)
	}
	return n.numbered(base, 2)
}

// numbered is base1 and so on, beginning with first.
func (n *namer) numbered(base string, first int) string {
	dash := ""
	if c := base[len(base)-1]; '0' <= c && c <= '9' {
		dash = "-" // web1-1, not web11
	}
	n.next[base] = max(n.next[base], first-1)
	for {
		n.next[base]++
		if name := base + dash + strconv.Itoa(n.next[base]); !n.taken[name] {
			return n.take(name)
		}
	}
}

// longestBase and longestName leave room for more behind a name of at most 31
// characters (scenarios' rule): the end of an address, a number.
const (
	longestBase = 20
	longestName = 26
)

// labName makes a word into a name of a lab's: small letters, digits and
// dashes, beginning with a letter. It is empty where nothing is left.
func labName(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	name := strings.TrimLeft(b.String(), "0123456789-")
	return strings.Trim(name[:min(len(name), longestBase)], "-")
}

// known is what a person calls the usual service of a port, and its servers.
type known struct{ service, server string }

// knownPorts are the services by port whose names say more than a number
// (RFC 6335's registry, and custom).
func knownPorts() map[uint16]known {
	return map[uint16]known{
		21: {"ftp", "ftp"}, 22: {"ssh", "ssh"}, 25: {"smtp", "mail"}, 53: {"dns", "dns"}, 67: {"dhcp", "dhcp"}, 69: {"tftp", "tftp"},
		80: {"web", "web"}, 88: {"kerberos", "auth"}, 110: {"pop3", "mail"}, 123: {"ntp", "ntp"}, 143: {"imap", "mail"},
		389: {"ldap", "ldap"}, 443: {"https", "web"}, 465: {"smtps", "mail"}, 514: {"syslog", "log"}, 587: {"submission", "mail"},
		636: {"ldaps", "ldap"}, 853: {"dns-tls", "dns"}, 993: {"imaps", "mail"}, 995: {"pop3s", "mail"}, 1433: {"mssql", "db"},
		1521: {"oracle", "db"}, 1812: {"radius", "auth"}, 3128: {"proxy", "proxy"}, 3306: {"mysql", "db"}, 5060: {"sip", "sip"},
		5432: {"postgres", "db"}, 5672: {"amqp", "mq"}, 6379: {"redis", "cache"}, 6443: {"kube", "kube"}, 8080: {"web-8080", "web"},
		8443: {"https-8443", "web"}, 9200: {"search", "search"}, 11211: {"memcached", "cache"}, 27017: {"mongo", "db"},
	}
}

// serviceBase is the short name of a service, which others may share.
func serviceBase(p *placed) string {
	if name := labName(p.Group); name != "" {
		return name
	}
	if p.FWMark != 0 {
		return "mark-" + strconv.FormatUint(uint64(p.FWMark), 10)
	}
	port := p.Addr.Port()
	if k, ok := knownPorts()[port]; ok {
		return k.service
	}
	if port == 0 {
		return "every-port"
	}
	return p.Protocol.String() + "-" + strconv.Itoa(int(port))
}

// serverBase is what the real servers of a service are called, less their
// numbers.
func serverBase(p *placed) string {
	port := p.Addr.Port()
	if port == 0 && len(p.Servers) > 0 {
		port = p.Servers[0].Addr.Port()
	}
	if k, ok := knownPorts()[port]; ok {
		return k.server
	}
	if name := labName(p.Group); name != "" {
		return name
	}
	return "srv"
}

// nameServices gives each service the shortest name that tells it from the
// others: web, or web-100 and web-101 by the ends of the addresses.
func nameServices(n *namer, services []*placed) {
	same := make(map[string][]*placed)
	var order []string
	for _, p := range services {
		base := serviceBase(p)
		if same[base] == nil {
			order = append(order, base)
		}
		same[base] = append(same[base], p)
	}
	for _, base := range order {
		list := same[base]
		if len(list) == 1 {
			list[0].name = n.unique(base)
			continue
		}
		depths := tellingDepths(list)
		for i, p := range list {
			name := base + nameEnd(p, depths[i])
			// unique tells apart what is alike once it is cut.
			p.name = n.unique(strings.TrimRight(name[:min(len(name), longestName)], "-"))
		}
	}
}

// deepest is the depth of nameEnd at which everything is said.
const deepest = 9

// tellingDepths are for each service the least depth at which the end of its name
// is no other's.
func tellingDepths(list []*placed) []int {
	depths := make([]int, len(list))
	for i := range depths {
		depths[i] = -1
	}
	for depth, left := 0, len(list); depth <= deepest && left > 0; depth++ {
		seen := make(map[string]int, len(list))
		for _, p := range list {
			seen[nameEnd(p, depth)]++
		}
		for i, p := range list {
			if depths[i] < 0 && (seen[nameEnd(p, depth)] == 1 || depth == deepest) {
				depths[i] = depth
				left--
			}
		}
	}
	return depths
}

// nameEnd is what stands behind a service's short name: with depth 0 its
// protocol, then the last parts of its address, then its port, too.
func nameEnd(p *placed, depth int) string {
	if p.FWMark != 0 {
		if p.Family == ipvs.IPv6 {
			return "-v6"
		}
		return ""
	}
	if depth == 0 {
		return "-" + p.Protocol.String()
	}
	addr := p.Addr.Addr()
	parts, end := strings.FieldsFunc(addr.String(), func(c rune) bool { return c == ':' || c == '.' }), ""
	if addr.Is6() {
		end = "-v6"
	}
	if len(parts) > 0 {
		end += "-" + strings.Join(parts[max(0, len(parts)-depth):], "-")
	}
	if depth == deepest {
		end += "-" + p.Protocol.String() + "-" + strconv.Itoa(int(p.Addr.Port()))
	}
	return end
}
