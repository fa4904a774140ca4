package ipvs

import (
	"context"
	"slices"
)

// The counters of services and real servers in 64 bits (linux/ip_vs.h). Kernels
// before 4.1 have those in 32 bits alone, which are not read.
const (
	svcStats64  = 12 // IPVS_SVC_ATTR_STATS64
	destStats64 = 12 // IPVS_DEST_ATTR_STATS64
	destPersist = 9  // IPVS_DEST_ATTR_PERSIST_CONNS

	statConns    = 1  // IPVS_STATS_ATTR_CONNS
	statInPkts   = 2  // IPVS_STATS_ATTR_INPKTS
	statOutPkts  = 3  // IPVS_STATS_ATTR_OUTPKTS
	statInBytes  = 4  // IPVS_STATS_ATTR_INBYTES
	statOutBytes = 5  // IPVS_STATS_ATTR_OUTBYTES
	statCPS      = 6  // IPVS_STATS_ATTR_CPS
	statInPPS    = 7  // IPVS_STATS_ATTR_INPPS
	statOutPPS   = 8  // IPVS_STATS_ATTR_OUTPPS
	statInBPS    = 9  // IPVS_STATS_ATTR_INBPS
	statOutBPS   = 10 // IPVS_STATS_ATTR_OUTBPS
)

// Traffic reads what each service and each of its real servers has counted, in
// the order of Table. In a user namespace of one's own, connections and packets
// are counted in 32 bits.
func (c *Conn) Traffic(ctx context.Context) ([]Traffic, error) {
	var out []Traffic
	err := c.call(ctx, func() (err error) {
		out, err = c.door.traffic(ctx)
		return err
	})
	if err != nil {
		return nil, c.fail("-L -n --stats", err, meaning{})
	}
	slices.SortFunc(out, func(a, b Traffic) int { return compareServices(a.Service, b.Service) })
	return out, nil
}

func (g *genl) traffic(ctx context.Context) ([]Traffic, error) {
	msgs, err := g.dump(ctx, cmdGetService)
	if err != nil {
		return nil, err
	}
	var out []Traffic
	for _, msg := range msgs {
		a, err := nestedAttrs(msg, attrService)
		if err != nil {
			return nil, err
		}
		t := Traffic{}
		if t.Service, err = a.service(); err != nil {
			return nil, err
		}
		if t.Counters, t.Rates, err = a.counted(svcStats64); err != nil {
			return nil, err
		}
		if t.Destinations, err = g.destinationTraffic(ctx, t.Service); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (g *genl) destinationTraffic(ctx context.Context, s Service) ([]DestinationTraffic, error) {
	msgs, err := g.dump(ctx, cmdGetDest, serviceAttr(s))
	if err != nil {
		return nil, err
	}
	var out []DestinationTraffic
	for _, msg := range slices.Backward(msgs) {
		a, err := nestedAttrs(msg, attrDest)
		if err != nil {
			return nil, err
		}
		d := DestinationTraffic{Templates: int(a.u32(destPersist))}
		if d.Destination, err = a.destination(s); err != nil {
			return nil, err
		}
		if d.Counters, d.Rates, err = a.counted(destStats64); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// counted reads nested counters.
func (a attrs) counted(in uint16) (Counters, Rates, error) {
	s, err := parseAttrs(a[in], 0)
	c := Counters{
		Conns: s.u64(statConns), InPkts: s.u64(statInPkts), OutPkts: s.u64(statOutPkts),
		InBytes: s.u64(statInBytes), OutBytes: s.u64(statOutBytes),
	}
	r := Rates{
		Conns: s.u64(statCPS), InPkts: s.u64(statInPPS), OutPkts: s.u64(statOutPPS),
		InBytes: s.u64(statInBPS), OutBytes: s.u64(statOutBPS),
	}
	return c, r, err
}
