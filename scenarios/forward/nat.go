package forward

import "github.com/lvslab/lvslab/scenarios/ipvs"

// nat is address translation: the director rewrites the destination address,
// and on the way back the source address. So the replies must come back through
// it, and it must forward them: IPVS itself never looks at ip_forward, but the
// replies are ordinary forwarded packets.
func nat() Method {
	return Method{Name: "nat", Forward: ipvs.NAT, Title: "address translation", ThroughDirector: true}
}

// fullnat is not in mainline. The same packets on the wire come from NAT, the
// connection tracking of IPVS (net.ipv4.vs.conntrack=1,
// Documentation/networking/ipvs-sysctl.rst) and a MASQUERADE rule: real servers
// see the director as their client, and need no way back but to it.
func fullnat() Method {
	return Method{
		Name: "fullnat", Forward: ipvs.NAT, Title: "FullNAT (reached by NAT + vs.conntrack + MASQUERADE)",
		ThroughDirector: true, SNAT: true,
	}
}
