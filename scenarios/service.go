package scenarios

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// VirtualService is what the directors answer for, and by whom.
type VirtualService struct {
	Pos       source.Pos
	Address   ServiceAddress `yaml:"address,required"`
	Directors []string       `yaml:"directors,required"`
	// VIPs are the addresses of a service that is found by firewall mark.
	VIPs      []netip.Addr `yaml:"vips"`
	Scheduler string       `yaml:"scheduler"`
	// SchedulerPos is where it stands; the service's own place without one.
	SchedulerPos source.Pos `yaml:"-"`
	// SchedulerFlags are those of ipvsadm(8), -b: sh-port, mh-fallback, …
	SchedulerFlags []string     `yaml:"scheduler_flags"`
	Persistence    *Persistence `yaml:"persistence"`
	// OnePacket schedules every UDP packet anew (ipvsadm(8), -o).
	OnePacket      bool         `yaml:"one_packet"`
	Forwarding     Forwarding   `yaml:"forwarding,required"`
	VIP            VIP          `yaml:"vip"`
	ARPSuppression *Suppression `yaml:"arp_suppression"`
	RealServers    []RealServer `yaml:"real_servers,required"`
	// ManagedBy is who writes the service into the directors' IPVS tables: lvslab
	// itself when it is empty, else "rules" (the rules of the director nodes) or
	// "keepalived" (the one that the director nodes run). All else of the service is
	// lvslab's to do as ever, and the service as it stands here is what is expected.
	ManagedBy string `yaml:"managed_by"`
	// ManagedByPos is where it stands; the service's own place without it.
	ManagedByPos source.Pos `yaml:"-"`
}

// UnmarshalSource keeps where the scheduler and the manager stand, too.
func (v *VirtualService) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain VirtualService
	d.Decode(n, (*plain)(v))
	v.Pos, v.SchedulerPos, v.ManagedByPos = d.Pos(n), d.Pos(n), d.Pos(n)
	if s := child(n, "scheduler"); s != nil {
		v.SchedulerPos = d.Pos(s)
	}
	if m := child(n, "managed_by"); m != nil {
		v.ManagedByPos = d.Pos(m)
	}
}

// ServiceAddress is "tcp 10.0.0.1:80", or "fwmark 1".
type ServiceAddress struct {
	Protocol ipvs.Protocol
	Addr     netip.AddrPort
	// FWMark, when not 0, is the firewall mark of the service's packets.
	FWMark uint32
}

const serviceAddressForm = "wanted PROTOCOL ADDRESS:PORT such as \"tcp 10.0.0.100:80\", or \"fwmark 1\""

// UnmarshalSource reads "PROTOCOL ADDRESS:PORT" or "fwmark MARK".
func (a *ServiceAddress) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s, ok := d.Scalar(n, "a service address such as \"tcp 10.0.0.100:80\"")
	if !ok {
		return
	}
	proto, rest, found := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	if !found {
		d.Fail(n, serviceAddressForm+", found %q", s)
		return
	}
	if proto == "fwmark" {
		mark, err := strconv.ParseUint(rest, 0, 32)
		if err != nil || mark == 0 {
			d.Fail(n, "firewall mark %q is not from 1 to 4294967295", rest)
		}
		a.FWMark = uint32(mark)
		return
	}
	p, err := ipvs.ParseProtocol(proto)
	if err != nil {
		d.Fail(n, "%s", source.Unknown("protocol", proto, []string{"tcp", "udp", "sctp", "fwmark"}))
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		if port := rest[strings.LastIndexByte(rest, ':')+1:]; port != "" && strings.Trim(port, "0123456789") == "" && len(port) < len(rest) {
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				d.Fail(n, "port %s is not from 0 to 65535", port)
				return
			}
		}
		d.Fail(n, serviceAddressForm+", found %q", s)
		return
	}
	if !plainAddr(ap.Addr()) {
		d.Fail(n, "service address %s: wanted a plain IPv4 or IPv6 address", ap)
	}
	a.Protocol, a.Addr = p, ap
}

// vips are the service's addresses.
func (v *VirtualService) vips() []netip.Addr {
	if v.Address.FWMark != 0 {
		return v.VIPs
	}
	return []netip.Addr{v.Address.Addr.Addr()}
}

// vip is the first of them; the zero address where a file gives none, which is
// an error of its own.
func (v *VirtualService) vip() netip.Addr {
	if vips := v.vips(); len(vips) > 0 {
		return vips[0]
	}
	return netip.Addr{}
}

// service is what the directors are told.
func (v *VirtualService) service() ipvs.Service {
	s := ipvs.Service{
		Protocol: v.Address.Protocol, Addr: v.Address.Addr, FWMark: v.Address.FWMark,
		Scheduler: v.Scheduler, Flags: v.SchedulerFlags, OnePacket: v.OnePacket,
	}
	if v.vip().Is6() {
		s.Family = ipvs.IPv6
	}
	if p := v.Persistence; p != nil {
		s.Timeout, s.Netmask, s.PE = p.Timeout, p.Netmask, p.Engine
	}
	return s.Normal()
}

// destination is a real server as a director is told, by the address that it
// has for it.
func (v *VirtualService) destination(r RealServer, addr netip.Addr) ipvs.Destination {
	m := v.methodOf(r)
	port := v.Address.Addr.Port()
	if r.Port != 0 {
		port = r.Port
	}
	d := ipvs.Destination{
		Addr: netip.AddrPortFrom(addr, port), Forward: m.Forward, Weight: r.weight(),
		Upper: r.UpperThreshold, Lower: r.LowerThreshold,
	}
	if m.Forward == ipvs.TUN {
		d.TunType, d.TunPort, d.TunFlags = m.TunType, m.TunPort, m.TunFlags
	}
	return d.For(v.service())
}

