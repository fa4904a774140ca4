package scenarios_test

import (
	"strings"
	"testing"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/scenarios"
)

// FuzzWithSteps: no file of steps makes a lab that is up panic; every error tells
// the file; and the lab's own steps are as before.
func FuzzWithSteps(f *testing.F) {
	f.Add([]byte("steps:\n- name: ping\n  do: [ping: {from: client, to: director}]\n  expect: [result: ok]\n"))
	f.Add([]byte("- name: requests\n  do: [request: {to: web, count: 4}]\n"))
	f.Add([]byte("steps: []\n"))
	f.Add([]byte("{}\n---\n{}\n"))
	for _, l := range labs.All() {
		if at := strings.Index(string(l.Data), "\nsteps:\n"); at > 0 {
			f.Add(l.Data[at+1:])
		}
	}
	list, err := scenarios.Load("lab.yaml", "lab", []byte(good))
	if err != nil {
		f.Fatal(err)
	}
	lab := list[0]
	steps := len(lab.Steps)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			t.Skip() // size is tested elsewhere
		}
		next, err := lab.WithSteps("s.yaml", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "s.yaml:") {
					t.Errorf("an error without its file: %q", line)
				}
			}
		} else if next.Name != lab.Name {
			t.Errorf("the lab is now called %q", next.Name)
		}
		if len(lab.Steps) != steps {
			t.Errorf("the lab had %d steps and has %d", steps, len(lab.Steps))
		}
	})
}
