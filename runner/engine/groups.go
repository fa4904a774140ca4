package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/lvslab/lvslab/topology"
)

// awaitGroups waits until nodes listen to neighbour solicitations for the IPv6
// addresses that ops have added. The kernel joins the group of an address by a
// work item (addrconf_dad_work in net/ipv6/addrconf.c), and until then nobody
// answers for it. Devices without multicast have no such group.
func awaitGroups(ctx context.Context, w *world, ops []topology.Op) error {
	ctx, cancel := context.WithTimeoutCause(ctx, linkWait, errors.New("not yet"))
	defer cancel()
	for _, op := range ops {
		a, ok := topology.AddedAddress(op)
		if !ok || !a.Prefix.Addr().Is6() {
			continue
		}
		n, err := w.live(op.About().Key.Node)
		if err != nil || !hasGroups(n, a.Device) {
			continue // left out on purpose, or asked by nobody
		}
		if err := awaitGroup(ctx, n, a.Device, a.Prefix.Addr()); err != nil {
			return fmt.Errorf("node %s: %s does not listen for who asks for %s within %s: %w", n.Name(), a.Device, a.Prefix.Addr(), linkWait, err)
		}
	}
	return nil
}

// hasGroups tells whether a device is one of the lab's links: the others, lo and
// those of tunnels, ask nobody.
func hasGroups(n *liveNode, device string) bool {
	l, err := topology.LinkByName(n, device)
	return err == nil && l.Type() == "veth"
}

func awaitGroup(ctx context.Context, n *liveNode, device string, addr netip.Addr) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var data []byte
		err := n.Do(func() (err error) {
			data, err = os.ReadFile("/proc/thread-self/net/igmp6")
			return err
		})
		if err != nil || listens(string(data), device, addr) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listens finds the solicited-node multicast group of an address (RFC 4291,
// 2.7.1) in a text of /proc/net/igmp6, whose lines begin with a device's number,
// its name and a group.
func listens(igmp6, device string, addr netip.Addr) bool {
	b := addr.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%02x%02x%02x", b[13], b[14], b[15])
	for line := range strings.Lines(igmp6) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == device && f[2] == group {
			return true
		}
	}
	return false
}
