// Package prove holds one proof: the shell script that lvslab plan prints, run
// with the real tools, makes the very lab that lvslab's own code makes.
//
// Both are done in one guest, one after the other, for every shipped lab and
// every change of its steps, and all that the tools can tell of each node is
// compared. The package has tests only.
package prove

import (
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
	"arptables-legacy": "arptables", "arptables-legacy-save": "arptables", "iptables-legacy": "iptables", "iptables-legacy-save": "iptables", "busybox": "busybox", "curl": "curl", "pgrep": "procps",
}

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
	// A guest has one CPU, so several guests are that much faster.
	guests := min(runtime.NumCPU(), 4)
	jobs := make([]wire.Job, guests)
	var names []string
	for i, f := range labs.All() {
		loaded, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		job := &jobs[i%guests]
		job.Files = append(job.Files, f)
		for _, l := range loaded {
			job.Labs, names = append(job.Labs, l.Name), append(names, l.Name)
		}
	}
	var mu sync.Mutex
	seen := make(map[string][]wire.Event)
	var wg sync.WaitGroup
	for _, job := range jobs {
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
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			done := false
			for _, e := range seen[name] {
				switch e.Verdict {
				case wire.Fail:
					t.Errorf("%s\n%s", e.Title, e.Message)
				case wire.Broken:
					t.Fatal(e.Message)
				case wire.Skip:
					missing(t, e.Message)
				case wire.Pass:
					done = true
					t.Log(e.Message)
				}
			}
			if !done {
				t.Error("the guest did not come to an end with this lab")
			}
		})
	}
	// The comparison itself: a lab whose director has another address than the
	// script says must not pass for the same.
	t.Run("another address is seen", func(t *testing.T) {
		i := slices.IndexFunc(seen[redLab], func(e wire.Event) bool { return e.Verdict == wire.Fail && strings.Contains(e.Title, "ip addr") })
		if i < 0 {
			t.Fatalf("no difference in ip addr was told of; all that was: %v", seen[redLab])
		}
		t.Logf("%s\n%s", seen[redLab][i].Title, seen[redLab][i].Message)
	})
}
