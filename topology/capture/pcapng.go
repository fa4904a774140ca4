package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

// Interface is the packets of one device, for a file.
type Interface struct {
	// Name is how the file calls it (the option if_name): "web1:eth0".
	Name string
	// Packets are those of an Ethernet device.
	Packets []Packet
	// Lost is how many more there were; the file says so as isb_ifdrop.
	Lost uint64
}

// WritePcapng writes the packets of several interfaces as one pcapng file
// (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html), in the
// order of their times, which are in nanoseconds, each with its direction.
// comment, if there is one, becomes the section's. tcpdump and tshark read it.
func WritePcapng(w io.Writer, comment string, interfaces []Interface) error {
	if len(interfaces) == 0 {
		return errors.New("a pcapng file needs an interface")
	}
	describe := func(i Interface) pcapgo.NgInterface {
		return pcapgo.NgInterface{Name: i.Name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	}
	ng, err := pcapgo.NewNgWriterInterface(w, describe(interfaces[0]), pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "lvslab", OS: "Linux", Comment: comment},
	})
	if err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	type at struct{ iface, index int }
	var order []at
	for i, in := range interfaces {
		if i > 0 {
			if _, err := ng.AddInterface(describe(in)); err != nil {
				return fmt.Errorf("pcapng: interface %s: %w", in.Name, err)
			}
		}
		for j, p := range in.Packets {
			if p.Hardware != unix.ARPHRD_ETHER {
				return fmt.Errorf("pcapng: interface %s is no Ethernet device (hardware type %d)", in.Name, p.Hardware)
			}
			order = append(order, at{i, j})
		}
	}
	// The packets of one device stay in their order where times are equal.
	slices.SortStableFunc(order, func(a, b at) int {
		return cmp.Or(interfaces[a.iface].Packets[a.index].Time.Compare(interfaces[b.iface].Packets[b.index].Time), 0)
	})
	for _, o := range order {
		p := interfaces[o.iface].Packets[o.index]
		direction := pcapgo.NgEpbFlagDirectionInbound
		if p.Outgoing {
			direction = pcapgo.NgEpbFlagDirectionOutbound
		}
		err := ng.WritePacketWithOptions(gopacket.CaptureInfo{
			Timestamp: p.Time, InterfaceIndex: o.iface, CaptureLength: len(p.Data), Length: max(p.Length, len(p.Data)),
		}, p.Data, pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: direction}})
		if err != nil {
			return fmt.Errorf("pcapng: a packet of %s: %w", interfaces[o.iface].Name, err)
		}
	}
	for i, in := range interfaces {
		stats := pcapgo.NgInterfaceStatistics{PacketsReceived: uint64(len(in.Packets)) + in.Lost, PacketsDropped: in.Lost}
		if n := len(in.Packets); n > 0 {
			stats.LastUpdate = in.Packets[n-1].Time
		}
		if err := ng.WriteInterfaceStats(i, stats); err != nil {
			return fmt.Errorf("pcapng: statistics of %s: %w", in.Name, err)
		}
	}
	if err := ng.Flush(); err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	return nil
}
