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
	shown := formsOf(p)
	if unscriptable(p) != nil {
		shown = nil
	}
	return candidate{f, p, shown, 20 + ops + 2*states*len(names(p))}
}

// cover picks labs that show together all that any of them shows, besides those
// that are needed anyway: always the one that adds most for its cost, and at last
// none that the others make needless. Equals are taken in the order of the
// index, so that the choice depends on the labs alone.
func cover(all, needed []candidate) []candidate {
	missing := make(map[string]bool)
	for _, c := range all {
		for _, f := range c.forms {
			missing[f] = true
		}
	}
	for _, c := range needed {
		for _, f := range c.forms {
			delete(missing, f)
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
	chosen = append(slices.Clone(needed), chosen...)
	shownBy := make(map[string]int)
	for _, c := range chosen {
		for _, f := range c.forms {
			shownBy[f]++
		}
	}
	slices.SortStableFunc(chosen, func(a, b candidate) int { return cmp.Compare(b.cost, a.cost) })
	return slices.DeleteFunc(chosen, func(c candidate) bool {
		isNeeded := slices.ContainsFunc(needed, func(n candidate) bool { return n.plan == c.plan })
		if isNeeded || slices.ContainsFunc(c.forms, func(f string) bool { return shownBy[f] == 1 }) {
			return false
		}
		for _, f := range c.forms {
			shownBy[f]--
		}
		return true
	})
}

// formsOf are what a plan has to show, each once: each kind of op in a setup and
// in a change of a lab that is up, each of its roles, and the parts of the
// shell's lines.
func formsOf(p *scenarios.Plan) []string {
	f := forms{names: names(p)}
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
		f.list = append(f.list, when+" "+m.Key.Kind, fmt.Sprintf("%s by role %q", m.Key.Kind, m.Role))
		if m.Key.Kind == "daemon" {
			f.list = f.list[:len(f.list)-1] // its role is its service, as in the shell
		}
		if m.Key.Kind == "file" {
			continue // what is in it says nothing
		}
		for _, line := range o.Shell(dialect()) {
			f.list = append(f.list, f.parts(line)...)
		}
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// parts are the parts of a line of the shell that go for themselves, without
// names, addresses and numbers: what is called, and each option with its value.
// Which key a sysctl is, what a scheduler is called and how a daemon of the
// machine is started is no business of the script's.
func (f *forms) parts(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		previous := ""
		if i > 0 {
			previous = words[i-1]
		}
		switch {
		case previous == "-qw":
			words[i] = strings.Join(strings.SplitN(w, ".", 4)[:3], ".")
			words[i], _, _ = strings.Cut(words[i], "=")
		case previous == "-s" && slices.Contains(words, "ipvsadm"):
			words[i] = "SCHEDULER"
		case slices.ContainsFunc(f.names, func(n string) bool { return w == n || strings.HasPrefix(w, n+"-") }):
			words[i] = "NAME"
		default:
			words[i] = digits.ReplaceAllString(kindOfWord(w), "0")
		}
	}
	if words[0] == "serve_command" {
		words = words[:4]
	}
	if words[0] != "ip" || words[1] != "netns" || len(words) < 6 {
		return []string{strings.Join(words, " ")}
	}
	// A program in a node: its name and command, then options.
	call := strings.Join(words[4:6], " ")
	all := []string{call}
	for i := 6; i < len(words); i++ {
		part := call + " … " + words[i]
		if i+1 < len(words) && strings.HasPrefix(words[i], "-") && !strings.HasPrefix(words[i+1], "-") {
			i++
			part += " " + words[i]
		}
		all = append(all, part)
	}
	return all
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
