// Package assert is what a lab may expect of a kernel: one file for each family
// of checks and the table of them all.
//
// A check is decoded from a lab file, begins before the stimulus (it takes its
// baselines, and captures start), and judges afterwards. Judging may be
// repeated until a deadline where a kernel needs a moment to come to a state;
// the stimulus never is.
package assert

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/capture"
	"github.com/lvslab/lvslab/topology/source"
)

// Check is one expectation of a step.
type Check interface {
	// Kind is the check's word in a lab file: "rotation".
	Kind() string
	// Pos is where the lab file says it.
	Pos() source.Pos
	// Refs are the names that the check uses, for the lab to look up.
	Refs() []Ref
	// Begin takes baselines and starts captures, before the stimulus.
	Begin(ctx context.Context, env Env) (Pending, error)
}

// Pending is a check that has begun.
type Pending interface {
	// Judge compares. again says that what was not so may yet become so, and
	// that it is worth judging once more before the step's deadline.
	Judge(ctx context.Context) (r Result, again bool)
	// Close lets go of what Begin took.
	Close() error
}

// Result is what an expectation came to.
type Result struct {
	Pass bool
	// Wanted and Seen are sentences without full stops.
	Wanted, Seen string
	// At is where exactly the lab file says what was not so: a line of a list;
	// the zero value stands for the check's own place.
	At source.Pos
	// Evidence is what a person would ask for next.
	Evidence []Evidence
	// Untold, when not nil, says why nothing is known: the step is broken then,
	// and neither passed nor failed.
	Untold error
}

// Evidence is a titled piece of text.
type Evidence struct{ Title, Text string }

// RefKind says what a name must be.
type RefKind string

// The kinds of names that a check may use.
const (
	NodeRef    RefKind = "node"    // a node of the lab
	AddressRef RefKind = "address" // an address, a virtual service or a node
)

// Ref is a name that a check uses.
type Ref struct {
	Pos  source.Pos
	Kind RefKind
	Name string
}

// Env is the running lab as checks see it.
type Env interface {
	topology.World
	// NodeNames are the lab's nodes, in the order of its file.
	NodeNames() []string
	// Owner finds the node and device that a MAC address belongs to.
	Owner(mac net.HardwareAddr) (topology.NetAddr, bool)
	// Resolve turns an address, a virtual service's name or a node's name into
	// an address.
	Resolve(name string) (netip.Addr, error)
	// Service is a virtual service of the lab, as its directors are told.
	Service(name string) (ipvs.Service, bool)
	// DeviceFor is the node's device by which it reaches an address that is on
	// one of its networks.
	DeviceFor(node string, addr netip.Addr) (string, error)
	// Capture is the step's capture of a node's device, begun on first use.
	Capture(node, device string) (Capture, error)
	// WatchLinks begins the step's captures of every link of every node, and
	// makes sure that all packets have arrived before the step is judged.
	WatchLinks() error
	// Links are the captures of all links, those included that the step made.
	Links() []LinkCapture
	// Directors are the nodes that balance.
	Directors() []string
	// Outcomes are what the step's stimuli came to so far.
	Outcomes() Outcomes
	// ReadFile reads a file as the node sees it.
	ReadFile(node, path string) ([]byte, error)
}

// Resting is what an Env may know beside. Where it says so, nothing but the lab's
// own steps writes IPVS tables, and one that is wrong after a step stays so.
type Resting interface {
	TablesRest() bool
}

func tablesRest(env Env) bool {
	r, ok := env.(Resting)
	return ok && r.TablesRest()
}

// Capture is the packets of a device since the step began.
type Capture interface {
	Packets() ([]capture.Packet, error)
}

// Outcomes are what a step's stimuli came to.
type Outcomes struct {
	// Replies are those of requests and pings, in the order they were sent.
	Replies []Reply
	// Outputs are those of commands, in their order.
	Outputs []Output
}

