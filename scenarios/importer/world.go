package importer

import (
	"net/netip"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// world is the lab's machines as worked out from a configuration: which networks
// there are, who is on them, who carries what. It is made by survey (topology)
// and read by whoever writes the lab: its head (networks, nodes, services) and its
// steps.
type world struct {
	config   *config.Config
	networks []network
	nodes    []*machine
	services []*placed
	// client is the node that asks, director the one that is told, router what
	// stands between the client and the others; "" where there is none.
	client, director, router string
	// sources are the client's addresses by family that requests may come from,
	// for schedulers and persistence that go by the client. There are at least
	// eight of each family that is used.
	sources4, sources6 []netip.Addr
	notes              []config.Note
}

// network is one network of the lab.
type network struct {
	name     string
	prefixes []netip.Prefix
	// comment says why it is there and what it was inferred from.
	comment string
}

// machine is one node of the lab.
type machine struct {
	name  string
	links []link
	// devices are addresses on devices of its own: lo, tunl0.
	routes  []string // in ip-route(8)'s words
	sysctls map[string]string
	serve   []string // "http 8080", …, as a lab file has them
	// iptables are rules in iptables' words, as those that set firewall marks.
	iptables, ip6tables []string
	comment             string
	pos                 source.Pos
}

// link is a device of a machine on a network.
type link struct {
	device, network string
	addresses       []netip.Prefix
}

// placed is a virtual service with the machines that play its parts.
type placed struct {
	*config.Service
	// name is the virtual service's in the lab: "web", "tcp-10-0-0-100-80".
	name string
	// vips are its addresses: its own, or those assumed for a firewall mark.
	vips []netip.Addr
	// probe is what a client connects to: the address and port of the service,
	// or those assumed for a firewall mark or a service for all ports.
	probe netip.AddrPort
	// protocol is that of probe: "tcp", "udp", "sctp"; for a firewall mark the
	// one assumed.
	protocol string
	// client is the protocol that requests speak (scenarios.Clients).
	client string
	// servers are the nodes of its real servers, in the configuration's order.
	servers []server
	// sorry is the node of its sorry server, nil for none.
	sorry *server
	// apart says that each real server is on a node of its own, so that the
	// answers tell them apart. Where it is not, servers share nodes.
	apart bool
}

// server is a real server with its node.
type server struct {
	*config.Server
	node string
}
