package kernel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// apt runs programs of apt's and dpkg's with all state in one folder.
type apt struct {
	dir string
	// list is a file of sources to take in place of the machine's; "" is none.
	list string
}

func (a apt) run(ctx context.Context, args ...string) error {
	_, err := a.output(ctx, args...)
	return err
}

// output runs apt-get and returns what it wrote.
func (a apt) output(ctx context.Context, args ...string) (string, error) {
	return a.with(ctx, "apt-get", append([]string{"-y"}, args...))
}

// cache runs apt-cache, which reads the lists that apt-get update has fetched, and
// returns what it wrote.
func (a apt) cache(ctx context.Context, args ...string) (string, error) {
	return a.with(ctx, "apt-cache", args)
}

// with runs a program of apt's with all state in the folder.
func (a apt) with(ctx context.Context, program string, args []string) (string, error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	sources := []string(nil)
	if a.list != "" {
		sources = []string{"-o", "Dir::Etc::sourcelist=" + a.list, "-o", "Dir::Etc::sourceparts=/dev/null"}
	}
	return a.command(ctx, program, slices.Concat([]string{
		"-q",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=/var/lib/dpkg/status",
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Log=" + filepath.Join(a.dir, "log"),
		// No other user to drop to, no lock of the system's to take.
		"-o", "APT::Sandbox::User=",
		"-o", "Debug::NoLocking=1",
		// Hooks are the administrator's and write where only root may.
		"-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success=",
	}, sources, args)...)
}

// command runs a program to its end. Its error shows the end of what the
// program said.
func (a apt) command(ctx context.Context, name string, args ...string) (string, error) {
	// Pdeathsig counts from the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "TMPDIR="+a.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		said := strings.TrimSpace(errs.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		if len(said) > 1000 {
			said = "…" + said[len(said)-1000:]
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, args[len(args)-1], err, said)
	}
	return out.String(), nil
}
