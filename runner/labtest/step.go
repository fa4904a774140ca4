package labtest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
)

// stepName is a step's name for go test -run, where a slash would begin another
// level.
func stepName(s *wire.Step) string {
	name := strings.ReplaceAll(s.Name, "/", "-")
	if name == "" {
		name = fmt.Sprintf("step %d", s.Index)
	}
	return name
}

// tellStep reports a step as a test.
func tellStep(t testing.TB, e wire.Event) {
	t.Helper()
	switch e.Verdict {
	case wire.Pass:
	case wire.Skip:
		skip(t, safe(strings.TrimSpace(e.Step.Error+"\n"+e.Message)))
	default:
		t.Errorf("%s\n%s", e.Verdict, report.Explain(e, os.Getenv("GITHUB_ACTIONS") == "true"))
	}
}