// Persistence keeps a client with its real server (ipvsadm(8), -p, -M, --pe).
type Persistence struct {
	Pos     source.Pos
	Timeout time.Duration `yaml:"timeout"`
	// Netmask is the prefix length by which clients are taken together; 0
	// means each for itself.
	Netmask int `yaml:"netmask"`
	// Engine is "sip" or nothing.
	Engine string `yaml:"engine"`
}

// UnmarshalSource reads a timeout alone, too.
func (p *Persistence) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain Persistence
	p.Timeout = ipvs.DefaultPersistence
	if n.Kind == yaml.ScalarNode {
		d.Decode(n, &p.Timeout)
	} else {
		d.Decode(n, (*plain)(p))
		if isZero(child(n, "netmask")) {
			d.Fail(n, "a netmask of 0 would put all clients on one server; wanted 1 to 32, or to 128 for IPv6")
		}
	}
	p.Pos = d.Pos(n)
	if p.Timeout == 0 {
		d.Fail(n, "a persistence of 0 is none; leave the key out")
	}
}

// Forwarding is a method of package forward.
type Forwarding struct {
	forward.Method
	pos source.Pos
}

// UnmarshalSource reads the method's words.
func (f *Forwarding) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s, ok := d.Scalar(n, "a forwarding method")
	if !ok {
		return
	}
	f.pos = d.Pos(n)
	var err error
	if f.Method, err = forward.Parse(s); err != nil {
		d.Fail(n, "%v", err)
	}
}

// VIP is where the virtual IP is carried.
type VIP struct {
	Directors   *Placement `yaml:"directors"`
	RealServers *Placement `yaml:"real_servers"`
}

// Placement is "DEVICE/LENGTH", or "none" for nowhere.
type Placement struct {
	Pos source.Pos
	forward.Placement
}

// UnmarshalSource reads it.
func (p *Placement) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	p.Pos = d.Pos(n)
	s, ok := d.Scalar(n, "DEVICE/LENGTH such as eth0/32, or none")
	if !ok || s == "none" {
		return
	}
	dev, bits, _ := strings.Cut(s, "/")
	b, err := strconv.Atoi(bits)
	if err != nil || b < 1 || b > 128 || !validDevice(dev) {
		d.Fail(n, "wanted DEVICE/LENGTH such as eth0/32, or none, found %q", s)
		return
	}
	p.Placement = forward.Placement{Device: dev, Bits: b}
}

// Suppression is what keeps real servers from answering, and asking, ARP in
// the name of the virtual IP.
type Suppression struct {
	Pos   source.Pos
	Parts []string
}

// The parts of an ARP suppression, and the words for the usual pairs.
const (
	partARPIgnore   = "arp-ignore"
	partARPAnnounce = "arp-announce"
	partInputDrop   = "arp-input-drop"
	partOutMangle   = "arp-output-mangle"
)

func suppressions() map[string][]string {
	return map[string][]string{
		"none":          {},
		"sysctl":        {partARPIgnore, partARPAnnounce},
		"arptables":     {partInputDrop, partOutMangle},
		partARPIgnore:   {partARPIgnore},
		partARPAnnounce: {partARPAnnounce},
		partInputDrop:   {partInputDrop},
		partOutMangle:   {partOutMangle},
	}
}

// UnmarshalSource reads a word or a list of parts.
func (s *Suppression) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s.Pos = d.Pos(n)
	var words []string
	d.Decode(n, &words)
	for _, w := range words {
		parts, ok := suppressions()[w]
		if !ok {
			d.Fail(n, "%s", source.Unknown("ARP suppression", w,
				[]string{"arptables", "sysctl", "none", partARPIgnore, partARPAnnounce, partInputDrop, partOutMangle}))
		}
		s.Parts = append(s.Parts, parts...)
	}
}

// RealServer is a node that serves a virtual service.
type RealServer struct {
	Pos  source.Pos
	Node string `yaml:"node,required"`
	// Weight is 1 when the lab does not say.
	Weight *int `yaml:"weight"`
	// Address is how the director calls the node; absent, it is the node's
	// address on a network that both are on, or else its first, of the
	// service's family where there is one.
	Address netip.Addr `yaml:"address"`
	// Port is the real server's own; with DR and TUN it is the service's.
	Port       uint16      `yaml:"port"`
	Forwarding *Forwarding `yaml:"forwarding"`
	// UpperThreshold and LowerThreshold are the numbers of connections above
	// which the server takes no more and below which it does again; 0 is no
	// bound (ipvsadm(8), -x and -y).
	UpperThreshold uint32 `yaml:"upper_threshold"`
	LowerThreshold uint32 `yaml:"lower_threshold"`
}

// UnmarshalSource reads the short form, the node's name, too.
func (r *RealServer) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	type plain RealServer
	if n.Kind == yaml.ScalarNode {
		r.Node, _ = d.Scalar(n, "the name of a node")
	} else {
		d.Decode(n, (*plain)(r))
	}
	r.Pos = d.Pos(n)
	if r.Address.IsValid() && !plainAddr(r.Address) {
		d.Fail(n, "address %s: wanted a plain IPv4 or IPv6 address", strconv.Quote(r.Address.String()))
	}
	if r.Weight != nil && (*r.Weight < 0 || *r.Weight > ipvs.MaxWeight) {
		d.Fail(n, "weight %d is not from 0 to %d", *r.Weight, ipvs.MaxWeight)
	}
}

func (r RealServer) weight() int {
	if r.Weight == nil {
		return 1
	}
	return *r.Weight
}
