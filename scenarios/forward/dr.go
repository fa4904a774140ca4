package forward

import "github.com/lvslab/lvslab/scenarios/ipvs"

// dr is direct routing: the director rewrites the destination MAC address and
// nothing else, and the real server, which carries the virtual IP too, answers
// the client by itself. lo keeps arp_ignore=1 able to silence the address.
func dr() Method {
	return Method{
		Name: "dr", Forward: ipvs.DR, Title: "direct routing", SameNetwork: true,
		RealServerVIP: Placement{Device: "lo"},
	}
}
