package tools

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// names turns addresses and ports into names and back by the node's /etc/hosts
// and /etc/services, and by nothing else: a lab has no DNS, and nobody shall
// wait for one.
type names struct {
	hosts map[string]netip.Addr // the first of each name
	addrs map[netip.Addr]string // the first of each address
	ports map[string]uint16     // "http/tcp"
	of    map[string]string     // "80/tcp"
}

// readNames reads both files; one that is not there has no names.
func readNames() *names {
	hosts, _ := os.ReadFile("/etc/hosts")
	services, _ := os.ReadFile("/etc/services")
	return parseNames(string(hosts), string(services))
}

func parseNames(hosts, services string) *names {
	n := &names{map[string]netip.Addr{}, map[netip.Addr]string{}, map[string]uint16{}, map[string]string{}}
	for words := range entries(hosts) {
		addr, err := netip.ParseAddr(words[0])
		if err != nil || len(words) < 2 {
			continue
		}
		if _, there := n.addrs[addr]; !there {
			n.addrs[addr] = words[1]
		}
		for _, name := range words[1:] {
			if _, there := n.hosts[name]; !there {
				n.hosts[name] = addr
			}
		}
	}
	for words := range entries(services) {
		if len(words) < 2 {
			continue
		}
		number, protocol, _ := strings.Cut(words[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		if _, there := n.of[words[1]]; !there {
			n.of[words[1]] = words[0]
		}
		for i, name := range words {
			if _, there := n.ports[name+"/"+protocol]; i != 1 && !there {
				n.ports[name+"/"+protocol] = uint16(port)
			}
		}
	}
	return n
}

// entries are the words of each line that has any, without comments.
func entries(text string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			if words := strings.Fields(line); len(words) > 0 && !yield(words) {
				return
			}
		}
	}
}

// host finds the address of a name or of an address in letters; v6 says which
// family a name is wanted in.
func (n *names) host(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), true
	}
	a, ok := n.hosts[text]
	return a, ok
}

// port finds a port by number or by name.
func (n *names) port(text, protocol string) (uint16, bool) {
	if p, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint16(p), true
	}
	p, ok := n.ports[text+"/"+protocol]
	return p, ok
}

// addrName is the name of an address, or the address.
func (n *names) addrName(a netip.Addr) string {
	if name, ok := n.addrs[a]; ok {
		return name
	}
	return a.String()
}

// portName is the name of a port, or its number.
func (n *names) portName(p uint16, protocol string) string {
	number := strconv.Itoa(int(p))
	if name, ok := n.of[number+"/"+protocol]; ok {
		return name
	}
	return number
}
