package runner_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/wire"
)

// TestLuck gives the finished program bad input and bad luck. Each case runs on
// a stage of its own (see luck_stage_test.go): namespaces in which nothing but
// the case happens, so that whatever is left there was left by lvslab.
func TestLuck(t *testing.T) {
	if raceEnabled {
		t.Skip("lvslab itself is built without -race, and nothing else is looked at here")
	}
	program := os.Getenv(stageProgram)
	if program == "" {
		program = buildLvslab(t)
	}
	for _, c := range luckCases {
		t.Run(c.name, func(t *testing.T) {
			if os.Getenv(stageProgram) != "" {
				c.run(t, newStage(t, c))
				return
			}
			t.Parallel()
			playOn(t, c, program)
		})
	}
}

// luckCase is one case on its stage.
type luckCase struct {
	name string
	// denied: namespaces cannot be made on this stage, so that guests are
	// booted on the rung "bare".
	denied bool
	// soak: a long one, played when LVSLAB_SOAK=1.
	soak bool
	// room: the bytes of /tmp and /dev/shm; 0 is plenty. With noexec nothing
	// can be run from there.
	room   int64
	noexec bool
	run    func(t *testing.T, s *stage)
}

var luckCases = []luckCase{
	{name: "killed/root", run: func(t *testing.T, s *stage) { killedAnyMoment(t, s, 30, s.cmd) }},
	{name: "killed/nobody", run: func(t *testing.T, s *stage) { killedAnyMoment(t, s, 10, s.nobody) }},
	{name: "killed/bare", denied: true, run: func(t *testing.T, s *stage) { killedAnyMoment(t, s, 10, s.nobody) }},
	{name: "killed/host", run: killedOnHost},
	{name: "killed/command", run: killedInCommand},
	{name: "untouched", run: hostUntouched},
	{name: "at_once", run: atOnce},
	{name: "guest_killed", run: guestKilled},
	{name: "guest_always_killed", run: guestAlwaysKilled},
	{name: "guest_silent", run: guestSilent},
	{name: "timeout", run: labHangs},
	{name: "hostile_commands", run: hostileCommands},
	{name: "interrupted/root", run: func(t *testing.T, s *stage) { interrupted(t, s, s.cmd) }},
	{name: "interrupted/bare", denied: true, run: func(t *testing.T, s *stage) { interrupted(t, s, s.nobody) }},
	{name: "no_room/tiny", room: 4 << 20, run: func(t *testing.T, s *stage) { ofNoUse(t, s, "has 4 MB free of 256") }},
	{name: "no_room/noexec", noexec: true, run: func(t *testing.T, s *stage) { ofNoUse(t, s, "noexec") }},
	{name: "no_room/bare_tiny", denied: true, room: 4 << 20, run: func(t *testing.T, s *stage) { bareOfNoUse(t, s, "has 4 MB free of 256") }},
	{name: "no_room/bare_noexec", denied: true, noexec: true, run: func(t *testing.T, s *stage) { bareOfNoUse(t, s, "noexec") }},
	{name: "no_room/full", run: fullDisk},
	{name: "no_room/bare_full", denied: true, run: fullDisk},
	{name: "odd_surroundings/auto", run: oddSurroundings},
	{name: "odd_surroundings/bare", denied: true, run: oddSurroundings},
	{name: "many_labs/nobody", run: manyLabs},
	{name: "many_labs/bare", denied: true, run: manyLabs},
	{name: "no_kernel", run: noKernel},
	{name: "too_large", run: tooLarge},
	{name: "many_large", run: manyLarge},
	{name: "soak", soak: true, run: soak},
}

// buildLvslab builds the program as it is shipped.
func buildLvslab(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lvslab")
	cmd := exec.Command("go", "build", "-o", program, "../cmd/lvslab")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// luckKernel is the kernel that guests boot; without one the test is skipped.
func luckKernel(t *testing.T) kernel.Kernel {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return k
}

// ended is what a run of lvslab came to.
type ended struct {
	exit           int
	stdout, stderr string
	took           time.Duration
}

func (e ended) String() string {
	return strings.TrimSpace(strings.Join([]string{e.stdout, e.stderr}, "\n"))
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) ended {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, cmd, begin, &out, &errs)
}

// wait waits for a started command, which is lost after two minutes.
func wait(t *testing.T, cmd *exec.Cmd, begin time.Time, out, errs *bytes.Buffer) ended {
	t.Helper()
	late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Errorf("%q did not end", cmd.Args)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	e := ended{exit: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String(), took: time.Since(begin)}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.exit = 128 + int(status.Signal())
	}
	return e
}

// passed demands that a run ended well.
func passed(t *testing.T, e ended) {
	t.Helper()
	if e.exit != 0 || !strings.Contains(e.stdout, "passed") {
		t.Errorf("exit %d after %v:\n%s", e.exit, e.took, e)
	}
}

// refused demands an exit status and words, within a time in which a person
// still waits.
func refused(t *testing.T, e ended, exit int, words ...string) {
	t.Helper()
	told := strings.Join(strings.Fields(e.String()), " ")
	for _, w := range words {
		if !strings.Contains(told, w) {
			t.Errorf("no %q in:\n%s", w, e)
		}
	}
	if e.exit != exit {
		t.Errorf("exit %d, want %d:\n%s", e.exit, exit, e)
	}
	for _, w := range []string{"goroutine ", "runtime error"} {
		if strings.Contains(told, w) {
			t.Errorf("a stack trace is no message:\n%s", e)
		}
	}
	if e.took > 15*time.Second {
		t.Errorf("told only after %v", e.took)
	}
}

// events are those of a run with --format json. One that is cut off in the
// midst of a line is an error.
func events(t *testing.T, stdout string) []wire.Event {
	t.Helper()
	var all []wire.Event
	for line := range strings.Lines(stdout) {
		var e wire.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v: %q", err, line)
			continue
		}
		all = append(all, e)
	}
	return all
}
