package ipvs

import (
	"fmt"
	"strings"
)

// Info says which IPVS a kernel has.
type Info struct {
	Version   uint32 // 0x010201 is 1.2.1
	TableSize int    // the connection table's number of buckets
}

// String is the first line of ipvsadm's lists: "IP Virtual Server version
// 1.2.1 (size=4096)".
func (i Info) String() string {
	return fmt.Sprintf("IP Virtual Server version %d.%d.%d (size=%d)",
		i.Version>>16&0xff, i.Version>>8&0xff, i.Version&0xff, i.TableSize)
}

// Rates are what a service or a real server has a second, as the kernel's
// estimator smoothes it.
type Rates struct {
	Conns, InPkts, OutPkts, InBytes, OutBytes uint64
}

// Traffic is what a virtual service has counted since it was added, or since
// Conn.Zero. The kernel's estimator brings it up to date every two seconds:
// poll it, or read Stats, which is exact at once.
type Traffic struct {
	Service
	Counters
	Rates        Rates
	Destinations []DestinationTraffic
}

// DestinationTraffic is what a real server has counted, likewise.
type DestinationTraffic struct {
	Destination
	Counters
	Rates Rates
	// Templates is the number of persistence templates that lead to it.
	Templates int
}

const trafficHeader = `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
`

// FormatTraffic is what `ipvsadm -L -n --stats --exact` prints of list.
func FormatTraffic(i Info, list []Traffic) string {
	entry := make(map[string]*Traffic, len(list))
	table := make(Table, 0, len(list))
	for n, t := range list {
		e := Entry{Service: t.Service}
		for _, d := range t.Destinations {
			e.Destinations = append(e.Destinations, d.Destination)
		}
		table = append(table, e)
		entry[t.Service.Normal().Name()] = &list[n]
	}
	var b strings.Builder
	b.WriteString(i.String() + "\n" + trafficHeader)
	for _, e := range table.listed() {
		t := entry[e.Name()]
		fmt.Fprintf(&b, "%-33s%s\n", listName(e.Service), t.columns())
		for _, d := range e.Destinations {
			for _, dt := range t.Destinations {
				if dt.Destination.For(e.Service).Addr == d.Addr {
					fmt.Fprintf(&b, "  -> %-28s%s\n", d.Addr, dt.columns())
				}
			}
		}
	}
	return b.String()
}

func (c Counters) columns() string {
	return fmt.Sprintf(" %8d %8d %8d %8d %8d", c.Conns, c.InPkts, c.OutPkts, c.InBytes, c.OutBytes)
}

// FormatConnections is what `ipvsadm -L -n -c` prints of list, in list's order.
// Like ipvsadm it shows the mark of a template as an address.
func FormatConnections(list []Connection) string {
	var b strings.Builder
	b.WriteString("IPVS connection entries\npro expire state       source             virtual            destination\n")
	for _, c := range list {
		proto := "IP"
		if c.Protocol != 0 {
			proto = strings.ToUpper(c.Protocol.String())
		}
		secs := int(c.Expires.Seconds())
		fmt.Fprintf(&b, "%-3s %02d:%02d  %-11s %-18s %-18s %v\n", proto, secs/60, secs%60, c.State, c.Client, c.Virtual, c.Real)
	}
	return b.String()
}
