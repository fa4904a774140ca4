package importer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// longestFailing is the longest time between two checks of which a lab waits until
// those that must fail have failed.
const longestFailing = 30 * time.Second

// health is what the real keepalived makes of a real server in the lab.
type health int

const (
	healthy health = iota
	failing
	unknown
)

// finding is the health of a real server, with the checker that it comes from and
// what is to be said of that.
type finding struct {
	health
	pos source.Pos
	why string
}

// look is what keepalived's checkers make of a server that is what the lab has in
// its place. One that fails outweighs all others.
func (w *world) look(s *placed, d server) finding {
	out := finding{}
	for _, k := range d.Checkers {
		h, why := w.check(d, k)
		if h == failing && s.DelayLoop > longestFailing {
			h, why = unknown, fmt.Sprintf("%s, and keepalived looks every %v only", why, s.DelayLoop)
		}
		if h != healthy && out.health != failing {
			out = finding{h, cmp.Or(k.Pos, d.Pos), why}
		}
	}
	return out
}

// check is what one checker makes of a server.
func (w *world) check(d server, k config.Checker) (health, string) {
	switch {
	case k.Fails:
		return failing, k.Why
	case k.Program != "" && w.hasProgram != nil && !w.hasProgram(k.Program):
		return healthy, "" // keepalived leaves a check out whose program is not there
	case k.Addr.IsValid() && w.carrier(k) == "":
		return failing, k.Why + ", and nobody in the lab has that address"
	case !k.Passable:
		return unknown, k.Why
	}
	word, ok := map[string]string{"HTTP_GET": "http", "SMTP_CHECK": "smtp", "DNS_CHECK": serveDNS}[k.Kind]
	if ok && w.servedAt(d.node, k.Port) != word {
		return unknown, fmt.Sprintf("%s wants a server that speaks %s on port %d of %s", k.Kind, word, k.Port, d.node)
	}
	return healthy, ""
}

// carrier is the node that has the address to which a checker connects.
func (w *world) carrier(k config.Checker) string {
	for _, m := range w.nodes {
		for _, l := range m.links {
			if slices.ContainsFunc(l.addresses, func(a linkAddress) bool { return a.Addr() == k.Addr }) {
				return m.name
			}
		}
	}
	if _, ok := w.carried[k.Addr]; ok {
		return w.director
	}
	return ""
}

// servedAt is the protocol that a node's server speaks at a port.
func (w *world) servedAt(node string, port uint16) string {
	for _, m := range w.nodes {
		if m.name != node {
			continue
		}
		for _, entry := range m.serve {
			if servePort(entry) == port {
				return serveWord(entry)
			}
		}
	}
	return ""
}

// settled are the services as the real keepalived has them when it has looked at
// all: without the real servers that fail, or with weight 0 where it inhibits them.
func (w *world) settled() []*placed {
	if w.managedBy != managedByKeepalived {
		return w.services
	}
	out := make([]*placed, len(w.services))
	for i, s := range w.services {
		now := *s
		now.servers = nil
		for _, d := range s.servers {
			switch f := w.look(s, d); f.health {
			case unknown:
				now.untold = append(now.untold, f.why)
				now.servers = append(now.servers, d)
			case healthy:
				now.servers = append(now.servers, d)
			default:
				now.failed = append(now.failed, f.why)
				if now.inhibits(d) {
					now.servers = append(now.servers, d.quiet())
				}
			}
		}
		out[i] = &now
	}
	return out
}

// inhibits says that keepalived sets the weight of a server that fails to 0.
func (s *placed) inhibits(d server) bool { return s.InhibitOnFailure || d.InhibitOnFailure }

// quiet is the server with weight 0.
func (d server) quiet() server {
	q := *d.Server
	q.Weight = 0
	return server{&q, d.node, d.address}
}

// failNotes are what the real keepalived finds down in the lab, and of what it is
// not known.
func (w *world) failNotes() {
	for _, s := range w.services {
		for _, d := range s.servers {
			switch f := w.look(s, d); {
			case f.health == unknown:
				w.note(f.pos, config.Warning, "whether the real keepalived finds %s up in the lab is not known, so that nothing is expected of %s: %s", d.Addr, s.Name(), f.why)
			case f.health == failing && s.inhibits(d):
				w.note(f.pos, config.Assumed, "%s, so that keepalived sets the weight of %s to 0 in %s", f.why, d.Addr, s.Name())
			case f.health == failing:
				w.note(f.pos, config.Assumed, "%s, so that keepalived takes %s out of %s", f.why, d.Addr, s.Name())
			}
		}
	}
}
