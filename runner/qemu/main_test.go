package qemu_test

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/wire"
)

// self is the program for guests to run: this very one, if it is static. cache is
// where guests of all tests are kept, so that few of them boot.
var self, cache string

// sessionArg makes the test binary a program that boots a guest on the rung
// that follows, runs the jobs that follow, and prints the events.
const sessionArg = "qemu-test-session"

func TestMain(m *testing.M) {
	guest.Become(guest.Jobs{Run: job, Up: keep})
	if len(os.Args) > 2 && os.Args[1] == sessionArg {
		os.Exit(session(os.Args[2], os.Args[3:]))
	}
	os.Exit(testAll(m))
}

func testAll(m *testing.M) int {
	var err error
	if self, err = os.Executable(); err != nil {
		panic(err)
	}
	if cache, err = os.MkdirTemp("", "qemu-test-cache-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(cache)
	if f, err := elf.Open(self); err != nil || f.Section(".interp") == nil {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "qemu-test-")
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
	return m.Run()
}

// job is what the tests run in a guest: each name in Labs is a thing to do.
func job(ctx context.Context, j wire.Job, load func(...string) error, emit func(wire.Event)) error {
	say := func(v ...any) { emit(wire.Event{Kind: wire.Log, Message: fmt.Sprint(v...)}) }
	for _, lab := range j.Labs {
		word, arg, _ := strings.Cut(lab, " ")
		switch word {
		case "echo":
			say(arg)
		case "load":
			say(load(strings.Fields(arg)...))
		case "write":
			say(os.WriteFile(arg, []byte("x"), 0o600))
		case "remount":
			say(unix.Mount("", "/", "", unix.MS_REMOUNT, ""))
		case "sh":
			out, err := exec.CommandContext(ctx, "/bin/sh", "-c", arg).CombinedOutput()
			say(string(out), err)
		case "random":
			// The kernel's, this program's, and a child's.
			uuid, err := os.ReadFile("/proc/sys/kernel/random/uuid")
			say(string(uuid), rand.Text(), mathrand.Uint64(), err)
		case "time":
			say(time.Now().UnixNano())
		case "flood":
			for i := range 50 {
				say(i, strings.Repeat("x", 100<<10))
			}
		case "oops":
			say(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
		case "hang":
			say("hanging")
			<-ctx.Done()
			time.Sleep(time.Hour)
		}
	}
	return nil
}

// session is a whole lvslab in small.
func session(rung string, labs []string) int {
	k, err := kernel.QEMU.Find(os.Getenv)
	if err != nil {
		fmt.Println("no kernel:", err)
		return 3
	}
	c := qemu.Config{Kernel: k, Log: os.Stdout, WorkDir: os.Getenv("QEMU_TEST_WORKDIR"), Cache: os.Getenv("QEMU_TEST_CACHE"), KVM: qemu.KVMNever}
	for _, r := range append(machine.Rungs(), machine.Auto) {
		if r.String() == rung {
			c.Rung = r
		}
	}
	s, err := qemu.Boot(context.Background(), c)
	if err != nil {
		fmt.Println("boot:", err)
		return 1
	}
	defer s.Close()
	err = s.Run(context.Background(), wire.Job{Labs: labs}, func(e wire.Event) { fmt.Println("event:", e.Message) })
	if err != nil {
		fmt.Println("run:", err)
		return 1
	}
	fmt.Println("done on", s.Rung())
	return 0
}

// testKernel is the kernel to boot; the test is skipped where there is none, or
// no QEMU.
func testKernel(t *testing.T) kernel.Kernel {
	t.Helper()
	k, err := kernel.QEMU.Find(os.Getenv)
	if _, perr := exec.LookPath(qemu.Program); perr != nil {
		err = errors.Join(err, perr)
	}
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return k
}

// start boots a guest and closes it with the test.
func start(t *testing.T, c qemu.Config) *machine.Session {
	t.Helper()
	if c.Kernel.Image == "" {
		c.Kernel = testKernel(t)
	}
	c.Self, c.Log, c.Cache, c.KVM = self, t.Output(), cache, qemu.KVMNever
	s, err := qemu.Boot(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// run runs a job and returns what it said.
func run(t *testing.T, s *machine.Session, labs ...string) []string {
	t.Helper()
	var said []string
	if err := s.Run(t.Context(), wire.Job{Labs: labs}, func(e wire.Event) { said = append(said, e.Message) }); err != nil {
		t.Fatal(err)
	}
	return said
}
