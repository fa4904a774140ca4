package runner_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
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
	// On the stage of a case of TestLuck there is no go command, and no need.
	if os.Getenv(stageProgram) == "" && (raceEnabled || !static()) {
		dir, err := os.MkdirTemp("", "runner-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		self = filepath.Join(dir, "self")
		cmd := exec.Command("go", "test", "-c", "-o", self, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// static reports whether this program could be the init of any guest: one that is
// built with -race or with cgo could not.
func static() bool {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
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

// guestBackends are guestBackend and QEMU, which has what that one lacks.
func guestBackends(t *testing.T) []runner.Backend {
	t.Helper()
	first := guestBackend(t).(*uml.Backend)
	first.Modules = guest.Modules
	return []runner.Backend{first, &qemu.Backend{Config: qemu.Config{Self: self, NoSnapshot: true, KVM: qemu.KVMNever}, Env: os.Getenv, Modules: guest.Modules}}
}
