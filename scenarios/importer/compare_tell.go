package importer

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/scenarios/importer/config"
)

// tell says of each change which assertions show it: those of a lab of the old
// service alone that a lab of it with this one change has no more, and that the
// new service's has not either. So neither another change of the service nor the
// names that nodes get beside other services count. What a lab of all services
// together does not assert, as where real servers share a node, is left out.
func tell(d *Difference, old, new *config.Config, o DraftOptions) {
	if len(d.Changes) == 0 {
		return
	}
	t := &teller{old: old, new: new, options: o}
	var err error
	if t.all, err = assertionsOf(old, o); err == nil {
		t.added, err = assertionsOf(new, o)
	}
	for i := 0; i < len(d.Changes) && err == nil; i++ {
		err = t.change(&d.Changes[i])
		d.Changes[i].Assertions = short(d.Changes[i].Assertions)
	}
	if err != nil {
		d.Unknown = err.Error()
		for i := range d.Changes {
			d.Changes[i].Assertions = nil
		}
	}
}

// short has the table's assertions as one: what its rules were, the change itself
// tells.
func short(list []Assertion) []Assertion {
	for i := range list {
		if list[i].Kind == KindTable {
			list[i].Text = "table: the rules of the service"
		}
	}
	return unique(list)
}

// teller knows the labs of two configurations.
type teller struct {
	old, new   *config.Config
	options    DraftOptions
	all, added *said
	// The service of the change before, its assertions when it is alone, and
	// those of the service that it becomes.
	service      *config.Service
	alone, after *said
}

// said are the assertions of a lab by service, and those of no service.
type said struct {
	of   map[string][]Assertion
	rest []Assertion
}

func (s *said) about(c *config.Service) []Assertion { return s.of[c.Name()] }

// change tells of one change.
func (t *teller) change(c *Change) error {
	switch {
	case c.service == nil && c.lost.IsValid():
		c.Assertions = t.unreached(c.lost)
		return nil
	case c.service == nil:
		return nil // of no service: no assertion is about it
	case c.whole && c.Old.Text == "":
		c.Assertions = unique(t.added.about(c.service))
		return nil
	case c.whole:
		// Where nobody answered before, nobody does now.
		c.Assertions = slices.DeleteFunc(unique(t.all.about(c.service)), func(a Assertion) bool { return a.Text == "result: refused" })
		return nil
	case c.variant == nil:
		return nil
	}
	if err := t.turnTo(c); err != nil {
		return err
	}
	v := clone(c.service)
	c.variant(&v)
	changed, err := t.only(t.old, &v)
	if err != nil {
		return err
	}
	// A lab of all has the assertion too.
	made := slices.Concat(t.all.about(c.service), t.all.rest)
	kept := append(slices.Concat(changed.about(&v), changed.rest), t.after.rest...)
	for _, list := range t.after.of {
		kept = append(kept, list...)
	}
	for _, a := range unique(slices.Concat(t.alone.about(c.service), t.alone.rest)) {
		isMade := slices.ContainsFunc(made, func(m Assertion) bool { return m.Kind == a.Kind })
		if isMade && !slices.Contains(kept, a) && !holds(a, &v) {
			c.Assertions = append(c.Assertions, a)
		}
	}
	return nil
}

// unreached are the assertions that show that nobody is at an address: all of its
// services but those on the table.
func (t *teller) unreached(a netip.Addr) []Assertion {
	var list []Assertion
	for i := range t.old.Services {
		if s := &t.old.Services[i]; s.FWMark == 0 && s.Addr.Addr() == a {
			list = append(list, t.all.about(s)...)
		}
	}
	return slices.DeleteFunc(unique(list), func(a Assertion) bool { return a.Kind == KindTable || a.Text == "result: refused" })
}

// holds reports whether an assertion is true of a service whatever its scheduler:
// a lab of that service may well say something sharper instead.
func holds(a Assertion, s *config.Service) bool {
	var active []string
	for _, d := range s.Servers {
		if d.Weight > 0 {
			active = append(active, d.Addr.Addr().String())
		}
	}
	return a.Text == "result: ok" && len(active) > 0 || len(active) == 1 && a.Text == "only: "+active[0]
}

// turnTo works out what is said of a change's service when it is alone.
func (t *teller) turnTo(c *Change) error {
	if t.service == c.service {
		return nil
	}
	var err error
	if t.alone, err = t.only(t.old, c.service); err != nil {
		return err
	}
	after := alignedTo(c.service, c.becomes)
	if t.after, err = t.only(t.new, &after); err != nil {
		return err
	}
	t.service = c.service
	return nil
}

// only are the assertions of a lab of one service.
func (t *teller) only(of *config.Config, s *config.Service) (*said, error) {
	return assertionsOf(&config.Config{Kind: of.Kind, Files: of.Files, Addresses: of.Addresses, Services: []config.Service{*s}}, t.options)
}

// clone is a service whose real servers can be changed.
func clone(s *config.Service) config.Service {
	c := *s
	c.Servers = slices.Clone(s.Servers)
	return c
}

// alignedTo is the service new with its real servers in the order of old: what
// comes in another order is not another thing.
func alignedTo(old, new *config.Service) config.Service {
	c := clone(new)
	partner := partners(new, old)
	place := make(map[string]int, len(c.Servers))
	for i := range c.Servers {
		j, there := partner[i]
		if !there {
			j = len(old.Servers) + i
		}
		place[c.Servers[i].Addr.String()] = j
	}
	slices.SortStableFunc(c.Servers, func(a, b config.Server) int { return place[a.Addr.String()] - place[b.Addr.String()] })
	return c
}

// unique are the assertions without repetitions, in their order.
func unique(list []Assertion) []Assertion {
	seen := make(map[Assertion]bool)
	return slices.DeleteFunc(slices.Clone(list), func(a Assertion) bool {
		again := seen[a]
		seen[a] = true
		return again
	})
}

// assertionsOf are the assertions of the lab that Draft would make.
func assertionsOf(c *config.Config, o DraftOptions) (*said, error) {
	w, err := survey(c, o)
	if err != nil {
		return nil, fmt.Errorf("no lab can be made of %s: %w", c.Files[0].Name, err)
	}
	all := &said{of: make(map[string][]Assertion)}
	words := make(map[*placed]map[string]string)
	word := regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9_.-]*`)
	for _, s := range w.steps() {
		var named map[string]string
		if s.service != nil {
			if words[s.service] == nil {
				words[s.service] = namesIn(s.service)
			}
			named = words[s.service]
		}
		for _, a := range s.expect {
			text := Assertion{a.kind, withAddresses(a.text, word, named)}
			if s.service == nil {
				all.rest = append(all.rest, text)
			} else {
				all.of[s.service.Name()] = append(all.of[s.service.Name()], text)
			}
		}
	}
	return all, nil
}

// namesIn are the names that a lab has for what a service names by address.
func namesIn(p *placed) map[string]string {
	names := map[string]string{p.name: p.Name()}
	add := func(s server) {
		if _, there := names[s.node]; !there {
			names[s.node] = s.Addr.Addr().String()
		}
	}
	for _, s := range p.servers {
		add(s)
	}
	if p.sorry != nil {
		add(*p.sorry)
	}
	return names
}

// withAddresses is the text of an assertion in one line, with addresses instead
// of the names that a lab has for them.
func withAddresses(text string, word *regexp.Regexp, names map[string]string) string {
	text = strings.Join(strings.Fields(text), " ")
	return word.ReplaceAllStringFunc(text, func(w string) string {
		if a, ok := names[w]; ok {
			return a
		}
		return w
	})
}
