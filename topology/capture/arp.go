package capture

import (
	"net"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Operations of an ARPMessage (RFC 826).
const (
	ARPRequest uint16 = layers.ARPRequest
	ARPReply   uint16 = layers.ARPReply
)

// ARPMessage is an ARP packet for IPv4 over Ethernet.
type ARPMessage struct {
	Op        uint16
	SenderMAC net.HardwareAddr
	SenderIP  netip.Addr
	TargetMAC net.HardwareAddr
	TargetIP  netip.Addr
	// EtherSrc and EtherDst are of the Ethernet header that carried it.
	EtherSrc, EtherDst net.HardwareAddr
}

// ARP decodes a packet. It is false for anything but whole ARP for IPv4 over
// Ethernet.
func ARP(p Packet) (ARPMessage, bool) {
	var eth layers.Ethernet
	if !hasEthernet(p) || eth.DecodeFromBytes(p.Data, gopacket.NilDecodeFeedback) != nil ||
		eth.EthernetType != layers.EthernetTypeARP {
		return ARPMessage{}, false
	}
	m, ok := decodeARP(eth.Payload)
	if !ok {
		return ARPMessage{}, false
	}
	m.EtherSrc, m.EtherDst = slices.Clone(eth.SrcMAC), slices.Clone(eth.DstMAC)
	return m, true
}

func decodeARP(data []byte) (ARPMessage, bool) {
	var arp layers.ARP
	if len(data) < 28 || // RFC 826 with addresses of 6 and 4 bytes
		arp.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil ||
		arp.AddrType != layers.LinkTypeEthernet || arp.Protocol != layers.EthernetTypeIPv4 ||
		len(arp.SourceHwAddress) != 6 || len(arp.DstHwAddress) != 6 ||
		len(arp.SourceProtAddress) != 4 || len(arp.DstProtAddress) != 4 {
		return ARPMessage{}, false
	}
	return ARPMessage{
		Op:        arp.Operation,
		SenderMAC: slices.Clone(net.HardwareAddr(arp.SourceHwAddress)),
		SenderIP:  netip.AddrFrom4([4]byte(arp.SourceProtAddress)),
		TargetMAC: slices.Clone(net.HardwareAddr(arp.DstHwAddress)),
		TargetIP:  netip.AddrFrom4([4]byte(arp.DstProtAddress)),
	}, true
}
