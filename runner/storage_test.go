package runner_test

import (
	"os"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
)

// TestStorage runs labs whose storage is lost, restarted, or changed. That a lab
// ends whose storage is gone is a part of it: one that could not be taken down
// would be broken.
func TestStorage(t *testing.T) {
	const path = "testdata/dead-storage.yaml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	counts, err := runner.Run(t.Context(), runner.Options{
		Files:    []wire.File{{Path: path, Name: "dead-storage", Data: data}},
		Backends: []runner.Backend{guestBackend(t)},
	}, func(e wire.Event) {
		if e.Verdict == wire.Pass || e.Verdict == "" {
			return
		}
		t.Errorf("%s: %s %s", e.Lab, e.Verdict, e.Message)
		if e.Step == nil {
			return
		}
		t.Logf("step %q: %s", e.Step.Name, e.Step.Error)
		for _, r := range e.Step.Results {
			t.Logf("%s: wanted %s\nseen %s\n%v", r.Check, r.Wanted, r.Seen, r.Evidence)
		}
	})
	if err != nil || counts.Pass != 3 {
		t.Errorf("%+v %v", counts, err)
	}
}
