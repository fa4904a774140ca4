package ipvs

import (
	"net/netip"
	"slices"
)

// index finds services and real servers in a table while it is made, so that
// reading a large one takes no more than its lines do. A nil index has nothing,
// and all that is done to it is nothing.
type index struct {
	services map[serviceKey]int
	servers  map[serverKey]int
}

// serviceKey is what makes two services the Same.
type serviceKey struct {
	mark     uint32
	family   Family
	protocol Protocol
	addr     netip.AddrPort
}

// serverKey names a real server of a service.
type serverKey struct {
	serviceKey
	server netip.AddrPort
}

func newIndex() *index {
	return &index{services: make(map[serviceKey]int), servers: make(map[serverKey]int)}
}

func (s Service) key() serviceKey {
	if s.FWMark != 0 {
		return serviceKey{mark: s.FWMark, family: s.Family}
	}
	return serviceKey{protocol: s.Protocol, addr: s.Addr}
}

// addService takes in the last entry of a table.
func (x *index) addService(t Table) {
	if x != nil {
		x.services[t[len(t)-1].key()] = len(t) - 1
	}
}

// addServer takes in the last real server of an entry.
func (x *index) addServer(e Entry) {
	if x != nil {
		n := len(e.Destinations) - 1
		x.servers[serverKey{e.key(), e.Destinations[n].Addr}] = n
	}
}

// dropService forgets an entry, and tells those behind it, which are in the
// table no longer where they were.
func (x *index) dropService(gone Entry, behind Table) {
	if x == nil {
		return
	}
	delete(x.services, gone.key())
	for _, d := range gone.Destinations {
		delete(x.servers, serverKey{gone.key(), d.Addr})
	}
	for _, e := range behind {
		x.services[e.key()]--
	}
}

// dropServer forgets a real server of an entry, and tells those behind it.
func (x *index) dropServer(e Entry, gone Destination, behind []Destination) {
	if x == nil {
		return
	}
	delete(x.servers, serverKey{e.key(), gone.Addr})
	for _, d := range behind {
		x.servers[serverKey{e.key(), d.Addr}]--
	}
}

// clear forgets all.
func (x *index) clear() {
	if x != nil {
		clear(x.services)
		clear(x.servers)
	}
}

// find is the place of a service in the table, or -1.
func (b *builder) find(s Service) int {
	if b.index == nil {
		return slices.IndexFunc(b.table, func(e Entry) bool { return e.Same(s) })
	}
	if i, ok := b.index.services[s.key()]; ok {
		return i
	}
	return -1
}

// findServer is the place of a real server in an entry, or -1.
func (b *builder) findServer(entry int, d Destination) int {
	if b.index == nil {
		return slices.IndexFunc(b.table[entry].Destinations, func(o Destination) bool { return o.Addr == d.Addr })
	}
	if j, ok := b.index.servers[serverKey{b.table[entry].key(), d.Addr}]; ok {
		return j
	}
	return -1
}
