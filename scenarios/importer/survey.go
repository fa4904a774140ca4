package importer

import (
	"net/netip"
	"slices"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// survey works out the machines and networks that a configuration needs. What it
// had to assume is in the world's notes; what no lab can be, such as a director
// that is its own real server, is a source.List.
func survey(c *config.Config, o DraftOptions) (*world, error) {
	s := &surveyor{
		c: c, o: o, names: newNamer(),
		w:     &world{config: c, director: "director", carried: make(map[netip.Addr]config.Address), managedBy: o.ManagedBy},
		hosts: make(map[netip.Addr]*host), taken: make(map[netip.Addr]bool), inferred: make(map[netip.Prefix]*segment),
	}
	for _, name := range []string{"client", "director", "router"} {
		s.names.take(name)
	}
	s.readServices()
	s.readInstances()
	if err := s.errs.Err(); err != nil {
		return nil, err
	}
	s.guessMarks()
	s.findSegments()
	s.chooseShape()
	s.makeMarks()
	s.addFamilies()
	if err := s.errs.Err(); err != nil {
		return nil, err
	}
	s.choosePorts()
	nameServices(s.names, s.w.services)
	s.nameSegments()
	s.makeServers()
	s.chooseClients()
	s.makeRouter()
	s.makeDirector()
	s.makeServe()
	s.placeVIPs()
	s.finish()
	return s.w, s.errs.Err()
}

// surveyor is a survey under way.
type surveyor struct {
	c     *config.Config
	o     DraftOptions
	w     *world
	names *namer
	errs  source.List

	// hosts are the addresses of real servers, hostList the same in the order of
	// the file.
	hosts    map[netip.Addr]*host
	hostList []*host
	// taken are all addresses that are somebody's.
	taken map[netip.Addr]bool

	// speakers are the vrrp_instances whose own addresses the director carries.
	speakers []*config.Instance

	// segments are the networks of directors and real servers; known those
	// whose prefix was said, inferred the others by the prefix that an address
	// is taken to.
	segments []*segment
	known    []*segment
	inferred map[netip.Prefix]*segment
	// bits are the lengths of the prefixes of inferred networks, IPv4 and IPv6.
	bits [2]int
	// wide are inferred networks that were widened.
	wide []netip.Prefix

	shape shape
	// home is where the client side meets the director, by family: the client
	// itself, or the router.
	home [2]*segment
	// askers are the networks of clients that stand behind the router.
	askers []*segment
	// devices are the names of the director's.
	devices *devices
	// pools are where real servers share nodes.
	pools map[poolKey]*pool
}

// host is one address of a real server.
type host struct {
	addr netip.Addr
	pos  source.Pos // its first appearance
	seg  *segment
	base string
	// nat says that a service reaches it by address translation, direct that
	// one does so by DR or TUN, dr that it is by DR.
	nat, direct, dr bool
	// listed says that it is a real server, not a sorry server alone.
	listed bool
	// cross says that a tunnel brings it packets of the other family.
	cross bool
	// solo says that it cannot share a node.
	solo bool
	// services are those that it serves, by their numbers.
	services []int
	node     *node
}

// family is the index of an address's family: 0 for IPv4, 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// readServices looks at who is who, and at what cannot be.
func (s *surveyor) readServices() {
	if len(s.c.Services) == 0 {
		s.errs.Add(s.file(), "no virtual service is in it, so that there is nothing to try")
		return
	}
	for _, a := range s.c.Addresses {
		addr := a.Prefix.Addr()
		if _, twice := s.w.carried[addr]; !twice {
			s.w.carried[addr] = a
		}
		s.taken[addr] = true
	}
	first := make(map[string]source.Pos, len(s.c.Services))
	vips := make(map[netip.Addr]*config.Service)
	for i := range s.c.Services {
		v := &s.c.Services[i]
		if err := v.Validate(); err != nil {
			s.errs.Add(v.Pos, "%v", err)
			continue
		}
		if known := scenarios.Schedulers(); !slices.Contains(known, v.Normal().Scheduler) {
			s.errs.Add(v.Place("scheduler"), "%s", source.Unknown("scheduler", v.Scheduler, known))
		}
		if pos, twice := first[v.Name()]; twice {
			s.errs.Add(v.Pos, "virtual service %s is here a second time; the first is at %s", v.Name(), pos)
		}
		first[v.Name()] = v.Pos
		if v.FWMark == 0 && v.Addr.Addr().IsLoopback() {
			s.w.note(v.Pos, config.Ignored, "virtual service %s is for the director itself alone (a loopback address); the lab leaves it out, since no client can ask it", v.Name())
			continue
		}
		if v.FWMark == 0 {
			vips[v.Addr.Addr()] = v
			s.taken[v.Addr.Addr()] = true
		}
		s.w.services = append(s.w.services, s.place(v))
	}
	if len(s.w.services) == 0 && len(s.errs) == 0 {
		s.errs.Add(s.file(), "no virtual service is in it that a client can ask, so that there is nothing to try")
	}
	for i, p := range s.w.services {
		s.readServers(i, p, vips)
	}
}

// place begins the placing of one service.
func (s *surveyor) place(v *config.Service) *placed {
	p := &placed{Service: v, protocol: v.Protocol.String()}
	if v.FWMark != 0 {
		for _, m := range s.o.Marks[v.FWMark] {
			if f := family(m.Addr.Addr()); (f == 1) == (v.Family == ipvs.IPv6) {
				p.marked = append(p.marked, m)
				s.taken[m.Addr.Addr()] = true
			}
		}
		return p
	}
	p.vips = []netip.Addr{v.Addr.Addr()}
	p.probe = v.Addr
	return p
}

// file is where something is that the whole file lacks.
func (s *surveyor) file() source.Pos {
	if len(s.c.Files) == 0 {
		return source.Pos{}
	}
	return source.Pos{File: s.c.Files[0].Name, Line: 1}
}

// readServers looks at the real servers of a service.
func (s *surveyor) readServers(i int, p *placed, vips map[netip.Addr]*config.Service) {
	base := serverBase(p)
	ports := 0
	for j := range p.Servers {
		d := &p.Servers[j]
		if p.FWMark != 0 && d.Forward != ipvs.NAT && d.Addr.Port() != 0 {
			// The kernel keeps such a port and ipvsadm shows it, yet packets have the
			// one that the client asked, and a lab file has no place for another.
			bare := *d
			bare.Addr = netip.AddrPortFrom(d.Addr.Addr(), 0)
			if ports++; ports == 1 {
				s.w.note(d.Pos, config.Warning, "port %d of real server %s counts for nothing: %s leaves the port of a packet as it is, so the lab's table has none for %s",
					d.Addr.Port(), d.Addr.Addr(), method(d.Forward), p.Name())
			}
			d = &bare
		}
		if err := d.Validate(p.Service.Service); err != nil {
			s.errs.Add(d.Pos, "%v", err)
			continue
		}
		if why := s.isDirector(d.Addr.Addr(), vips); why != "" {
			s.errs.Add(d.Pos, "real server %s of %s is the director itself (%s): it would answer its own clients, which no other machine can do for it; "+
				"give it an address of its own to try it", d.Addr.Addr(), p.Name(), why)
			continue
		}
		p.servers = append(p.servers, server{Server: d})
		s.host(i, p, d, base).listed = true
	}
	d := p.Sorry
	if d == nil {
		return
	}
	if why := s.isDirector(d.Addr.Addr(), vips); why != "" {
		s.w.note(d.Pos, config.Ignored, "sorry server %s of %s is the director itself (%s); the lab leaves it out, since the director's own servers are no part of a lab",
			d.Addr, p.Name(), why)
		return
	}
	p.sorry = &server{Server: d}
	s.host(i, p, d, "sorry")
}

// isDirector says why an address is one of the director's own, "" if it is not.
func (s *surveyor) isDirector(a netip.Addr, vips map[netip.Addr]*config.Service) string {
	switch v := vips[a]; {
	case a.IsLoopback():
		return "a loopback address"
	case a.IsUnspecified():
		return "no address of a machine"
	case v != nil:
		return "the virtual IP of " + v.Name() + " at " + v.Pos.String()
	}
	if c, ok := s.w.carried[a]; ok {
		return "its address at " + c.Pos.String()
	}
	return ""
}

// host notes that an address is a real server of a service.
func (s *surveyor) host(i int, p *placed, d *config.Server, base string) *host {
	addr := d.Addr.Addr()
	h := s.hosts[addr]
	if h == nil {
		h = &host{addr: addr, pos: d.Pos, base: base}
		s.hosts[addr] = h
		s.hostList = append(s.hostList, h)
		s.taken[addr] = true
	}
	switch d.Forward {
	case ipvs.NAT:
		h.nat = true
	case ipvs.TUN:
		h.direct = true
		// A tunnel device that checks sums is made for one address.
		h.solo = h.solo || d.TunFlags != ipvs.NoChecksum
		h.cross = h.cross || addr.Is4() != (p.AddrFamily() == ipvs.IPv4)
	default:
		h.direct, h.dr = true, true
	}
	h.services = append(h.services, i)
	return h
}

// families are those that a configuration uses, IPv4 first.
func (s *surveyor) families() []int {
	var used [2]bool
	for _, h := range s.hostList {
		used[family(h.addr)] = true
	}
	for f := range s.asked() {
		used[f] = used[f] || s.asked()[f]
	}
	var list []int
	for f, ok := range used {
		if ok {
			list = append(list, f)
		}
	}
	return list
}

// asked are the families of virtual services, IPv4 first.
func (s *surveyor) asked() [2]bool {
	var used [2]bool
	for _, p := range s.w.services {
		used[p.AddrFamily()] = true
	}
	return used
}

// vips are all virtual IPs that are known, each once, in the order of the file.
func (s *surveyor) vips() []netip.Addr {
	var list []netip.Addr
	seen := make(map[netip.Addr]bool)
	add := func(a netip.Addr) {
		if !seen[a] {
			seen[a] = true
			list = append(list, a)
		}
	}
	for _, p := range s.w.services {
		for _, a := range p.vips {
			add(a)
		}
	}
	return list
}

// finish lists the networks, those of the clients first.
func (s *surveyor) finish() {
	for _, seg := range append(s.askers, s.segments...) {
		s.w.networks = append(s.w.networks, *seg.network)
	}
}
