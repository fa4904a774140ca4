package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
)

func TestMain(m *testing.M) {
	// In a script, lvslab is a copy of this very program; so is a guest's init.
	guest.Enter()
	if keeper.Asked() {
		os.Exit(keeper.Main(kernelBackends))
	}
	testscript.Main(m, map[string]func(){"lvslab": main})
}

// The scripts run lvslab as a person would. Those that boot a guest begin with
// [!guest] skip.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		UpdateScripts:      os.Getenv("LVSLAB_UPDATE") != "",
		Setup:              setupScript,
		Condition:          condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":    cmdStatus,
			"normalise": cmdNormalise,
			"interrupt": cmdInterrupt,
		},
	})
}

// setupScript gives a script the guest kernel of this user, but not this user's
// HOME.
func setupScript(e *testscript.Env) error {
	e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
	program, err := exec.LookPath("lvslab") // testscript.Main has put it there
	if err != nil {
		return err
	}
	e.Setenv("LVSLAB", program)
	// A script that fails in its middle leaves nothing up.
	state := filepath.Join(e.WorkDir, "state")
	e.Setenv("XDG_STATE_HOME", state)
	e.Defer(func() {
		down := exec.Command(program, "down", "--all")
		down.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
		_ = down.Run() // mostly there is none
	})
	if k, err := kernel.Find(os.Getenv); err == nil {
		e.Setenv("LVSLAB_UML", k.Image)
		e.Setenv("LVSLAB_UML_MODULES", k.Modules)
	}
	// A script that boots QEMU takes these for LVSLAB_QEMU_KERNEL and so on:
	// what the others print must not depend on what is installed.
	if k, err := kernel.QEMU.Find(os.Getenv); err == nil {
		e.Setenv("QEMU_KERNEL", k.Image)
		e.Setenv("QEMU_MODULES", k.Modules)
	}
	return nil
}

func condition(name string) (bool, error) {
	switch name {
	case "guest":
		if raceEnabled {
			return false, nil // a guest has not the addresses that it wants
		}
		_, err := kernel.Find(os.Getenv)
		if err != nil && os.Getenv("LVSLAB_REQUIRE") != "" {
			return false, fmt.Errorf("LVSLAB_REQUIRE is set, and no guest can be booted: %w", err)
		}
		return err == nil, nil
	case "qemu", "twos":
		return qemuCondition(name)
	case "system-kernel":
		_, err := os.Stat("/usr/bin/linux.uml")
		return err == nil, nil
	case "root":
		return os.Geteuid() == 0, nil
	case "keepalived":
		err := keepalivedHere()
		if err != nil && os.Getenv("LVSLAB_REQUIRE") != "" {
			return false, fmt.Errorf("LVSLAB_REQUIRE is set, and %w", err)
		}
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// qemuCondition says whether a guest can be booted in QEMU ("qemu"), and whether
// its kernel has the scheduler twos.
func qemuCondition(name string) (bool, error) {
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false, err
	}
	defer self.Close()
	if self.Section(".interp") != nil {
		return false, nil // an init from an initramfs must be static
	}
	k, err := kernel.QEMU.Find(os.Getenv)
	if err == nil {
		_, err = exec.LookPath(qemu.Program)
	}
	if err != nil && os.Getenv("LVSLAB_REQUIRE") != "" {
		return false, fmt.Errorf("LVSLAB_REQUIRE is set, and QEMU cannot boot a guest: %w", err)
	}
	if err != nil || name == "qemu" {
		return err == nil, nil
	}
	m, err := k.ReadModules()
	return err == nil && m.Has("ip_vs_twos"), err
}

// cmdStatus runs a program that must end with a status: status 2 lvslab check x.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d\nstdout:\n%s\nstderr:\n%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// What differs from run to run: times, the release of the guest's kernel, and why
// it was taken. How many ops a lab has is for the tests of plans.
var (
	ops       = regexp.MustCompile(`\b\d+ ops\b`)
	hours     = regexp.MustCompile(`since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	guests    = regexp.MustCompile(`Linux \S+ \(User-Mode Linux\)`)
	times     = regexp.MustCompile(` *\b\d+(\.\d+)? m?s\b`)
	kernels   = regexp.MustCompile(`(?m)^kernel: .*$`)
	jsonTimes = regexp.MustCompile(`"(time|seconds|kernel|message)":("[^"]*"|[0-9.e-]+)`)
)

// cmdNormalise writes a stream or file to a file, without what differs from run
// to run: normalise stdout out.
func cmdNormalise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: normalise stdout|stderr|file file")
	}
	text := ts.ReadFile(args[0])
	text = times.ReplaceAllString(text, " TIME")
	text = hours.ReplaceAllString(text, "since TIME")
	text = guests.ReplaceAllString(text, "KERNEL")
	text = ops.ReplaceAllString(text, "N ops")
	text = kernels.ReplaceAllString(text, "kernel: KERNEL")
	text = jsonTimes.ReplaceAllString(text, `"$1":"ANY"`)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}

// cmdInterrupt starts lvslab, sends it a signal when it has written a word, and
// checks the status with which it ends: interrupt INT 130 word args... What it
// wrote is in the files stdout.txt and stderr.txt.
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: interrupt INT|TERM|HUP N word args...")
	}
	sig, ok := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, ts.Getenv("LVSLAB"), args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME", "LVSLAB_UML", "LVSLAB_UML_MODULES", "LVSLAB_QEMU_KERNEL", "LVSLAB_QEMU_MODULES"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var once sync.Once
	sent := false
	seen := func() { once.Do(func() { sent = cmd.Process.Signal(sig) == nil }) }
	out, errs := &watched{word: args[2], seen: seen}, &watched{word: args[2], seen: seen}
	cmd.Stdout, cmd.Stderr = out, errs
	ts.Check(cmd.Start())
	_ = cmd.Wait() // the status tells
	ts.Check(os.WriteFile(ts.MkAbs("stdout.txt"), out.buf.Bytes(), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("stderr.txt"), errs.buf.Bytes(), 0o644))
	if got := cmd.ProcessState.ExitCode(); got != want || !sent {
		ts.Fatalf("exit status %d, want %d; signal sent: %v\nstdout:\n%s\nstderr:\n%s", got, want, sent, &out.buf, &errs.buf)
	}
}

// watched calls seen when it holds word.
type watched struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would pass Write by
	word string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	if bytes.Contains(w.buf.Bytes(), []byte(w.word)) {
		w.seen()
	}
	return n, err
}
