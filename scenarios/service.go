package scenarios

import (
	"net/netip"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/forward"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// VirtualService is what the directors answer for, and by whom.
type VirtualService struct {
	Pos            source.Pos
	Address        ServiceAddress `yaml:"address,required"`
	Directors      []string       `yaml:"directors,required"`
	Scheduler      string         `yaml:"scheduler"`
	Forwarding     Forwarding     `yaml:"forwarding,required"`
	VIP            VIP            `yaml:"vip"`
	ARPSuppression *Suppression   `yaml:"arp_suppression"`
	RealServers    []RealServer   `yaml:"real_servers,required"`
}

// ServiceAddress is "tcp 10.0.0.1:80".
type ServiceAddress struct {
	Protocol ipvs.Protocol
	Addr     netip.AddrPort
}

// UnmarshalSource reads "PROTOCOL ADDRESS:PORT".
func (a *ServiceAddress) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s, ok := d.Scalar(n, "a service address such as \"tcp 10.0.0.100:80\"")
	if !ok {
		return
	}
	proto, addr, found := strings.Cut(s, " ")
	if !found {
		d.Fail(n, "wanted PROTOCOL ADDRESS:PORT such as \"tcp 10.0.0.100:80\", found %q", s)
		return
	}
	if proto != "tcp" {
		d.Fail(n, "%s", source.Unknown("protocol", proto, []string{"tcp"}))
	}
	ap, err := netip.ParseAddrPort(strings.TrimSpace(addr))
	if err != nil || ap.Port() == 0 {
		d.Fail(n, "wanted PROTOCOL ADDRESS:PORT such as \"tcp 10.0.0.100:80\", found %q", s)
		return
	}
	if !ap.Addr().Is4() {
		d.Fail(n, "service address %s: only IPv4 is known yet", ap)
	}
	a.Protocol, a.Addr = ipvs.TCP, ap
}

// Forwarding is a method of package forward.
type Forwarding struct{ forward.Method }

// UnmarshalSource looks the method up.
func (f *Forwarding) UnmarshalSource(d *source.Decoder, n *yaml.Node) {
	s, ok := d.Scalar(n, "a forwarding method")
	if !ok {
		return
	}
	if f.Method, ok = forward.Lookup(s); !ok {
		d.Fail(n, "%s", source.Unknown("forwarding method", s, forward.Names()))
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
	if err != nil || b < 1 || b > 32 || !validDevice(dev) {
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
	// address on a network that both are on, or else its first.
	Address    netip.Addr  `yaml:"address"`
	Forwarding *Forwarding `yaml:"forwarding"`
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
	if r.Address.IsValid() && !r.Address.Is4() {
		d.Fail(n, "address %s: only IPv4 addresses are known yet", strconv.Quote(r.Address.String()))
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
