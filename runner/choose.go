package runner

import (
	"context"
	"fmt"
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

// Choose takes the backend called want, or for Auto the first that can do what
// the labs need, and says in one line why. One that says yes comes before one
// that could not tell. A backend that is asked for by name and cannot is an
// error too: nothing else is taken in its place.
func Choose(ctx context.Context, backends []Backend, want string, needs []topology.Feature) (Backend, string, error) {
	var names []string
	var passed []Reason
	var perhaps Backend
	found := false
	for _, b := range backends {
		names = append(names, b.Name())
		if want != Auto && want != b.Name() {
			continue
		}
		found = true
		a := b.Can(ctx, needs)
		if a.Verdict == Yes {
			return b, reason(want, a, passed), nil
		}
		if a.Verdict == Unknown && perhaps == nil {
			perhaps = b
		}
		passed = append(passed, Reason{b.Name(), a})
	}
	if perhaps != nil {
		return perhaps, "which may or may not be able to", nil
	}
	if !found {
		return nil, "", fmt.Errorf("--kernel: %s", source.Unknown("kernel", want, append([]string{Auto}, names...)))
	}
	return nil, "", &NoBackendError{passed}
}

// reason is why a backend was taken, as the end of a line that names it.
func reason(want string, a Answer, passed []Reason) string {
	if want != Auto {
		return "as asked for"
	}
	if len(passed) == 0 {
		return "since " + a.Why
	}
	first := passed[0]
	if lacks := first.Answer.Lacks; len(lacks) > 0 {
		return fmt.Sprintf("since the %s kernel lacks %s", first.Backend, strings.Join(lacks, ", "))
	}
	return fmt.Sprintf("since the %s kernel cannot: %s", first.Backend, first.Answer.Why)
}