// Outcome words of a Reply, as curl's user would call them.
const (
	OK          = "ok"
	Timeout     = "timeout"     // no answer in time; curl exits with 28
	Refused     = "refused"     // connection refused; curl exits with 7
	Reset       = "reset"       // connection reset by peer; curl exits with 56
	Unreachable = "unreachable" // no route, or no such host; curl exits with 7
	Other       = "error"
)

// Reply is what one request or one ping came to.
type Reply struct {
	From string
	// To is what was asked.
	To string
	// Result is one of the outcome words.
	Result string
	// Server is the node that answered, and Peer the address it saw, as its
	// answer says.
	Server string
	Peer   netip.Addr
	// Protocol is the one on the wire: "tcp", "udp", "sctp", "icmp"; empty when
	// nothing was sent.
	Protocol string
	// Local and Remote are the ends of the connection as the client has them,
	// Local invalid where there never was a socket.
	Local, Remote netip.AddrPort
	Status        int
	Body          string
	Elapsed       time.Duration
	Err           string
}

// Output is what a command left.
type Output struct {
	Node, Command string
	Text          string
	Exit          int
	// Note says what else happened: it was stopped by its timeout, its output
	// was cut short.
	Note string
}

// decoder makes a check of its value in a lab file.
type decoder func(d *source.Decoder, n *yaml.Node, h head) Check

// kinds is the table of all checks.
func kinds() map[string]decoder {
	return map[string]decoder{
		"rotation":     decodeRotation,
		"sequence":     decodeSequence,
		"distribution": decodeDistribution,
		"order":        decodeOrder,
		"sticky":       decodeSticky,
		"shares":       decodeShares,
		"only":         decodeOnly,
		"answers":      decodeAnswers,
		"path":         decodePath,
		"packets":      decodePackets,
		"cost":         decodeCost,
		"result":       decodeResult,
		"results":      decodeResults,
		"status":       decodeStatus,
		"body":         decodeBody,
		"bodies":       decodeBodies,
		"peer":         decodePeer,
		"arp_owner":    decodeARPOwner,
		"arp_requests": decodeARPRequests,
		"neighbour":    decodeNeighbour,
		"table":        decodeTable,
		"connections":  decodeConnections,
		"destination":  decodeDestination,
		"counter":      decodeCounter,
		"route":        decodeRoute,
		"routes":       decodeRoutes,
		"output":       decodeOutput,
		"file":         decodeFile,
		"arp_rules":    decodeARPRules,
		"addresses":    decodeAddresses,
		"iptables":     decodeIptables,
		"ip6tables":    decodeIptables,
	}
}

// Kinds are the words of all checks, sorted.
func Kinds() []string {
	var names []string
	for k := range kinds() {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// Decode reads one item of a step's expect list. It is nil when the item is
// wrong, which the decoder has recorded then.
func Decode(d *source.Decoder, n *yaml.Node) Check {
	key, val := d.Single(n, "expectation")
	if key == nil {
		return nil
	}
	dec, ok := kinds()[key.Value]
	if !ok {
		d.Fail(key, "%s", source.Unknown("expectation", key.Value, Kinds()))
		return nil
	}
	if val == nil {
		d.Fail(key, "expectation %q needs a value", key.Value)
		return nil
	}
	before := len(d.Errs)
	c := dec(d, val, head{key.Value, d.Pos(key)})
	if len(d.Errs) > before {
		return nil
	}
	return c
}

// head is what every check has: its word and its place.
type head struct {
	kind string
	pos  source.Pos
}

func (h head) Kind() string    { return h.kind }
func (h head) Pos() source.Pos { return h.pos }
func (h head) Refs() []Ref     { return nil }

// judge is a pending check that holds nothing open.
type judge func(ctx context.Context) (Result, bool)

func (j judge) Judge(ctx context.Context) (Result, bool) { return j(ctx) }
func (j judge) Close() error                             { return nil }

// noAnswer is the result of a check that could not read what it judges by.
func noAnswer(wanted string, err error) (Result, bool) {
	return Result{Wanted: wanted, Seen: "could not be read: " + err.Error()}, true
}

// errNoStimulus is a lab's mistake that only its run can see.
var errNoStimulus = errors.New("nothing was asked in this step before this expectation")
