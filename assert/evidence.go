package assert

import (
	"context"
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
			e.Text = text(tail(packets, mostPackets))
		}
		out = append(out, e)
	}
	return out
}

// mostPackets is how many packets a failed step shows; more are in no one's
// patience.
const mostPackets = 30

func tail(packets []capture.Packet, most int) []string {
	var lines []string
	if len(packets) > most {
		packets = packets[len(packets)-most:]
		lines = append(lines, "…")
	}
	for _, p := range packets {
		lines = append(lines, capture.Line(p))
	}
	return lines
}
