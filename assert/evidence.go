package assert

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology/capture"
)

func neighbourEvidence(env Env, node string) Evidence {
	e := Evidence{Title: "neighbours of " + node}
	n, err := env.Node(node)
	if err != nil {
		e.Text = err.Error()
		return e
	}
	list, err := neighbours(n)
	if err != nil {
		e.Text = err.Error()
		return e
	}
	var lines []string
	for _, entry := range list {
		if entry.IP != nil && !entry.IP.IsMulticast() && !entry.IP.IsLoopback() && !entry.IP.IsUnspecified() {
			lines = append(lines, neighbourLine(env, entry))
		}
	}
	e.Text = text(lines)
	return e
}

// Picture is the evidence that belongs under any failed step: the IPVS tables
// of the directors, the neighbours of the clients, and what crossed the given
// captures.
func Picture(ctx context.Context, env Env, directors, clients []string, captures map[string]Capture) []Evidence {
	var out []Evidence
	for _, d := range directors {
		e := Evidence{Title: "IPVS table of " + d}
		if n, err := env.Node(d); err != nil {
			e.Text = err.Error()
		} else if t, err := readTable(ctx, n); err != nil {
			e.Text = err.Error()
		} else {
			e.Text = strings.TrimRight(ipvs.FormatList(t), "\n")
		}
		out = append(out, e)
	}
	for _, c := range clients {
		out = append(out, neighbourEvidence(env, c))
	}
	for name, c := range captures {
		packets, err := c.Packets()
		e := Evidence{Title: "packets at " + name}
		if err != nil {
			e.Text = err.Error()
		} else {
			e.Text = text(story(env, packets))
		}
		out = append(out, e)
	}
	return out
}

// mostPackets is how many packets a failed step shows; more are in no one's
// patience.
const mostPackets = 30

// story is the first packets that decide where requests go: ARP, ICMP, and of
// TCP the opening and the breaking of connections. What flows in between tells
// nothing about a balancer.
func story(env Env, packets []capture.Packet) []string {
	var lines []string
	left := 0
	for _, p := range packets {
		line := packetLine(env, p)
		if _, flags, tcp := strings.Cut(line, "Flags ["); tcp && !strings.HasPrefix(flags, "S") && !strings.HasPrefix(flags, "R") {
			left++
			continue
		}
		if len(lines) == mostPackets {
			lines = append(lines, "…")
			break
		}
		// What matters of these is that they are there, and between whom.
		line, _, _ = strings.Cut(line, ", seq ")
		lines = append(lines, line)
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("(%d packets of open connections are left out)", left))
	}
	return lines
}

// packetLine is a packet in tcpdump's words, with the nodes' names in the place
// of their MAC addresses.
func packetLine(env Env, p capture.Packet) string {
	words := strings.Split(capture.Line(p), " ")
	for i, w := range words {
		mac, err := net.ParseMAC(strings.TrimSuffix(w, ","))
		if err != nil {
			continue
		}
		if o, ok := env.Owner(mac); ok {
			words[i] = o.Node + w[len(strings.TrimSuffix(w, ",")):]
		} else if mac.String() == "ff:ff:ff:ff:ff:ff" {
			words[i] = "everybody" + w[len(strings.TrimSuffix(w, ",")):]
		}
	}
	return strings.Join(words, " ")
}
