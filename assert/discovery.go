package assert

import (
	"net"
	"net/netip"

	"github.com/lvslab/lvslab/topology/capture"
)

// discovery is a question for an address's owner or an answer to one: ARP for
// IPv4, NDP for IPv6.
type discovery struct {
	answer bool
	// mac is whose address the message gives.
	mac net.HardwareAddr
	// sender is who asks, invalid in an answer; a node that looks for duplicates
	// of its own address asks as nobody (0.0.0.0 or ::).
	sender netip.Addr
	// target is the address that it is about.
	target netip.Addr
}

func discoveryOf(p capture.Packet) (discovery, bool) {
	if m, ok := capture.ARP(p); ok {
		switch m.Op {
		case capture.ARPRequest:
			return discovery{mac: m.SenderMAC, sender: m.SenderIP, target: m.TargetIP}, true
		case capture.ARPReply:
			return discovery{answer: true, mac: m.SenderMAC, target: m.SenderIP}, true
		}
		return discovery{}, true
	}
	m, ok := capture.NDP(p)
	if !ok {
		return discovery{}, false
	}
	if m.Advertisement {
		return discovery{answer: true, mac: m.SenderMAC(), target: m.Target}, true
	}
	return discovery{mac: m.SenderMAC(), sender: m.SourceIP, target: m.Target}, true
}

// protocolOf is the protocol that asks for an address's owner.
func protocolOf(a netip.Addr) string {
	if a.Is6() {
		return "NDP"
	}
	return "ARP"
}
