package qemu_test

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
)

// stage is a folder from which anybody can run this test binary as a small
// lvslab, with a kernel of its own, so that every process of it is known: a
// helper by its program's path, QEMU by its kernel's.
type stage struct {
	dir, work string
	kernel    kernel.Kernel
}

func newStage(t *testing.T) stage {
	t.Helper()
	k := testKernel(t)
	dir, err := os.MkdirTemp("/tmp", "q-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := stage{dir: dir, work: filepath.Join(dir, "work"), kernel: k}
	s.kernel.Image, s.kernel.Modules = filepath.Join(dir, "vmlinux"), filepath.Join(dir, "modules", k.Release)
	for _, args := range [][]string{
		{"mkdir", s.work, filepath.Join(dir, "modules"), filepath.Join(dir, "cache")},
		{"chmod", "777", dir, s.work, filepath.Join(dir, "cache")},
		{"cp", self, filepath.Join(dir, "self")},
		{"cp", k.Image, s.kernel.Image},
		{"cp", "-r", k.Modules, s.kernel.Modules},
		{"chmod", "-R", "a+rX", dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	return s
}

// command is the small lvslab, as nobody unless asRoot.
func (s stage) command(asRoot bool, rung string, jobs ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.dir, "self"), append([]string{sessionArg, rung}, jobs...)...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "QEMU_TEST_WORKDIR=" + s.work, "TMPDIR=" + s.work,
		"LVSLAB_QEMU_KERNEL=" + s.kernel.Image, "LVSLAB_QEMU_MODULES=" + s.kernel.Modules,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	// From a snapshot, after the first.
	kept := filepath.Join(s.dir, "cache")
	if asRoot {
		kept = cache
	}
	cmd.Env = append(cmd.Env, "QEMU_TEST_CACHE="+kept)
	if os.Geteuid() == 0 && !asRoot {
		const nobody = 65534
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// machines are the processes of QEMU that boot the stage's kernel.
func (s stage) machines() []int {
	var all []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		text, err := os.ReadFile(l)
		if err != nil || !bytes.Contains(text, []byte("\x00-kernel\x00"+s.kernel.Image+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l))); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// gone waits until no process of the stage's is left, and nothing in its work
// folder.
func (s stage) gone(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = nil
		for _, pid := range s.machines() {
			left = append(left, "qemu "+strconv.Itoa(pid))
		}
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, l := range links {
			if exe, err := os.Readlink(l); err == nil && strings.HasPrefix(exe, s.dir+"/") {
				left = append(left, l)
			}
		}
		entries, _ := os.ReadDir(s.work)
		for _, e := range entries {
			left = append(left, e.Name())
		}
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("left behind: %q", left)
}

// TestOrdinaryUser needs no root, on whatever rung this machine allows. A guest
// that one rung has kept starts on the other.
func TestOrdinaryUser(t *testing.T) {
	s := newStage(t)
	for _, rung := range []string{"auto", "bare"} {
		out, err := s.command(false, rung, "echo hello", "sh id -u").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "event: hello\nevent: 0\n") {
			t.Errorf("%s: %v: %s", rung, err, out)
		}
		if kept := strings.Contains(string(out), "guest: from the snapshot"); kept != (rung == "bare") || strings.Contains(string(out), "no snapshot") {
			t.Errorf("%s: %s", rung, out)
		}
		s.gone(t)
	}
}

// TestKilled kills lvslab with SIGKILL, in a job and while it boots, and looks
// for what is left.
func TestKilled(t *testing.T) {
	s := newStage(t)
	for _, rung := range []string{"root", "bare"} {
		if rung == "root" && os.Geteuid() != 0 {
			continue
		}
		kill := func(wait func(lines *bufio.Scanner)) {
			cmd := s.command(rung == "root", rung, "hang")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wait(bufio.NewScanner(out))
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			s.gone(t)
		}
		kill(func(lines *bufio.Scanner) {
			for lines.Scan() {
				if strings.Contains(lines.Text(), "hanging") {
					return
				}
				t.Log(lines.Text())
			}
			t.Error("the job did not begin")
		})
		for range 8 {
			after := rand.N(500 * time.Millisecond)
			t.Logf("on rung %s after %v", rung, after)
			kill(func(*bufio.Scanner) { time.Sleep(after) })
		}
	}
}

// TestMachineKilled kills QEMU under a session, which says so.
func TestMachineKilled(t *testing.T) {
	s := newStage(t)
	cmd := s.command(os.Geteuid() == 0, "auto", "hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	told := false
	for lines.Scan() {
		if strings.Contains(lines.Text(), "hanging") {
			killed := s.machines()
			if len(killed) != 1 {
				t.Errorf("%d machines", len(killed))
			}
			for _, pid := range killed {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		told = told || strings.Contains(lines.Text(), "ended without its final record (killed by signal 9 (SIGKILL))")
	}
	_ = cmd.Wait()
	if !told {
		t.Error("the end of QEMU was not told")
	}
	s.gone(t)
}
