package importer

import (
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/scenarios/importer/config"
	"github.com/lvslab/lvslab/topology/source"
)

// managedWait is how long the real keepalived may take until its table is
// complete and, where it is alone, it has become VRRP's master: three times the
// interval of advertisements and a bit (RFC 5798, 6.1), 3.6 s with its default.
// It adds virtual services at once, and the rest is for slow machines.
const managedWait = 30 * time.Second

// managedByVRRP reports whether the real keepalived brings a service's virtual
// IPs itself, by VRRP: then lvslab must not.
func (w *world) managedByVRRP(p *placed) bool {
	return len(p.vips) > 0 && !slices.ContainsFunc(p.vips, func(a netip.Addr) bool {
		return !slices.ContainsFunc(w.config.Addresses, func(c config.Address) bool { return c.Prefix.Addr() == a })
	})
}

// writeManaged writes what the director needs to run the real keepalived: itself,
// and the configuration with all that it includes, byte for byte.
func (w *world) writeManaged(p *page, level int) {
	serve := "keepalived"
	if w.configID != "" {
		serve = flowMap("service: keepalived", "config_id: "+scalar(w.configID))
	}
	p.line(level, source.Pos{}, "serve: [%s]", serve)
	p.line(level, source.Pos{}, "files:")
	for i, f := range w.config.Files {
		p.text(level+1, scalar(managedPath(w.config, i)), string(f.Data))
	}
}

// managedSorry writes a service's sorry server among its real servers: so it
// carries the virtual IP and has its way back as they have. When it is one of them
// is the real keepalived's to say.
func (p *page) managedSorry(s *placed, main string) {
	if s.sorry == nil || slices.ContainsFunc(s.servers, func(d server) bool { return d.node == s.sorry.node }) {
		return
	}
	p.comment(2, "The sorry server, which keepalived calls when the others are gone.")
	p.line(2, s.sorry.Pos, "- %s", s.serverText(s.sorry.quiet(), main))
}

// managedPath is where the director has one of the configuration's files: the
// first at keepalived's own place, the others as they lie to it.
func managedPath(c *config.Config, i int) string {
	if i == 0 {
		return scenarios.KeepalivedConf
	}
	name := c.Files[i].Name
	if filepath.IsAbs(name) && !filepath.IsAbs(c.Files[0].Name) {
		return path.Clean(name)
	}
	rel, err := filepath.Rel(filepath.Dir(c.Files[0].Name), name)
	if err != nil {
		rel = filepath.Base(name) // the reader reads nothing from elsewhere
	}
	return path.Join(path.Dir(scenarios.KeepalivedConf), filepath.ToSlash(rel))
}

// text writes "KEY: TEXT" for a text of several lines: as a block, which reads as
// the text itself, where a block can hold it, and else in quotes.
func (p *page) text(level int, key, text string) {
	head := "|"
	if strings.HasPrefix(strings.TrimLeft(text, "\n"), " ") {
		head += "2" // the first line does not tell the indentation
	}
	switch {
	case !strings.HasSuffix(text, "\n"):
		head += "-"
	case strings.HasSuffix(text, "\n\n"):
		head += "+"
	}
	var b strings.Builder
	indent := strings.Repeat("  ", level)
	fmt.Fprintf(&b, "%s%s: %s\n", indent, key, head)
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(indent + "  ")
		}
		b.WriteString(line)
	}
	if !strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
	var back map[string]string
	if err := yaml.Unmarshal([]byte(b.String()), &back); err != nil || len(back) != 1 || !containsValue(back, text) {
		b.Reset()
		fmt.Fprintf(&b, "%s%s: %s\n", indent, key, strconv.Quote(text))
	}
	p.b.WriteString(b.String())
}

func containsValue(m map[string]string, text string) bool {
	for _, v := range m {
		return v == text
	}
	return false
}

// managed is the step before all others: it waits until the real keepalived has
// told IPVS what the configuration says, and carries its addresses.
func (p *planner) managed() step {
	s := step{
		name:    "keepalived has told IPVS what the configuration says",
		comment: "keepalived takes a moment: VRRP waits for three advertisements, and alpha mode for the first checks.",
		within:  p.managedWithin().String(),
	}
	var carried []string
	for _, a := range p.config.Addresses {
		if addr := a.Prefix.Addr().String(); !slices.Contains(carried, addr) {
			carried = append(carried, addr)
		}
	}
	if len(carried) > 0 {
		s.expect = append(s.expect, assertion{
			kind: "addresses", from: p.config.Addresses[0].Pos,
			text: fmt.Sprintf("addresses: {node: %s, has: [%s]}", p.director, strings.Join(scalars(carried), ", ")),
		})
	}
	var untold []string
	for _, o := range p.services {
		s.comment = joinText(s.comment, o.whyFailed())
		if len(o.untold) > 0 {
			untold = append(untold, fmt.Sprintf("%s is left out here and below: %s.", o.Name(), strings.Join(slices.Compact(slices.Clone(o.untold)), "; ")))
		}
	}
	if len(untold) == 0 {
		s.expect = append(s.expect, p.managedRules())
		return s
	}
	s.comment = joinText(s.comment, strings.Join(untold, " "))
	for _, o := range p.services {
		if len(o.untold) == 0 {
			s.expect = append(s.expect, p.table(o, o.Service.Service, p.pool(o)))
		}
	}
	if len(s.expect) == 0 { // a lab has steps
		s.name, s.expect = "nothing is known of what keepalived tells IPVS", []assertion{p.directorItself()}
	}
	return s
}

// directorItself expects that the director is there.
func (p *planner) directorItself() assertion {
	own := ""
	for _, m := range p.nodes {
		for _, l := range m.links {
			if m.name == p.director && own == "" && len(l.addresses) > 0 {
				own = l.addresses[0].Addr().String()
			}
		}
	}
	return assertion{kind: "addresses", text: fmt.Sprintf("addresses: {node: %s, has: [%s]}", p.director, scalar(own))}
}

// managedRules are the whole of the director's table, each rule with its place.
func (p *planner) managedRules() assertion {
	lines := []string{"table:", "  node: " + scalar(p.director), "  rules:"}
	places := make([]source.Pos, len(lines))
	for _, s := range p.services {
		rules, at := rulesOf(s.Service.Service, s.Pos, p.pool(s))
		lines, places = append(lines, rules...), append(places, at...)
	}
	return assertion{kind: "table", text: strings.Join(lines, "\n"), from: p.services[0].Pos, lines: places}
}

// failingWait is how long keepalived may take, from its first look on, until it
// takes a server out: by default it tries HTTP_GET again three times, 3 s later
// each, and each time waits up to 5 s for a connection.
const failingWait = 40 * time.Second

// managedWithin is how long the first step waits: in alpha mode a real server is
// added when its first check has passed, at the latest after the delay loop, and
// one that fails is taken out some time after its first.
func (p *planner) managedWithin() time.Duration {
	var longest time.Duration
	for _, s := range p.services {
		switch {
		case len(s.failed) > 0:
			longest = max(longest, s.DelayLoop+failingWait)
		case s.Alpha:
			longest = max(longest, s.DelayLoop)
		}
	}
	return managedWait + longest
}
