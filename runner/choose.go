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
// the labs need, and says in one line why. A backend that is asked for by name
// and cannot is an error too: nothing else is taken in its place.
func Choose(ctx context.Context, backends []Backend, want string, needs []topology.Feature) (Backend, string, error) {
	var names []string
	var refused []Reason
	found := false
	for _, b := range backends {
		names = append(names, b.Name())
		if want != Auto && want != b.Name() {
			continue
		}
		found = true
		a := b.Can(ctx, needs)
		if a.Verdict == No {
			refused = append(refused, Reason{b.Name(), a})
			continue
		}
		why := a.Why
		if want != Auto {
			why = "asked for"
		} else if len(refused) > 0 {
			why = "since the " + refused[0].Backend + " kernel cannot: " + refused[0].Answer.Why
		}
		return b, why, nil
	}
	if !found {
		return nil, "", fmt.Errorf("--kernel: %s", source.Unknown("kernel", want, append([]string{Auto}, names...)))
	}
	return nil, "", &NoBackendError{refused}
}
