package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

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
	ng, err := newNgWriter(w, comment, ethernet(interfaces[0].Name))
	if err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	type at struct{ iface, index int }
	var order []at
	for i, in := range interfaces {
		if i > 0 {
			if _, err := ng.AddInterface(ethernet(in.Name)); err != nil {
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
		err := writePacket(ng, o.iface, p)
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

func newNgWriter(w io.Writer, comment string, first pcapgo.NgInterface) (*pcapgo.NgWriter, error) {
	return pcapgo.NewNgWriterInterface(w, first, pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "lvslab", OS: "Linux", Comment: comment},
	})
}

func ethernet(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
}

func writePacket(ng *pcapgo.NgWriter, iface int, p Packet) error {
	direction := pcapgo.NgEpbFlagDirectionInbound
	if p.Outgoing {
		direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	return ng.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: p.Time, InterfaceIndex: iface, CaptureLength: len(p.Data), Length: max(p.Length, len(p.Data)),
	}, p.Data, pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: direction}})
}

// ngStream is a pcapng file that is being written.
type ngStream struct{ ng *pcapgo.NgWriter }

// newNgStream writes all that comes before the packets.
func newNgStream(w io.Writer, comment string, taps []*openTap) (*ngStream, error) {
	if len(taps) == 0 {
		return nil, errors.New("pcapng: a file needs an interface")
	}
	describe := func(t *openTap) pcapgo.NgInterface {
		i := ethernet(t.Name)
		if t.declared != unix.ARPHRD_ETHER && t.declared != unix.ARPHRD_LOOPBACK {
			i.LinkType = layers.LinkTypeRaw // a tunnel's packets begin with an IP header
		}
		return i
	}
	ng, err := newNgWriter(w, comment, describe(taps[0]))
	if err != nil {
		return nil, fmt.Errorf("pcapng: %w", err)
	}
	s := &ngStream{ng}
	for _, t := range taps[1:] {
		if _, err := ng.AddInterface(describe(t)); err != nil {
			return nil, fmt.Errorf("pcapng: interface %s: %w", t.Name, err)
		}
	}
	return s, s.flush()
}

func (s *ngStream) packet(iface int, p Packet) error {
	if err := writePacket(s.ng, iface, p); err != nil {
		return fmt.Errorf("pcapng: a packet: %w", err)
	}
	return nil
}

func (s *ngStream) statistics(iface int, t *openTap) error {
	err := s.ng.WriteInterfaceStats(iface, pcapgo.NgInterfaceStatistics{
		LastUpdate: time.Now(), PacketsReceived: t.written + t.lost, PacketsDropped: t.lost,
	})
	if err != nil {
		return fmt.Errorf("pcapng: statistics of %s: %w", t.Name, err)
	}
	return nil
}

func (s *ngStream) flush() error {
	if err := s.ng.Flush(); err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	return nil
}
