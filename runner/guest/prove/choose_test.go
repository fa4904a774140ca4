package prove

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

// candidate is a lab that may be proven.
type candidate struct {
	file wire.File
	plan *scenarios.Plan
	// forms are what it has to show, see formsOf.
	forms []string
	// cost is a measure of the time that its proof takes.
	cost int
}

func newCandidate(f wire.File, p *scenarios.Plan) candidate {
	states := 1 + len(changing(p))
	ops := len(p.Setup)
	for _, i := range changing(p) {
		ops += len(changes(p.Steps[i]))
	}
	return candidate{f, p, formsOf(p), 20 + ops + 2*states*len(names(p))}
}

// cover picks labs that show together all that any of them shows: always the
// one that adds most for its cost, and at last none that the others make
// needless. Equals are taken in the order of the index, so that the choice
// depends on the labs alone.
func cover(all []candidate) []candidate {
	missing := make(map[string]bool)
	for _, c := range all {
		for _, f := range c.forms {
			missing[f] = true
		}
	}
	adds := func(c candidate) int {
		n := 0
		for _, f := range c.forms {
			if missing[f] {
				n++
			}
		}
		return n
	}
	var chosen []candidate
	for len(missing) > 0 {
		best := slices.MaxFunc(all, func(a, b candidate) int { return cmp.Compare(adds(a)*b.cost, adds(b)*a.cost) })
		for _, f := range best.forms {
			delete(missing, f)
		}
		chosen = append(chosen, best)
	}
	shownBy := make(map[string]int)
	for _, c := range chosen {
		for _, f := range c.forms {
			shownBy[f]++
		}
	}
	slices.SortStableFunc(chosen, func(a, b candidate) int { return cmp.Compare(b.cost, a.cost) })
	return slices.DeleteFunc(chosen, func(c candidate) bool {
		if slices.ContainsFunc(c.forms, func(f string) bool { return shownBy[f] == 1 }) {
			return false
		}
		for _, f := range c.forms {
			shownBy[f]--
		}
		return true
	})
}

// formsOf are what a plan has to show, each once: the kind and role of each op,
// and the form of each line of the shell, once for a setup and once for a
// change in a lab that is up.
func formsOf(p *scenarios.Plan) []string {
	f := forms{names: names(p)}
	slices.SortFunc(f.names, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	f.add("setup", p.Setup)
	for _, s := range p.Steps {
		f.add("change", changes(s))
	}
	slices.Sort(f.list)
	return slices.Compact(f.list)
}

type forms struct{ names, list []string }

func (f *forms) add(when string, ops []topology.Op) {
	for _, o := range ops {
		m := o.About()
		f.list = append(f.list, fmt.Sprintf("%s %s by role %q", when, m.Key.Kind, m.Role))
		if m.Key.Kind == "file" {
			continue // what is in it says nothing
		}
		for _, line := range o.Shell(dialect()) {
			f.list = append(f.list, when+" "+f.form(line))
		}
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// form is a line of the shell without its names, addresses and numbers. What a
// sysctl is set to is the machine's business, not the script's.
func (f *forms) form(line string) string {
	words := strings.Fields(line)
	for i, w := range words {
		if i > 0 && strings.HasPrefix(words[i-1], "-qw") {
			words[i], _, _ = strings.Cut(w, "=")
			continue
		}
		for _, n := range f.names {
			if w = strings.TrimSuffix(w, "-eth0"); w == n || strings.HasPrefix(w, n+"-") {
				w = "NAME"
			}
		}
		words[i] = digits.ReplaceAllString(kindOfWord(w), "0")
	}
	return strings.Join(words, " ")
}

// kindOfWord is what stands for an address, with a length or a port or not.
func kindOfWord(w string) string {
	a, err := netip.ParseAddr(w)
	shape := ""
	if err != nil {
		var p netip.Prefix
		p, err = netip.ParsePrefix(w)
		a, shape = p.Addr(), "/"
	}
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(strings.Trim(w, "'"))
		a, shape = ap.Addr(), ":"
	}
	switch {
	case err != nil && strings.Count(w, ":") == 5:
		return "MAC"
	case err != nil:
		return w
	case a.Is6():
		return "IPv6" + shape
	}
	return "IPv4" + shape
}

// modulesFor are the modules behind a feature that the proof loads: the tools
// that it compares by are those of the older tables.
func modulesFor(f topology.Feature) []string {
	if f == filter.Feature {
		return filter.LegacyModules()
	}
	alternatives := guest.Modules(f)
	return alternatives[len(alternatives)-1]
}

// lacking is why a lab cannot be proven on this machine with this kernel.
func lacking(p *scenarios.Plan, mods *kernel.Modules) error {
	for _, f := range p.AllNeeds() {
		if program, ok := f.Program(); ok {
			if _, err := exec.LookPath(program); err != nil {
				return fmt.Errorf("%s is not installed", program)
			}
			continue
		}
		for _, m := range modulesFor(f) {
			if !mods.Has(m) {
				return fmt.Errorf("the guest's kernel lacks %s", f)
			}
		}
	}
	return nil
}

// errNoScript is what a lab has that no script can make.
var errNoScript = errors.New("what no script has")

// unscriptable says why no script can make a lab, as the script itself does.
func unscriptable(p *scenarios.Plan) error {
	if m := whatNoScriptDoes.FindStringSubmatch(p.Script(dialect())); m != nil {
		return fmt.Errorf("%w: %s", errNoScript, m[1])
	}
	return nil
}

var whatNoScriptDoes = regexp.MustCompile(`(?m)^# What it cannot do: (.*)`)

// dialect is that of the guest's tools.
func dialect() topology.Dialect { return topology.Dialect{Arptables: "arptables-legacy"} }

// deal shares labs out among guests, the longest first, each to the guest that
// has least to do.
func deal(chosen []candidate, guests int) [][]candidate {
	hands, load := make([][]candidate, guests), make([]int, guests)
	for _, c := range slices.SortedStableFunc(slices.Values(chosen), func(a, b candidate) int { return cmp.Compare(b.cost, a.cost) }) {
		i := slices.Index(load, slices.Min(load))
		hands[i], load[i] = append(hands[i], c), load[i]+c.cost
	}
	return slices.DeleteFunc(hands, func(h []candidate) bool { return len(h) == 0 })
}
