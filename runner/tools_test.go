package runner_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
)

// TestRealTools lets programs that lvslab did not write look at what it made:
// ip, ipvsadm, arptables, curl and tcpdump, inside the nodes of a lab.
func TestRealTools(t *testing.T) {
	b := guestBackend(t)
	for _, tool := range []string{"ip", "ipvsadm", "arptables-legacy", "curl", "tcpdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("LVSLAB_REQUIRE") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	const path = "testdata/real-tools.yaml"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	counts, err := runner.Run(t.Context(), runner.Options{
		Files:    []wire.File{{Path: path, Name: "real-tools", Data: data}},
		Backends: []runner.Backend{b},
	}, func(e wire.Event) {
		if e.Step == nil || e.Verdict == wire.Pass {
			return
		}
		t.Errorf("step %q: %s %s", e.Step.Name, e.Verdict, e.Step.Error)
		for _, r := range e.Step.Results {
			t.Logf("%s: wanted %s\nseen %s\n%v", r.Check, r.Wanted, r.Seen, r.Evidence)
		}
	})
	if err != nil || counts.Pass != 1 {
		t.Errorf("%+v %v", counts, err)
	}
}
