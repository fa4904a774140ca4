// Package forward knows the ways in which a director hands a packet to a real
// server: one file for each, and the table of them. A new way is a new file.
package forward

import (
	"slices"

	"github.com/lvslab/lvslab/scenarios/ipvs"
)

// Placement is the device and prefix length that carries a virtual IP.
type Placement struct {
	Device string
	Bits   int
}

// Method is one forwarding method.
type Method struct {
	// Name is the word of a lab file: "dr".
	Name string
	// Forward is what IPVS calls it.
	Forward ipvs.Forward
	// Title is what it is called in a sentence.
	Title string
	// SameNetwork says that the real server must be on a network of the
	// director's, since only the MAC address leads there.
	SameNetwork bool
	// Tunnel is the device that director and real servers need up, or "".
	Tunnel string
	// RealServerVIP is where real servers carry the virtual IP when the lab
	// does not say; an empty Device means that they do not need it.
	RealServerVIP Placement
	// DirectorVIP likewise; an empty Device means the director's device on the
	// network that holds the virtual IP.
	DirectorVIP Placement
}

// Methods are all forwarding methods, in the order in which a person meets
// them.
func Methods() []Method { return []Method{dr(), tun()} }

// Names are the words of all methods.
func Names() []string {
	var names []string
	for _, m := range Methods() {
		names = append(names, m.Name)
	}
	return names
}

// Lookup finds a method by its word.
func Lookup(name string) (Method, bool) {
	ms := Methods()
	i := slices.IndexFunc(ms, func(m Method) bool { return m.Name == name })
	if i < 0 {
		return Method{}, false
	}
	return ms[i], true
}
