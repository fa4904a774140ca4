package ipvs

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology/source"
)

// RuleFile is what a file of rules tells `ipvsadm -R`.
type RuleFile struct {
	Table Table
	// Places say where the parts of Table stand, entry by entry.
	Places []EntryPlaces
	// Others are the commands that ipvsadm -R takes as well and that make no
	// table, in the order of the file.
	Others []OtherRule
}

// EntryPlaces say where a virtual service stands: the place of the command that
// added it or, if there is one, that edited it last.
type EntryPlaces struct {
	Pos source.Pos
	// Parts are the places of its options, by the names of what they set:
	// "scheduler", "persistence", "protocol"; a default has none.
	Parts map[string]source.Pos
	// Servers are the places of its real servers, in the order of the table.
	Servers []ServerPlaces
}

// ServerPlaces say where a real server stands.
type ServerPlaces struct {
	Pos source.Pos
	// Parts are "forwarding", "weight" and "thresholds".
	Parts map[string]source.Pos
	// Named is the address that the rule gives, where the kernel keeps another
	// port (Destination.For); otherwise it is the real server's.
	Named netip.AddrPort
}

// OtherRule is a command that makes no table.
type OtherRule struct {
	Pos source.Pos
	// Text is the command, and Does says what it does: "sets timeouts of all
	// connections".
	Text, Does string
}

// ReadRules is ParseRules with the places of all that is read. The commands that
// ipvsadm -R takes beside those of a table (--set, -Z, -L, daemons) are no
// mistakes here. What a rule contradicts is named by its line.
func ReadRules(name, text string) (*RuleFile, error) {
	f := &RuleFile{}
	b := placer{builder: builder{index: newIndex()}}
	err := eachRule(name, text, func(words []word, line source.Pos) *ruleError {
		other, err := b.otherRule(words, line)
		if err == nil && other == nil {
			err = b.rule(words, line)
		}
		if err != nil {
			return inShell(words, err)
		}
		if other != nil {
			f.Others = append(f.Others, *other)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.Table, f.Places = b.table, b.places
	return f, nil
}

// placer is a builder that keeps the places of what it builds.
type placer struct {
	builder
	places []EntryPlaces
}

// rule applies one rule, and keeps where it stands.
func (b *placer) rule(words []word, line source.Pos) *ruleError {
	r, err := parseRule(words)
	if err != nil {
		return err
	}
	i, j := -1, -1
	if r.cmd != 'C' {
		if i = b.find(r.service); i >= 0 {
			j = b.findServer(i, r.server)
		}
	}
	if err := b.apply(r); err != nil {
		return b.contradicts(err, r, i, j)
	}
	at := line
	at.Col = words[0].col
	b.note(r, at, i, j)
	return nil
}

// contradicts adds to a complaint of what is there already where that stands.
func (b *placer) contradicts(err *ruleError, r *rule, i, j int) *ruleError {
	switch {
	case r.cmd == 'A' && i >= 0:
		err.msg += ", added at " + lineOf(b.places[i].Pos)
	case r.cmd == 'a' && j >= 0:
		err.msg += ", added at " + lineOf(b.places[i].Servers[j].Pos)
	}
	return err
}

func lineOf(p source.Pos) string {
	p.Col = 0
	return p.String()
}

// note keeps the place of a rule that was applied to the entry that was at i, and
// to its real server that was at j.
func (b *placer) note(r *rule, at source.Pos, i, j int) {
	switch r.cmd {
	case 'C':
		b.places = nil
	case 'A':
		b.places = append(b.places, EntryPlaces{Pos: at, Parts: r.parts(at)})
	case 'E':
		b.places[i].Pos, b.places[i].Parts = at, r.parts(at)
	case 'D':
		b.places = slices.Delete(b.places, i, i+1)
	case 'a':
		b.places[i].Servers = append(b.places[i].Servers, r.serverPlaces(at))
	case 'e':
		b.places[i].Servers[j] = r.serverPlaces(at)
	case 'd':
		b.places[i].Servers = slices.Delete(b.places[i].Servers, j, j+1)
	}
}

func (r *rule) serverPlaces(at source.Pos) ServerPlaces {
	return ServerPlaces{Pos: at, Parts: r.parts(at), Named: r.named}
}

// parts are the places of the rule's options by what they set. What has no name
// there stands where the rule does.
func (r *rule) parts(at source.Pos) map[string]source.Pos {
	m := make(map[string]source.Pos, len(r.opts))
	for _, g := range r.opts {
		part := ""
		switch g.group {
		case "scheduler", "persistence", "weight":
			part = g.group
		case "virtual service":
			part = "protocol"
		case "forwarding method":
			part = "forwarding"
		case "upper threshold", "lower threshold":
			part = "thresholds"
		}
		if part == "" || part == "protocol" && !strings.ContainsRune(setCmds, r.cmd) {
			continue
		}
		if _, there := m[part]; !there {
			at.Col = g.col
			m[part] = at
		}
	}
	return m
}

// otherRule reads a command that makes no table. It is nil for those that do.
func (b *placer) otherRule(words []word, line source.Pos) (*OtherRule, *ruleError) {
	first := words[0]
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	text := strings.Join(texts, " ")
	o := &OtherRule{Pos: line, Text: text}
	o.Pos.Col = first.col
	name, _, _ := strings.Cut(first.text, "=")
	var err error
	switch {
	case name == "--set":
		_, err = ParseTimeouts(text)
		o.Does = "sets the timeouts of all connections"
	case name == "--start-daemon":
		_, err = ParseSyncDaemon(strings.TrimPrefix(strings.Replace(text, "=", " ", 1), "--start-daemon "))
		o.Does = "starts a synchronisation daemon"
	case name == "--stop-daemon":
		o.Does = "stops a synchronisation daemon"
	case name == "--list" || strings.HasPrefix(name, "-L") || strings.HasPrefix(name, "-l"):
		o.Does = "lists the table"
	case name == "--zero" || name == "-Z":
		o.Does = "sets counters to zero"
		if len(words) > 1 {
			return o, b.zeroed(words)
		}
	default:
		return nil, nil
	}
	if err != nil {
		return nil, first.errorf("%v", err)
	}
	return o, nil
}

// zeroed checks that the service whose counters are set to zero is there.
func (b *placer) zeroed(words []word) *ruleError {
	r, err := parseRule(append([]word{{"-D", words[0].col}}, words[1:]...))
	if err != nil {
		err.msg = strings.ReplaceAll(err.msg, "-D", "-Z")
		return err
	}
	if b.find(r.service) < 0 {
		return r.service1.errorf("there is no virtual service %s", r.service.Name())
	}
	return nil
}

// inShell tells of a line that is a shell script's what to do instead of what is
// wrong with it as a rule.
func inShell(words []word, err *ruleError) *ruleError {
	for _, w := range words {
		if strings.ContainsAny(w.text, "$`") {
			return w.errorf("%.60q: rules are no shell script, and nothing in them is expanded; run the script, and save what it made with ipvsadm -S -n", w.text)
		}
	}
	if w := words[0]; strings.Contains(w.text, "/") && path.Base(w.text) == "ipvsadm" {
		return w.errorf("%.60q: ipvsadm -R takes the word ipvsadm before a rule, and no path", w.text)
	}
	return err
}
