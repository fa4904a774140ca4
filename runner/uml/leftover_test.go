package uml_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stage is a folder from which anybody can run this test binary as a small
// lvslab, with a kernel of its own, so that every process of it is known by its
// program's path.
type stage struct{ dir, work string }

func newStage(t *testing.T) stage {
	t.Helper()
	k := testKernel(t)
	dir := shortDir(t)
	s := stage{dir: dir, work: filepath.Join(dir, "work")}
	program := self
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	modules := filepath.Join(dir, "modules", k.Release)
	for _, err := range []error{
		os.Mkdir(s.work, 0o777), os.Chmod(s.work, 0o777), os.MkdirAll(modules, 0o755),
		copyFile(program, filepath.Join(dir, "self")), copyFile(k.Image, filepath.Join(dir, "linux.uml")),
		copyFile(filepath.Join(k.Modules, "modules.dep"), filepath.Join(modules, "modules.dep")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// command is the small lvslab, as nobody unless the test may not choose or
// asRoot says otherwise.
func (s stage) command(asRoot bool, rung string, jobs ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.dir, "self"), append([]string{sessionArg, rung}, jobs...)...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "UML_TEST_WORKDIR=" + s.work, "TMPDIR=" + s.work,
		"LVSLAB_UML=" + filepath.Join(s.dir, "linux.uml"), "LVSLAB_UML_MODULES=" + filepath.Join(s.dir, "modules"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 && !asRoot {
		const nobody = 65534
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// processes are those whose program lies in the stage's folder.
func (s stage) processes() []string {
	var all []string
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil && strings.HasPrefix(exe, s.dir+"/") {
			all = append(all, filepath.Dir(l)+" "+exe)
		}
	}
	return all
}

// gone waits until nothing is left.
func (s stage) gone(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = append(s.processes(), names(s.work)...)
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("left behind: %q", left)
}

func TestOrdinaryUser(t *testing.T) {
	for _, rung := range []string{"auto", "userns", "bare"} {
		t.Run(rung, func(t *testing.T) {
			s := newStage(t)
			out, err := s.command(false, rung, "echo hello", "sh id -u").CombinedOutput()
			if rung == "userns" && strings.Contains(string(out), "cannot be started") {
				t.Skipf("this machine allows no user namespaces: %s", out)
			}
			if err != nil || !strings.Contains(string(out), "event: hello\nevent: 0\n") {
				t.Errorf("%v: %s", err, out)
			}
			s.gone(t)
		})
	}
}

// TestNamespacesDenied takes the machine's permission away: Auto must come down
// the ladder to Bare, and the rungs above say why they cannot be had.
func TestNamespacesDenied(t *testing.T) {
	s := newStage(t)
	for _, rung := range []string{"auto", "root", "userns"} {
		cmd := s.command(true, rung, "echo hello")
		deny := "for n in user mnt pid; do echo 0 >/proc/sys/user/max_${n}_namespaces || exit 77; done; exec \"$0\" \"$@\""
		cmd.Args = append([]string{"/bin/sh", "-c", deny, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 77 {
			t.Skipf("this machine allows no user namespace to deny things in: %v", err)
		}
		t.Logf("%s", out)
		switch {
		case rung == "auto" && (err != nil || !strings.Contains(string(out), "done on bare")):
			t.Errorf("auto: %v", err)
		case rung != "auto" && !strings.Contains(string(out), "cannot be started: rung "+rung):
			t.Errorf("%s: %v", rung, err)
		}
	}
	s.gone(t)
}

// TestKilled kills lvslab at any moment, on every rung, and looks for what is
// left.
func TestKilled(t *testing.T) {
	for _, rung := range []string{"root", "userns", "bare"} {
		t.Run(rung, func(t *testing.T) {
			asRoot := rung == "root"
			if asRoot && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			s := newStage(t)
			kill := func(when string, wait func(lines *bufio.Scanner)) {
				cmd := s.command(asRoot, rung, "hang")
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
				if t.Failed() {
					t.Fatalf("killed %s", when)
				}
			}
			kill("in a job", func(lines *bufio.Scanner) { readLine(t, lines, "hanging") })
			for range 16 {
				after := rand.N(250 * time.Millisecond)
				kill(fmt.Sprintf("after %v", after), func(*bufio.Scanner) { time.Sleep(after) })
			}
		})
	}
}

// TestSupervisorKilled kills the middle one of the three.
func TestSupervisorKilled(t *testing.T) {
	for _, rung := range []string{"userns", "bare"} {
		t.Run(rung, func(t *testing.T) {
			s := newStage(t)
			cmd := s.command(false, rung, "hang")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			readLine(t, lines, "hanging")
			killed := 0
			for _, p := range s.processes() {
				var pid int
				if _, err := fmt.Sscanf(p, "/proc/%d", &pid); err == nil && pid != cmd.Process.Pid && strings.HasSuffix(p, "/self") {
					_ = unix.Kill(pid, unix.SIGKILL)
					killed++
				}
			}
			if killed != 1 {
				t.Errorf("%d supervisors", killed)
			}
			readLine(t, lines, "run: guest")
			_ = cmd.Wait()
			for end := time.Now().Add(3 * time.Second); len(s.processes()) > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			}
			if left := s.processes(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			// The next guest sweeps what no one could remove.
			if out, err := s.command(false, rung, "echo hello").CombinedOutput(); err != nil {
				t.Errorf("afterwards: %v: %s", err, out)
			}
			s.gone(t)
		})
	}
}
