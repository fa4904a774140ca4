package importer

import (
	"cmp"
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
	"github.com/lvslab/lvslab/scenarios/ipvs"
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
	quiet := *s.sorry.Server
	quiet.Weight = 0
	p.comment(2, "The sorry server, which keepalived calls when the others are gone.")
	p.line(2, s.sorry.Pos, "- %s", s.serverText(server{&quiet, s.sorry.node, s.sorry.address}, main))
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

// managedSteps is the step before all others: it waits until the real keepalived
// has told IPVS what the configuration says, and carries its addresses.
func (w *world) managedSteps() []step {
	s := step{
		name:    "keepalived has told IPVS what the configuration says",
		comment: "keepalived takes a moment: VRRP waits for three advertisements, and alpha mode for the first checks.",
		within:  w.managedWithin().String(),
	}
	var carried []string
	for _, a := range w.config.Addresses {
		if addr := a.Prefix.Addr().String(); !slices.Contains(carried, addr) {
			carried = append(carried, addr)
		}
	}
	if len(carried) > 0 {
		s.expect = append(s.expect, assertion{
			kind: "addresses", from: w.config.Addresses[0].Pos,
			text: fmt.Sprintf("addresses: {node: %s, has: [%s]}", w.director, strings.Join(scalars(carried), ", ")),
		})
	}
	s.expect = append(s.expect, w.managedRules())
	return []step{s}
}

// managedRules are the whole of the director's table, each rule with its place.
func (w *world) managedRules() assertion {
	lines := []string{"table:", "  node: " + scalar(w.director), "  rules:"}
	places := make([]source.Pos, len(lines))
	for i, e := range managedTable(w.config) {
		s := &w.config.Services[i]
		rules := strings.Split(strings.TrimSpace(ipvs.FormatCommands(ipvs.Table{e})), "\n")
		for j, rule := range rules {
			pos := s.Pos
			switch {
			case j == 0:
			case sorryFirst(s):
				pos = s.Sorry.Pos
			default:
				pos = s.Servers[j-1].Pos
			}
			lines, places = append(lines, "  - "+rule), append(places, pos)
		}
	}
	return assertion{kind: "table", text: strings.Join(lines, "\n"), from: w.config.Services[0].Pos, lines: places}
}

// sorryFirst reports whether the real keepalived calls a service's sorry server
// from the beginning: all weights together are below the quorum.
func sorryFirst(s *config.Service) bool {
	sum := 0
	for _, d := range s.Servers {
		sum += d.Weight
	}
	return s.Sorry != nil && sum < s.Quorum
}

// managedTable is what the real keepalived tells IPVS when all checks pass: a
// service whose real servers together weigh less than its quorum has the sorry
// server from the beginning, and nothing else.
func managedTable(c *config.Config) ipvs.Table {
	t := c.Table()
	for i := range c.Services {
		if s := &c.Services[i]; sorryFirst(s) {
			t[i].Destinations = []ipvs.Destination{s.Sorry.Destination}
		}
	}
	return t
}

// managedWithin is how long the first step waits: in alpha mode a real server is
// added when its first check has passed, at the latest after the delay loop.
func (w *world) managedWithin() time.Duration {
	var longest time.Duration
	for i := range w.config.Services {
		if s := &w.config.Services[i]; s.Alpha {
			longest = max(longest, s.DelayLoop)
		}
	}
	return managedWait + longest
}

// managedNotes are what a run with the real keepalived cannot show: checks that
// no server of lvslab's passes, for which keepalived takes the server out.
func managedNotes(c *config.Config) []config.Note {
	var notes []config.Note
	for _, s := range c.Services {
		for _, d := range s.Servers {
			for _, k := range d.Checkers {
				if !k.Passable {
					notes = append(notes, config.Note{
						Pos: cmp.Or(k.Pos, d.Pos), Kind: config.Warning,
						Msg: fmt.Sprintf("the real keepalived will find %s down in the lab: %s", d.Addr, k.Why),
					})
				}
			}
		}
	}
	return notes
}
