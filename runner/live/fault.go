package live

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Fault is something to break.
type Fault struct {
	// Kind is one of the kinds of faults.
	Kind string `json:"kind"`
	Node string `json:"node"`
	// Device is the link's, where the fault is one of links; "" where the node
	// has but one link.
	Device string `json:"device,omitempty"`
	// Delay and Jitter are those of tc-netem(8), at most MaxDelay. Of a Reorder,
	// Delay is what the packets are late by that are overtaken, where nothing
	// delays the link anyway; 0 means ReorderDelay.
	Delay  time.Duration `json:"delay,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"`
	// Percent is the share of packets that a fault meets, above 0 and at most
	// 100.
	Percent float64 `json:"percent,omitempty"`
	// Daemon is the server's name in its node, "http:80", or its service alone;
	// "" where the node has but one.
	Daemon string `json:"daemon,omitempty"`
	// Address is the IPv4 address for which ARP is dropped; "" is the node's
	// virtual IP, or where it carries none its own first address.
	Address string `json:"address,omitempty"`
}

// Kinds of faults.
const (
	// Cut pulls the cable of a link.
	Cut = "cut"
	// Delay makes a link late by Delay, give or take Jitter, on top of what the
	// lab itself delays it by.
	Delay = "delay"
	// Lose, Reorder, Corrupt and Duplicate meet Percent of what a node sends on
	// a link.
	Lose      = "lose"
	Reorder   = "reorder"
	Corrupt   = "corrupt"
	Duplicate = "duplicate"
	// Kill ends a daemon, Hang stops it in its tracks: its port still takes
	// connections, and nobody answers.
	Kill = "kill"
	Hang = "hang"
	// Stop switches a node off. Its files are there when it is switched on
	// again; what was set by hand in its kernel is not.
	Stop = "stop"
	// DropARP drops the ARP packets that a node gets about Address, by a rule of
	// arptables(8): it does not answer who has it. What others answer to Address
	// is dropped with that.
	DropARP = "drop-arp"
)

const (
	// MaxDelay bounds what a link can be made late by. What is later than that
	// is lost for whoever waits.
	MaxDelay = time.Minute
	// ReorderDelay is what packets are late by that others overtake.
	ReorderDelay = 10 * time.Millisecond
)

// FaultKinds are the kinds of faults, those of links first.
func FaultKinds() []string {
	return []string{Cut, Delay, Lose, Reorder, Corrupt, Duplicate, Kill, Hang, Stop, DropARP}
}

// ID is the fault's name among those of its lab: its kind and what it breaks.
func (f Fault) ID() string { return f.Kind + " " + f.Target() }

// Target is what the fault breaks: "web1:eth0", "web1/http:80", "web1" or
// "web1 10.0.0.100".
func (f Fault) Target() string {
	switch {
	case f.Device != "":
		return f.Node + ":" + f.Device
	case f.Daemon != "":
		return f.Node + "/" + f.Daemon
	case f.Address != "":
		return f.Node + " " + f.Address
	}
	return f.Node
}

// String is the fault with how bad it is: "delay web1:eth0 50ms, give or take 10ms".
func (f Fault) String() string {
	s := f.ID()
	if f.Percent > 0 {
		s += " " + strconv.FormatFloat(f.Percent, 'f', -1, 64) + "%"
	}
	if f.Delay > 0 && f.Kind == Delay {
		s += " " + f.Delay.String()
	}
	if f.Jitter > 0 {
		s += fmt.Sprintf(", give or take %s", f.Jitter)
	}
	return s
}

// Broken is a fault that is there.
type Broken struct {
	// ID is the fault's name for Heal: "cut web1:eth0".
	ID string `json:"id"`
	Fault
	Since time.Time `json:"since"`
}

// Is reports whether words mean this fault: its ID, its kind, its target or its
// node, or a kind with one of the others ("cut web1", "kill web1/http").
func (b Broken) Is(words string) bool {
	rest := words
	if kind, target, _ := strings.Cut(words, " "); kind == b.Kind {
		if target == "" {
			return true
		}
		rest = target
	}
	service, _, _ := strings.Cut(b.Daemon, ":")
	return rest == b.Target() || rest == b.Node || service != "" && rest == b.Node+"/"+service
}

// Heal says which faults to take back.
type Heal struct {
	// IDs are words that mean faults (Broken.Is): their names, or the names of
	// nodes, then all of the node's. None means all faults.
	IDs []string `json:"ids,omitempty"`
}
