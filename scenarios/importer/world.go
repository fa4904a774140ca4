package importer

import (
	"fmt"
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
	// stands between the client and the others; "" where there is none. Some
	// configurations need more clients than one, see placed.from.
	client, director, router string
	clients                  []string
	// sources are the client's addresses by family that requests may come from,
	// for schedulers and persistence that go by the client. There are at least
	// eight of each family that is used. placed.sources are those of the node
	// that asks a service.
	sources4, sources6 []netip.Addr
	// carried are the addresses that the director has by the file's own word.
	carried map[netip.Addr]config.Address
	notes   []config.Note
	// managedBy is DraftOptions.ManagedBy.
	managedBy string
	// configID is DraftOptions.ConfigID, hasProgram DraftOptions.HasProgram.
	configID   string
	hasProgram func(path string) bool
}

// note adds a note of the survey's own.
func (w *world) note(pos source.Pos, kind config.NoteKind, format string, args ...any) {
	w.notes = append(w.notes, config.Note{Pos: pos, Kind: kind, Msg: fmt.Sprintf(format, args...)})
}

// network is one network of the lab.
type network struct {
	name     string
	prefixes []netip.Prefix
	// comment says why it is there and what it was inferred from.
	comment string
	// pos is where the configuration names it, if it does.
	pos source.Pos
}

// machine is one node of the lab.
type machine struct {
	name    string
	links   []link
	routes  []string // in ip-route(8)'s words
	sysctls map[string]string
	serve   []string // "http 8080", …, as a lab file has them
	// iptables are rules in iptables' words, as those that set firewall marks.
	iptables, ip6tables []machineRule
	comment             string
	pos                 source.Pos
}

// machineRule is a rule of a packet filter, and the service that it is for.
type machineRule struct {
	text string
	pos  source.Pos
}

// link is a device of a machine on a network.
type link struct {
	device, network string
	addresses       []linkAddress
}

// linkAddress is an address of a link, and where the configuration has it.
type linkAddress struct {
	netip.Prefix
	pos source.Pos
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
	// from is the node that must ask it, one of world.clients; a lab with one
	// client need not say. sources are that node's addresses of the service's
	// family, at least eight.
	from    string
	sources []netip.Addr
	// directorVIP is where the director carries the virtual IPs, as a lab file has
	// it ("eth1/24"); "" for the default.
	directorVIP string
	// marked are the packets that carry its firewall mark; probe is the first.
	marked []Probe
	// comment says what was assumed for it.
	comment string
	// servers are the nodes of its real servers, in the configuration's order.
	servers []server
	// sorry is the node of its sorry server, nil for none.
	sorry *server
	// failed and untold are why the real keepalived finds real servers down, which
	// servers leaves out then, or may or may not; see settled.
	failed, untold []string
	// apart says that each real server is on a node of its own, so that the
	// answers tell them apart. Where it is not, servers share nodes.
	apart bool
}

// server is a real server with its node.
type server struct {
	*config.Server
	node string
	// address is how the lab must call it, where the node has several.
	address netip.Addr
}
