package topology

import (
	"context"
	"fmt"
)

// DefaultMTU is that of a veth: Ethernet's (ETH_DATA_LEN in linux/if_ether.h).
const DefaultMTU = 1500

type mtuOp struct {
	meta   Meta
	device string
	mtu    int
}

// NewMTU is the op that bounds the packets a node sends on a device, in bytes.
// Undo leads back to DefaultMTU.
func NewMTU(m Meta, node, device string, mtu int) Op {
	m.Key = Key{node, "mtu", device}
	m.Role = "mtu"
	return mtuOp{m, device, mtu}
}

func (o mtuOp) About() Meta { return o.meta }

func (o mtuOp) Shell(Dialect) []string {
	return []string{fmt.Sprintf("ip -n %s link set %s mtu %d", o.meta.Key.Node, o.device, o.mtu)}
}

func (o mtuOp) Apply(_ context.Context, w World) error {
	n, err := w.Node(o.meta.Key.Node)
	if err != nil {
		return err
	}
	index, err := indexOf(n, o.device)
	if err != nil {
		return fail(o, err)
	}
	return fail(o, n.Netlink().LinkSetMTU(device(o.device, index), o.mtu))
}

func (o mtuOp) Undo() (Op, bool) {
	o.mtu = DefaultMTU
	return o, true
}
