// Package forward knows the ways in which a director hands a packet to a real
// server: one file for each, and the table of them. A new way is a new file.
package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/source"
)

// Placement is the device and prefix length that carries a virtual IP.
type Placement struct {
	Device string
	// Bits is 0 for the address alone, whichever its family.
	Bits int
}

// Prefix is an address with the placement's length.
func (p Placement) Prefix(a netip.Addr) netip.Prefix {
	if p.Bits == 0 {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return netip.PrefixFrom(a, p.Bits)
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
	// TunType, TunPort and TunFlags say how TUN wraps a packet.
	TunType  ipvs.TunType
	TunPort  uint16
	TunFlags ipvs.TunFlags
	// RealServerVIP is where real servers carry the virtual IP when the lab
	// does not say; an empty Device means that they do not need it, and
	// TunnelDevice the one that their tunnel ends on.
	RealServerVIP Placement
	// DirectorVIP likewise; an empty Device means the director's device on the
	// network that holds the virtual IP, or lo where none does.
	DirectorVIP Placement
	// ThroughDirector says that replies must pass the director, which then
	// forwards them (ip_forward), and that the real servers' way back is it.
	ThroughDirector bool
	// SNAT says that the director is the real servers' client: replies find it
	// by themselves.
	SNAT bool
}

// TunnelDevice stands in a Placement for the device that the method's tunnel
// ends on, see Method.Tunnel.
const TunnelDevice = "<tunnel>"

// Carried reports whether real servers carry the virtual IP when the lab does
// not say.
func (m Method) Carried() bool { return m.RealServerVIP.Device != "" }

// Methods are all forwarding methods, in the order in which a person meets
// them.
func Methods() []Method { return []Method{dr(), tun(), nat(), fullnat()} }

// Names are the words of all methods.
func Names() []string {
	var names []string
	for _, m := range Methods() {
		names = append(names, m.Name)
	}
	return names
}

// Parse finds a method by its words: its name, and for TUN how it wraps, as in
// "tun gre" or "tun gue 6080 csum" (ipvsadm(8), --tun-type).
func Parse(text string) (Method, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Method{}, errors.New("an empty forwarding method; wanted one of " + strings.Join(Names(), ", "))
	}
	ms := Methods()
	i := slices.IndexFunc(ms, func(m Method) bool { return m.Name == words[0] })
	if i < 0 {
		return Method{}, errors.New(source.Unknown("forwarding method", words[0], Names()))
	}
	m := ms[i]
	if len(words) == 1 {
		return m, nil
	}
	if m.Forward != ipvs.TUN {
		return m, fmt.Errorf("forwarding %s: only tun is followed by a tunnel type, found %q", m.Name, words[1])
	}
	wrapped := m
	if err := wrapped.wrap(words[1:]); err != nil {
		return m, err // the method itself is right, so that nothing else is said of it
	}
	return wrapped, nil
}

// wrap reads the words that follow "tun".
func (m *Method) wrap(words []string) error {
	types := []ipvs.TunType{ipvs.IPIP, ipvs.GRE, ipvs.GUE}
	i := slices.IndexFunc(types, func(t ipvs.TunType) bool { return t.String() == words[0] })
	if i < 0 {
		return errors.New(source.Unknown("tunnel type", words[0], []string{"ipip", "gre", "gue PORT"}))
	}
	m.TunType = types[i]
	words = words[1:]
	if m.TunType == ipvs.GUE {
		if len(words) == 0 {
			return errors.New("a gue tunnel needs its port, as in \"tun gue 6080\"")
		}
		p, err := strconv.ParseUint(words[0], 10, 16)
		if err != nil || p == 0 {
			return fmt.Errorf("gue port %q is not from 1 to 65535", words[0])
		}
		m.TunPort, words = uint16(p), words[1:]
	}
	if len(words) > 0 {
		switch words[0] {
		case "nocsum":
		case "csum":
			m.TunFlags = ipvs.Checksum
		case "remcsum":
			m.TunFlags = ipvs.RemoteChecksum
		default:
			return errors.New(source.Unknown("tunnel flag", words[0], []string{"nocsum", "csum", "remcsum"}))
		}
		words = words[1:]
	}
	if len(words) > 0 {
		return fmt.Errorf("nothing is known of %q after a tunnel's words", words[0])
	}
	m.Title = fmt.Sprintf("tunnelling (%s)", m.TunType)
	return nil
}
