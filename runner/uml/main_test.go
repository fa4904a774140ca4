package uml_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// raceEnabled is set in a build with -race.
var raceEnabled bool

// self is the program for guests to run; empty for this very one.
var self string

// sessionArg makes the test binary a program that boots a guest on the rung
// that follows, runs the jobs that follow, and prints the events.
const sessionArg = "uml-test-session"

func TestMain(m *testing.M) {
	guest.Become(guest.Jobs{Run: job, Up: keep})
	if len(os.Args) > 2 && os.Args[1] == sessionArg {
		os.Exit(session(os.Args[2], os.Args[3:]))
	}
	os.Exit(testAll(m))
}

func testAll(m *testing.M) int {
	if raceEnabled {
		dir, err := os.MkdirTemp("", "uml-test-")
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

// job is what the tests run in a guest: each name in Labs is a thing to do.
func job(ctx context.Context, j wire.Job, load func(...string) error, emit func(wire.Event)) error {
	say := func(v ...any) { emit(wire.Event{Kind: wire.Log, Message: fmt.Sprint(v...)}) }
	for _, lab := range j.Labs {
		word, arg, _ := strings.Cut(lab, " ")
		switch word {
		case "echo":
			say(arg)
		case "fail":
			return errors.New(arg)
		case "load":
			say(load(strings.Fields(arg)...))
		case "read":
			b, err := os.ReadFile(arg)
			say(string(b), err)
		case "write":
			say(os.WriteFile(arg, []byte("x"), 0o600))
		case "remount":
			say(unix.Mount("", "/", "", unix.MS_REMOUNT, ""))
		case "sh":
			out, err := exec.CommandContext(ctx, "/bin/sh", "-c", arg).CombinedOutput()
			say(string(out), err)
		case "children":
			say(children())
		case "flood":
			for i := range 200 {
				say(i, strings.Repeat("x", 100<<10))
			}
		case "files":
			for _, f := range j.Files {
				say(f.Path, " ", len(f.Data))
			}
		case "panic":
			go func() { panic("on purpose") }()
			<-ctx.Done()
		case "oops":
			say(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
		case "busy":
			say("busy")
			for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
			}
		case "mute":
			// Stopped, the process beats no more.
			say("mute")
			return mute()
		case "hang":
			say("hanging")
			<-ctx.Done()
			time.Sleep(time.Hour)
		}
	}
	return nil
}

// mute lets nothing else run any more, and returns with an error only.
func mute() error {
	runtime.LockOSThread()
	var param struct{ priority int32 }
	param.priority = 50
	const schedFIFO = 1
	_ = os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0)
	_, _, errno := syscall.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, schedFIFO, uintptrOf(&param.priority))
	if errno != 0 {
		return errno
	}
	for { //nolint:staticcheck // on purpose: nothing else runs on the only CPU
	}
}

// children runs many short programs while orphans die, and tells how many exit
// statuses came out wrong and how many zombies are left.
func children() string {
	wrong := 0
	for i := range 30 {
		// The grandchild outlives its parent and dies as PID 1's.
		cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("(sleep 0.01; exit 9) & exit %d", i%4))
		started := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine, before its child is waited for
			started <- cmd.Start()
		}()
		if err := <-started; err != nil {
			return err.Error()
		}
		time.Sleep(time.Duration(i%3) * 5 * time.Millisecond)
		var exit *exec.ExitError
		err := cmd.Wait()
		if code := i % 4; code == 0 && err != nil || code != 0 && (!errors.As(err, &exit) || exit.ExitCode() != code) {
			wrong++
		}
	}
	zombies := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if zombies = countZombies(); zombies == 0 {
			break
		}
	}
	return fmt.Sprintf("%d wrong, %d zombies", wrong, zombies)
}

func countZombies() (n int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		if b, err := os.ReadFile(s); err == nil && strings.Contains(string(b), ") Z ") {
			n++
		}
	}
	return n
}

// session is a whole lvslab in small.
func session(rung string, labs []string) int {
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		fmt.Println("no kernel:", err)
		return 3
	}
	c := uml.Config{Kernel: k, Log: os.Stdout, WorkDir: os.Getenv("UML_TEST_WORKDIR")}
	for _, r := range []uml.Rung{uml.Auto, uml.Root, uml.UserNS, uml.Bare} {
		if r.String() == rung {
			c.Rung = r
		}
	}
	s, err := uml.Boot(context.Background(), c)
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

func testKernel(t testing.TB) kernel.Kernel {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return k
}

// start boots a guest and closes it with the test.
func start(t *testing.T, c uml.Config) *uml.Session {
	t.Helper()
	if c.Kernel.Image == "" {
		c.Kernel = testKernel(t)
	}
	c.Self, c.Log = self, t.Output()
	s, err := uml.Boot(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// run runs a job and returns what it said.
func run(t *testing.T, s *uml.Session, labs ...string) []string {
	t.Helper()
	var said []string
	if err := s.Run(t.Context(), wire.Job{Labs: labs}, func(e wire.Event) { said = append(said, e.Message) }); err != nil {
		t.Fatal(err)
	}
	return said
}

// readLine waits for a line with this text.
func readLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
		t.Log(lines.Text())
	}
	t.Fatalf("no line with %q", text)
}
