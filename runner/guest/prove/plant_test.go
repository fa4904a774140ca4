package prove

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/ipvs"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

// planted is the name under which the guest tells of differences that it made
// itself, one for each kind of op, and that the comparison must find.
const planted = "planted"

// tellers are the kinds of ops with the command that must tell of it where one
// of the kind is missing.
func tellers() map[string]string {
	return map[string]string{
		"address":            "ip addr",
		"device":             "ip -d link",
		"tunnel":             "ip -d link",
		"mtu":                "ip -d link",
		"cable":              "ip -d link",
		"route":              "ip route show table all",
		"fou":                "ip fou show",
		"qdisc":              "tc qdisc",
		"sysctl":             "sysctl",
		filter.Kind:          "arptables-legacy-save",
		"iptables":           "iptables-legacy-save",
		"ip6tables":          "ip6tables-legacy-save",
		"daemon":             "who listens",
		ipvs.KindService:     "ipvsadm -Sn",
		ipvs.KindDestination: "ipvsadm -Sn",
		ipvs.KindDaemon:      "ipvsadm --list --daemon",
		ipvs.KindTimeouts:    "ipvsadm --list --timeout",
	}
}

// untold are the kinds of which no command tells, with the reason.
func untold() map[string]string {
	return map[string]string{
		"network": "all that is in it would be missing",
		"node":    "all that is in it would be missing",
		"link":    "all that is on it would be missing",
		"file":    "a script keeps the files of its machines elsewhere",
	}
}

// mistake is a setup that lacks something on a node.
type mistake struct {
	node  string
	setup []topology.Op
}

// plants are copies of a plan's setup, each without one op of a kind that is not
// in done; they are keyed by the kind.
func plants(p *scenarios.Plan, done map[string]bool) map[string]mistake {
	found := make(map[string]mistake)
	for i, o := range p.Setup {
		m := o.About()
		if _, told := tellers()[m.Key.Kind]; !told || done[m.Key.Kind] {
			continue
		}
		// Other sysctls may be as the kernel has them anyway.
		if m.Key.Kind == "sysctl" && !offByDefault(o) {
			continue
		}
		// A later one, on which little rests.
		found[m.Key.Kind] = mistake{m.Key.Node, without(p.Setup, i)}
	}
	return found
}

// offByDefault reports whether an op turns on what a kernel leaves off.
func offByDefault(o topology.Op) bool {
	keys := []string{"net.ipv4.ip_forward", "net.ipv4.conf.all.arp_ignore", "net.ipv4.vs.conntrack"}
	return slices.Contains(keys, o.About().Key.ID) && strings.HasSuffix(o.Shell(dialect())[0], "=1")
}

// without is a setup without one op, and without those of the same node that
// rest on it: of a service its destinations, of a device its addresses.
func without(setup []topology.Op, i int) []topology.Op {
	gone := setup[i].About().Key
	ops := slices.Delete(slices.Clone(setup), i, i+1)
	return slices.DeleteFunc(ops, func(o topology.Op) bool {
		k := o.About().Key
		return k.Node == gone.Node && strings.HasPrefix(k.ID, gone.ID+" ") &&
			(gone.Kind == ipvs.KindService && k.Kind == ipvs.KindDestination || gone.Kind == "tunnel" && k.Kind == "address")
	})
}

// plant makes a lab with each of its plants and compares it with what the script
// made. It tells of each kind's own difference, or of the lack of it.
func plant(ctx context.Context, p *scenarios.Plan, byScript state, done map[string]bool, tell func(kind, what string, found bool)) error {
	all := plants(p, done)
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		red := *p
		red.Setup, red.Steps = all[kind].setup, nil
		node := all[kind].node
		states, err := runEngine(ctx, &red, map[string]closely{node: {sysctls: kind == "sysctl", daemons: kind == ipvs.KindDaemon || kind == ipvs.KindTimeouts}})
		if err != nil {
			return fmt.Errorf("planting a difference, the lack of one %s: %w", kind, err)
		}
		var seen []string
		hit := ""
		for _, d := range differences(p.Lab.Name, []state{{byScript.after, map[string]dump{node: byScript.nodes[node]}}}, states) {
			seen = append(seen, d.where)
			if strings.Contains(d.where, ", "+tellers()[kind]+" (") {
				hit = d.where + "\n" + d.what
			}
		}
		done[kind] = true
		if hit == "" {
			tell(kind, fmt.Sprintf("%s: %s does not tell of it; what does: %q", p.Lab.Name, tellers()[kind], seen), false)
		} else {
			tell(kind, hit, true)
		}
	}
	return nil
}
