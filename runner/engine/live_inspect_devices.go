package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/live"
)

// States of devices, see live.Device.
const (
	stateUp        = "up"
	stateDown      = "down"
	stateNoCarrier = "no carrier"
)

// dumped reads a list again when it changed while it was told.
func dumped[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for i := 1; ; i++ {
		all, err := list()
		if err == nil || i == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}

// devices fills in a node's devices, and returns the names of all by their
// numbers. A loopback device that has its own addresses alone says nothing and
// is left out.
func (o onlooker) devices(n *liveNode, seen *live.Node) (map[int]string, error) {
	h := n.Netlink()
	links, err := dumped(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("its devices: %w", err)
	}
	addrs, err := dumped(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, fmt.Errorf("its addresses: %w", err)
	}
	qdiscs, err := dumped(func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without traffic control
		return nil, fmt.Errorf("its queueing disciplines: %w", err)
	}
	node, _ := o.lab.Nodes.Get(n.name)
	names := make(map[int]string)
	for _, link := range links {
		a := link.Attrs()
		names[a.Index] = a.Name
		d := live.Device{Name: a.Name, Kind: link.Type(), MTU: a.MTU, State: deviceState(a)}
		if a.EncapType == "loopback" {
			d.Kind = a.EncapType
		}
		if a.EncapType == "ether" {
			d.MAC = a.HardwareAddr.String()
		}
		if k, ok := node.Links.Get(a.Name); ok {
			d.Network = k.Network
		}
		own := true
		for _, addr := range addrs {
			if addr.LinkIndex == a.Index {
				d.Addresses = append(d.Addresses, addressWords(addr))
				own = own && addr.IP.IsLoopback()
			}
		}
		for _, q := range qdiscs {
			if netem, ok := q.(*netlink.Netem); ok && netem.LinkIndex == a.Index {
				d.Qdisc = netemWords(netem)
			}
		}
		if d.Kind != "loopback" || !own {
			seen.Devices = append(seen.Devices, d)
		}
	}
	// As the lab has them, and then those that a node has by itself.
	order := node.Links.Names()
	slices.SortStableFunc(seen.Devices, func(a, b live.Device) int { return rank(order, a.Name) - rank(order, b.Name) })
	return names, nil
}

func rank(order []string, name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

func deviceState(a *netlink.LinkAttrs) string {
	switch {
	case a.RawFlags&unix.IFF_UP == 0:
		return stateDown
	case a.RawFlags&unix.IFF_RUNNING == 0:
		return stateNoCarrier
	}
	return stateUp
}

// addressWords is an address as ip-address(8) has it, ADDRESS/LENGTH, or
// ADDRESS peer ADDRESS/LENGTH.
func addressWords(a netlink.Addr) string {
	if a.Peer != nil && !a.Peer.IP.Equal(a.IP) {
		return a.IP.String() + " peer " + a.Peer.String()
	}
	return a.IPNet.String()
}

// netemWords is what netem does, in the words of tc-netem(8) and in the order in
// which tc prints them.
func netemWords(q *netlink.Netem) string {
	var words []string
	add := func(w ...string) { words = append(words, w...) }
	if q.Latency != 0 || q.Jitter != 0 {
		add("delay", ticks(q.Latency))
		if q.Jitter != 0 {
			add(ticks(q.Jitter))
			if q.DelayCorr != 0 {
				add(percent(q.DelayCorr))
			}
		}
	}
	share := func(word string, share, correlation uint32) {
		if share == 0 {
			return
		}
		add(word, percent(share))
		if correlation != 0 {
			add(percent(correlation))
		}
	}
	share("loss", q.Loss, q.LossCorr)
	share("duplicate", q.Duplicate, q.DuplicateCorr)
	share("reorder", q.ReorderProb, q.ReorderCorr)
	share("corrupt", q.CorruptProb, q.CorruptCorr)
	if q.Rate64 != 0 {
		add("rate", strconv.FormatUint(q.Rate64*8, 10)+"bit")
	}
	if q.Gap != 0 {
		add("gap", strconv.FormatUint(uint64(q.Gap), 10))
	}
	return strings.Join(words, " ")
}

// ticks is a time that the kernel counts in ticks of its packet scheduler.
func ticks(n uint32) string {
	perMicrosecond := netlink.TickInUsec()
	if perMicrosecond <= 0 {
		perMicrosecond = 1
	}
	return (time.Duration(float64(n)/perMicrosecond+0.5) * time.Microsecond).String()
}

// percent is a share that the kernel counts in parts of the largest number of 32
// bits.
func percent(n uint32) string {
	s := strconv.FormatFloat(float64(n)/float64(^uint32(0))*100, 'f', 3, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
