package runner_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
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
