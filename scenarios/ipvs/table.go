package ipvs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Normal is e with its service's defaults written out and its real servers as
// the kernel holds them.
func (e Entry) Normal() Entry {
	e.Service = e.Service.Normal()
	ds := make([]Destination, len(e.Destinations))
	for i, d := range e.Destinations {
		ds[i] = d.For(e.Service)
	}
	e.Destinations = ds
	return e
}

// Clone is a copy that shares nothing with t.
func (t Table) Clone() Table {
	out := make(Table, len(t))
	for i, e := range t {
		e.Flags = slices.Clone(e.Flags)
		e.Destinations = slices.Clone(e.Destinations)
		out[i] = e
	}
	return out
}

// Find is the entry of service s.
func (t Table) Find(s Service) (*Entry, bool) {
	for i := range t {
		if t[i].Same(s) {
			return &t[i], true
		}
	}
	return nil, false
}

// Find is the real server at d's address, with d's port.
func (e *Entry) Find(d Destination) (*Destination, bool) {
	for i := range e.Destinations {
		if e.Destinations[i].Addr == d.Addr {
			return &e.Destinations[i], true
		}
	}
	return nil, false
}

// Sort puts t in its canonical order: services by mark, family, protocol,
// address and port, real servers by family, address and port. The kernel has
// no order of services worth keeping, but its rr begins with the real server
// added last: sort a table for comparing it, not for applying it.
func (t Table) Sort() {
	slices.SortStableFunc(t, func(a, b Entry) int { return compareServices(a.Service, b.Service) })
	for i := range t {
		slices.SortStableFunc(t[i].Destinations, compareDestinations)
	}
}

func compareServices(a, b Service) int {
	return cmp.Or(
		cmp.Compare(a.FWMark, b.FWMark),
		cmp.Compare(a.AddrFamily(), b.AddrFamily()),
		cmp.Compare(a.Protocol, b.Protocol),
		a.Addr.Compare(b.Addr),
	)
}

func compareDestinations(a, b Destination) int { return a.Addr.Compare(b.Addr) }

// Equal reports whether t and o hold the same services and real servers, set
// the same way, in whatever order. Counts of connections do not matter.
func (t Table) Equal(o Table) bool { return len(t.Diff(o)) == 0 }

// Diff says in words what want has and t has not, and the other way round; it
// is empty when they are equal. The lines are in canonical order.
//
//   - tcp 172.25.12.100:80 -> 172.25.12.3:80: missing (-g -w 1)
//   - tcp 172.25.12.100:80 -> 172.25.12.4:80: not wanted (-g -w 1)
//     ! tcp 172.25.12.100:80: is -s wlc, wanted -s rr
func (t Table) Diff(want Table) []string {
	have, want := t.normalSorted(), want.normalSorted()
	var lines []string
	say := func(sign, what, format string, args ...any) {
		lines = append(lines, sign+" "+what+": "+fmt.Sprintf(format, args...))
	}
	for _, w := range want {
		h, ok := have.Find(w.Service)
		switch {
		case !ok:
			say("+", w.Name(), "missing (%s)", serviceOptions(w.Service))
			h = &Entry{}
		case !h.Equal(w.Service):
			say("!", w.Name(), "is %s, wanted %s", serviceOptions(h.Service), serviceOptions(w.Service))
		}
		lines = append(lines, diffDestinations(w.Name(), h, &w)...)
	}
	for _, h := range have {
		if _, ok := want.Find(h.Service); !ok {
			say("-", h.Name(), "not wanted (%s)", serviceOptions(h.Service))
		}
	}
	return lines
}

func diffDestinations(name string, have, want *Entry) []string {
	var lines []string
	say := func(sign string, d Destination, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%s %s -> %s: ", sign, name, d.Addr)+fmt.Sprintf(format, args...))
	}
	for _, w := range want.Destinations {
		h, ok := have.Find(w)
		switch {
		case !ok:
			say("+", w, "missing (%s)", destinationOptions(w))
		case !h.Equal(w):
			say("!", w, "is %s, wanted %s", destinationOptions(*h), destinationOptions(w))
		}
	}
	for _, h := range have.Destinations {
		if _, ok := want.Find(h); !ok {
			say("-", h, "not wanted (%s)", destinationOptions(h))
		}
	}
	return lines
}

func (t Table) normalSorted() Table {
	out := make(Table, len(t))
	for i, e := range t {
		out[i] = e.Normal()
	}
	out.Sort()
	return out
}

// Validate finds what no kernel would take, or would take and keep as
// something else. The error is one line a finding.
func (t Table) Validate() error {
	var bad []string
	for i, e := range t {
		if err := e.Validate(); err != nil {
			bad = append(bad, err.Error())
		}
		if _, twice := t[:i].Find(e.Service); twice {
			bad = append(bad, e.Name()+": this service is in the table twice")
		}
		n := e.Normal()
		for j, d := range n.Destinations {
			if err := d.Validate(n.Service); err != nil {
				bad = append(bad, err.Error())
			}
			before := Entry{Destinations: n.Destinations[:j]}
			if _, twice := before.Find(d); twice {
				bad = append(bad, fmt.Sprintf("%s -> %s: this real server is there twice", n.Name(), d.Addr))
			}
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "\n"))
	}
	return nil
}
