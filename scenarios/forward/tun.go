package forward

import "github.com/lvslab/lvslab/scenarios/ipvs"

// tun is IP-in-IP tunnelling: the director wraps the packet in another one to
// the real server, which unwraps it on tunl0 and answers the client by itself.
// A /32 adds no second route to the network (see the lab tun/prefix-24).
func tun() Method {
	return Method{
		Name: "tun", Forward: ipvs.TUN, Title: "tunnelling", Tunnel: "tunl0",
		RealServerVIP: Placement{"tunl0", 32},
		DirectorVIP:   Placement{"tunl0", 32},
	}
}
