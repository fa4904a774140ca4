package live_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/runner/live"
)

// TestMistake shows that a mistake in the answer to one question leaves the lab up.
func TestMistake(t *testing.T) {
	lab := fake{exec: func(_ context.Context, e live.Exec, _ live.Streams) (live.Exit, error) {
		_ = e.Args[7]
		return live.Exit{}, nil
	}}
	for _, twice := range []bool{false, true} {
		c := ask(t, lab, twice)
		var asked *live.AskError
		if _, err := c.Exec(t.Context(), live.Exec{}, live.Streams{}); !errors.As(err, &asked) || !strings.Contains(err.Error(), "index out of range") {
			t.Errorf("Exec: %v", err)
		}
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("Status afterwards: %v", err)
		}
	}
}
