// Package prove holds one proof: the shell script that lvslab plan prints, run
// with the real tools, makes the very lab that lvslab's own code makes.
//
// Both are done in one guest, one after the other, for every shipped lab and
// every change of its steps, and all that the tools can tell of each node is
// compared. The package has tests only.
package prove

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// raceEnabled is set in a build with -race.
var raceEnabled bool

func TestMain(m *testing.M) {
	node.Main()
	guest.Main(prove)
	os.Exit(m.Run())
}

// missing skips the test for want of something, or fails it where nothing may
// be wanting.
func missing(t *testing.T, what ...any) {
	t.Helper()
	if os.Getenv("LVSLAB_REQUIRE") != "" {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

// tools are those of the scripts and of the comparison, with Debian's package.
var tools = map[string]string{
	"ip": "iproute2", "tc": "iproute2", "ss": "iproute2", "ipvsadm": "ipvsadm", "sysctl": "procps",
	"arptables-legacy": "arptables", "arptables-legacy-save": "arptables", "iptables-legacy": "iptables", "iptables-legacy-save": "iptables",
	"busybox": "busybox", "python3": "python3", "curl": "curl", "pgrep": "procps", "ping": "iputils-ping",
	"dig": "bind9-dnsutils", "nc": "netcat-openbsd", "ncat": "ncat",
}

// TestScriptMakesTheSameLab proves labs that show together all that is to be
// shown: each kind of op in each of its roles, and each form of a line of the
// shell, in a setup and in a change, of any shipped lab but the matrix. Which labs those are is worked out from the
// index of the labs by cover (so that a new lab with something new is proven,
// and one with nothing new costs nothing), and the test tells it. Those with
// what this kernel or machine lacks are left out and named. LVSLAB_PROVE=all
// proves every lab, LVSLAB_PROVE=NAME,NAME those.
func TestScriptMakesTheSameLab(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "the proof needs ", tool, ": apt-get install ", pkg)
		}
	}
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		missing(t, err)
	}
	c := uml.Config{Kernel: k, Log: t.Output(), Silence: time.Minute}
	if raceEnabled {
		// A program built with -race cannot run in a guest.
		c.Self = filepath.Join(t.TempDir(), "self")
		if out, err := exec.Command("go", "test", "-c", "-o", c.Self, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	chosen := choose(t, k)
	// A guest has one CPU, so several guests are that much faster.
	hands := deal(chosen, min(runtime.NumCPU(), 4))
	var mu sync.Mutex
	seen := make(map[string][]wire.Event)
	var wg sync.WaitGroup
	for _, hand := range hands {
		var job wire.Job
		for _, one := range hand {
			job.Files, job.Labs = append(job.Files, one.file), append(job.Labs, one.plan.Lab.Name)
		}
		wg.Go(func() {
			s, err := uml.Boot(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			err = s.Run(t.Context(), job, func(e wire.Event) {
				mu.Lock()
				defer mu.Unlock()
				seen[e.Lab] = append(seen[e.Lab], e)
				if e.Verdict != wire.Fail && e.Lab != planted {
					t.Logf("%s: %s", e.Lab, e.Message)
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, one := range chosen {
		t.Run(one.plan.Lab.Name, func(t *testing.T) { judge(t, seen[one.plan.Lab.Name]) })
	}
	t.Run("what is planted is found", func(t *testing.T) { judgePlanted(t, seen[planted], chosen) })
}

// choose picks the labs to prove.
func choose(t *testing.T, k kernel.Kernel) []candidate {
	mods, err := k.ReadModules()
	if err != nil {
		t.Fatal(err)
	}
	only := strings.Split(os.Getenv("LVSLAB_PROVE"), ",")
	var all, needed []candidate
	for _, f := range labs.All() {
		// A matrix has the same few things in some hundred combinations.
		if strings.HasPrefix(f.Name, "matrix/") && !slices.Contains(only, f.Name) {
			continue
		}
		loaded, err := scenarios.Load(f.Path, f.Name, f.Data, f.Set...)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, l := range loaded {
			p, err := l.Plan()
			if err != nil {
				t.Error(err)
				continue
			}
			if err := lacking(p, mods); err != nil {
				t.Logf("%s is left out: %v", l.Name, err)
				continue
			}
			one := newCandidate(f, p)
			all = append(all, one)
			// Those that no script makes show only that they say so.
			if slices.Contains(only, l.Name) || slices.Contains(only, f.Name) || only[0] == "" && (l.Name == answering || unscriptable(p) != nil) {
				needed = append(needed, one)
			}
		}
	}
	switch {
	case only[0] == "all":
		return all
	case only[0] != "":
		return needed
	}
	chosen := cover(all, needed)
	var names []string
	for _, c := range chosen {
		names = append(names, c.plan.Lab.Name)
	}
	t.Logf("%d of %d labs show all: %s", len(chosen), len(all), strings.Join(names, ", "))
	return chosen
}

// judge says what the guest told of a lab.
func judge(t *testing.T, seen []wire.Event) {
	done := false
	for _, e := range seen {
		switch e.Verdict {
		case wire.Fail:
			t.Errorf("%s\n%s", e.Title, e.Message)
		case wire.Broken:
			t.Fatal(e.Message)
		case wire.Pass:
			done = true
		}
	}
	if !done {
		t.Error("the guest did not come to an end with this lab")
	}
}

// judgePlanted looks at the comparison itself: of every kind of op that the labs
// have, the lack of one must have been seen.
func judgePlanted(t *testing.T, seen []wire.Event, chosen []candidate) {
	found := make(map[string]bool)
	for _, e := range seen {
		if e.Verdict != wire.Pass {
			t.Errorf("the lack of one %s is not seen: %s", e.Title, e.Message)
			continue
		}
		found[e.Title] = true
	}
	t.Logf("seen: the lack of one %s", strings.Join(slices.Sorted(maps.Keys(found)), ", "))
	for _, c := range chosen {
		if unscriptable(c.plan) != nil {
			continue
		}
		for _, o := range c.plan.Setup {
			m := o.About()
			if _, plain := untold()[m.Key.Kind]; !found[m.Key.Kind] && !plain {
				t.Errorf("%s has a %s, and nobody has shown that the lack of it is seen", c.plan.Lab.Name, m.Key)
				found[m.Key.Kind] = true // said once
			}
		}
	}
}
