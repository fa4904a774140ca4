package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/source"
)

// Auto is the word of --kernel that leaves the choice to lvslab.
const Auto = "auto"

// NoBackendError says that no backend can run the labs, and what each of them
// said.
type NoBackendError struct {
	Reasons []Reason
}

// Reason is why one backend was not taken.
type Reason struct {
	Backend string
	Answer  Answer
}

func (e *NoBackendError) Error() string {
	var b strings.Builder
	b.WriteString("no kernel here can run this:")
	for _, r := range e.Reasons {
		fmt.Fprintf(&b, "\n  %s: %s", r.Backend, r.Answer.Why)
		for _, f := range r.Answer.Fix {
			fmt.Fprintf(&b, "\n    mend it with: %s", f)
		}
	}
	return b.String()
}

// LabNeeds are the features that one lab needs.
type LabNeeds struct {
	Lab   string
	Needs []topology.Feature
}

// Share is what one backend is to run.
type Share struct {
	Backend Backend
	// Why it was taken: the end of a line that names its kernel.
	Why  string
	Labs []string
}

// Assign shares labs out to backends: to the one called want, or for Auto to the
// first that can do what all labs need. One that says yes comes before one that
// could not tell. A backend that is asked for by name and cannot is an error:
// nothing else is taken in its place.
//
// A backend may say that it lacks a feature but can do without (Answer.Partly).
// For Auto it then gets the labs that do not need the feature, and the others
// are for the backends after it. What is left, no kernel here can run: it goes
// to the first such backend, as does all for a backend asked for by name, to be
// skipped there with the name of what is missing.
func Assign(ctx context.Context, backends []Backend, want string, labs []LabNeeds) ([]Share, error) {
	var passed []Reason
	var shares []Share
	var perhaps, partly Backend
	left := labs
	for _, b := range backends {
		if want != Auto && want != b.Name() || len(left) == 0 && len(shares) > 0 {
			continue
		}
		a := b.Can(ctx, union(left))
		why := reason(want, a, passed)
		passed = append(passed, Reason{b.Name(), a})
		mine, others := left, []LabNeeds(nil)
		switch {
		case a.Verdict == Yes:
		case a.Verdict == No && a.Partly:
			if partly == nil {
				partly = b
			}
			if want == Auto {
				mine, others = split(left, a.Lacks)
			}
		default:
			if a.Verdict == Unknown && perhaps == nil {
				perhaps = b
			}
			continue
		}
		if len(mine) > 0 || a.Verdict == Yes {
			shares = append(shares, Share{b, why, labNames(mine)})
		}
		left = others
		if len(left) == 0 {
			break
		}
	}
	switch {
	case len(passed) == 0:
		return nil, fmt.Errorf("--kernel: %s", source.Unknown("kernel", want, append([]string{Auto}, allNames(backends)...)))
	case len(left) == 0 && len(shares) > 0:
		return shares, nil
	case perhaps != nil && len(shares) == 0:
		return []Share{{perhaps, "which may or may not be able to", labNames(left)}}, nil
	case partly == nil:
		return nil, &NoBackendError{passed}
	}
	for i := range shares {
		if shares[i].Backend == partly {
			shares[i].Labs = append(shares[i].Labs, labNames(left)...)
			return shares, nil
		}
	}
	return append(shares, Share{partly, "which lacks what these labs need", labNames(left)}), nil
}

// union is all that the labs need.
func union(labs []LabNeeds) []topology.Feature {
	var all []topology.Feature
	for _, l := range labs {
		all = append(all, l.Needs...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// split parts the labs that need none of what is lacking from the others.
func split(labs []LabNeeds, lacks []string) (can, cannot []LabNeeds) {
	for _, l := range labs {
		if slices.ContainsFunc(l.Needs, func(f topology.Feature) bool { return slices.Contains(lacks, string(f)) }) {
			cannot = append(cannot, l)
		} else {
			can = append(can, l)
		}
	}
	return can, cannot
}

func labNames(labs []LabNeeds) []string {
	names := make([]string, len(labs))
	for i, l := range labs {
		names[i] = l.Lab
	}
	return names
}

func allNames(backends []Backend) []string {
	names := make([]string, len(backends))
	for i, b := range backends {
		names[i] = b.Name()
	}
	return names
}

// reason is why a backend was taken, as the end of a line that names it.
func reason(want string, a Answer, passed []Reason) string {
	if want != Auto {
		return "as asked for"
	}
	if len(passed) == 0 {
		if a.Partly {
			return "for the labs that need no more than it has"
		}
		return "since " + a.Why
	}
	// The kernel before, if it took other labs of the run, else the preferred
	// one, is what this one was compared with.
	other := passed[0]
	if last := passed[len(passed)-1]; last.Answer.Partly {
		other = last
	}
	if lacks := other.Answer.Lacks; len(lacks) > 0 {
		return fmt.Sprintf("since the %s kernel lacks %s", other.Backend, some(lacks))
	}
	return fmt.Sprintf("since the %s kernel cannot: %s", other.Backend, other.Answer.Why)
}

// some are the first of many names, and how many more there are: a line is to be
// read, and lvslab doctor tells all of them.
func some(names []string) string {
	const most = 5
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// elsewhere says which other kernel has what a lab needs and a backend lacks, as
// the end of a sentence that names what it is. It is empty where that is not why
// the backend skipped the lab, and where no other is known to have it.
func elsewhere(ctx context.Context, backends []Backend, b Backend, needs []topology.Feature) string {
	at := slices.IndexFunc(backends, func(o Backend) bool { return o.Name() == b.Name() })
	if at < 0 || len(b.Can(ctx, needs).Lacks) == 0 {
		return ""
	}
	// Those before it are the quicker ones, and were asked by Auto.
	for _, o := range backends[at+1:] {
		a := o.Can(ctx, needs)
		switch {
		case a.Verdict == Yes:
			return fmt.Sprintf("; the %s kernel has it: --kernel %s", o.Name(), o.Name())
		case a.Partly:
			return fmt.Sprintf("; so does the %s kernel (%s)", o.Name(), a.Why)
		case len(a.Fix) > 0:
			return fmt.Sprintf("; the %s kernel, which is not installed, may have it: see lvslab doctor", o.Name())
		}
	}
	return ""
}

// Judge is the answer of a backend whose kernel is installed. kernel names it in
// a sentence: "Linux 6.1.0". The kernel has a feature if it has all of one of
// the alternatives that modules names. A feature that is called KIND:NAME, such
// as "program:nginx", is the machine's and not the kernel's.
func Judge(kernel string, needs []topology.Feature, modules func(topology.Feature) [][]string, has func(module string) bool) Answer {
	lacking := func(m string) bool { return !has(m) }
	var lacks []string
	for _, f := range needs {
		if strings.Contains(string(f), ":") || slices.Contains(lacks, string(f)) {
			continue
		}
		if !slices.ContainsFunc(modules(f), func(all []string) bool { return !slices.ContainsFunc(all, lacking) }) {
			lacks = append(lacks, string(f))
		}
	}
	if len(lacks) == 0 {
		return Answer{Verdict: Yes, Why: kernel + " is installed and has all that is needed"}
	}
	return Answer{Verdict: No, Why: kernel + " lacks " + strings.Join(lacks, ", "), Lacks: lacks, Partly: true}
}
