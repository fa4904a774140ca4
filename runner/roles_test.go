package runner_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

// raceEnabled is set in a build with -race.
var raceEnabled bool

// self is the program for guests to run; empty for this very one.
var self string

func TestMain(m *testing.M) {
	guest.Enter()
	os.Exit(testAll(m))
}

func testAll(m *testing.M) int {
	if raceEnabled {
		dir, err := os.MkdirTemp("", "runner-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		self = filepath.Join(dir, "self")
		// A program built with -race cannot run in a guest.
		if out, err := exec.Command("go", "test", "-c", "-o", self, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// guestBackend is User-Mode Linux; without a kernel the test is skipped.
func guestBackend(t *testing.T) runner.Backend {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return &uml.Backend{Config: uml.Config{Kernel: k, Self: self}, Env: os.Getenv}
}

// rolesOf are the roles of each shipped lab.
func rolesOf(t *testing.T) map[string][]topology.Role {
	t.Helper()
	roles := make(map[string][]topology.Role)
	for _, f := range labs.All() {
		list, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			p, err := l.Plan()
			if err != nil {
				t.Fatal(err)
			}
			roles[l.Name] = p.Roles
		}
	}
	return roles
}

// verdicts runs the labs that have all of the roles in one guest, with those
// left out, in the worst kernel that pinned settings can meet.
func verdicts(t *testing.T, b runner.Backend, omit ...topology.Role) (map[string]wire.Verdict, map[string]string) {
	t.Helper()
	got, why := make(map[string]wire.Verdict), make(map[string]string)
	_, err := runner.Run(t.Context(), runner.Options{
		Files: labs.All(), Backends: []runner.Backend{b}, Omit: omit, Parallel: 10, HostileInit: true,
	}, func(e wire.Event) {
		switch e.Kind {
		case wire.StepFinished:
			why[e.Lab] = missed(e)
		case wire.LabFinished:
			got[e.Lab] = e.Verdict
			if e.Message != "" {
				why[e.Lab] = e.Message
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	return got, why
}

// missed is what a step that did not pass says.
func missed(e wire.Event) string {
	s := fmt.Sprintf("step %d", e.Step.Index)
	if e.Step.Error != "" {
		return s + ": " + e.Step.Error
	}
	for _, r := range e.Step.Results {
		if r.Verdict != wire.Pass {
			s += fmt.Sprintf(": %s: %s, seen %s", r.Check, r.Wanted, r.Seen)
		}
	}
	return s
}

// TestRoles leaves out each role of the shipped labs in turn. A lab that still
// passes then does not check what the role is there for; a role that all labs
// pass without is either needless or unchecked. Those are listed, with the
// reason, in testdata/unmissed-roles.txt, which is to stay as short as it can.
func TestRoles(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest for every role")
	}
	b := guestBackend(t)
	roles := rolesOf(t)
	var all []topology.Role
	for _, list := range roles {
		all = append(all, list...)
	}
	slices.Sort(all)
	all = slices.Compact(all)

	type outcome struct {
		verdicts map[string]wire.Verdict
		why      map[string]string
	}
	outcomes := make(map[topology.Role]outcome)
	var mu sync.Mutex
	// The guests wait for timeouts most of their time, so there are more of them
	// than CPUs.
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for _, role := range append([]topology.Role{""}, all...) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var omit []topology.Role
			if role != "" {
				omit = append(omit, role)
			}
			v, why := verdicts(t, b, omit...)
			mu.Lock()
			defer mu.Unlock()
			outcomes[role] = outcome{v, why}
		})
	}
	wg.Wait()

	for lab := range roles {
		if v := outcomes[""].verdicts[lab]; v != wire.Pass {
			t.Errorf("%s with nothing left out, but with hostile settings in the initial namespace: %s: %s", lab, v, outcomes[""].why[lab])
		}
	}
	names := slices.Sorted(maps.Keys(roles))
	fails := make(map[string]int)
	var unmissed []string
	for _, role := range all {
		missedBy := false
		line := fmt.Sprintf("%-20s", role)
		for _, lab := range names {
			v, ran := outcomes[role].verdicts[lab]
			if !ran {
				if slices.Contains(roles[lab], role) {
					t.Errorf("%s without %s came to no verdict", lab, role)
				}
				continue
			}
			line += fmt.Sprintf("\n  %-6s %-20s", v, lab)
			if v == wire.Fail || v == wire.Broken {
				missedBy = true
				line += " " + outcomes[role].why[lab]
			}
			if v == wire.Fail {
				fails[lab]++
			}
		}
		t.Log(line)
		if !missedBy {
			unmissed = append(unmissed, string(role))
		}
	}
	for _, lab := range names {
		if fails[lab] == 0 {
			t.Errorf("%s fails without none of its roles: what does it check?", lab)
		}
	}
	if known := unmissedRoles(t); !slices.Equal(unmissed, known) {
		t.Errorf("no lab misses the roles %q; testdata/unmissed-roles.txt says %q", unmissed, known)
	}
}

// unmissedRoles are the first words of the lines of testdata/unmissed-roles.txt.
func unmissedRoles(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("testdata/unmissed-roles.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for s := bufio.NewScanner(f); s.Scan(); {
		role, reason, _ := strings.Cut(s.Text(), ": ")
		if strings.HasPrefix(role, "#") || role == "" {
			continue
		}
		if reason == "" {
			t.Errorf("testdata/unmissed-roles.txt gives no reason for %s", role)
		}
		names = append(names, role)
	}
	slices.Sort(names)
	return names
}
