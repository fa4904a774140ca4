package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
)

// nobody is the user whom root becomes: the goal is that of an ordinary user.
const nobody = 65534

// BenchmarkCold compares `lvslab run dr/arptables` with User-Mode Linux, from
// the start of the process to its end and with all that the lab checks, with the
// same kernel that starts a program which powers off.
func BenchmarkCold(b *testing.B) {
	const what = "lvslab run dr/arptables, against a bare guest"
	c := prepareCold(b, what)
	s := inTurns(b, pairs(15),
		func() (time.Duration, error) { return c.run("dr/arptables", "--kernel", "auto") },
		c.floor)
	c.report(b, what, s, "<= 3")
}

// BenchmarkLibrary compares a run of all shipped labs but for the generated
// matrix, in one command and from its start to its end, with the same.
func BenchmarkLibrary(b *testing.B) {
	const what = "lvslab run, the whole library but the matrix, against a bare guest"
	c := prepareCold(b, what)
	args := slices.DeleteFunc(labs.Chapters(), func(name string) bool { return name == "matrix" })
	s := inTurns(b, pairs(3),
		func() (time.Duration, error) { return c.run(append(args, "--kernel", "uml")...) },
		func() (time.Duration, error) {
			// One boot is too short for what else the machine does to fall on
			// it as on the library.
			const boots = 25
			var took []time.Duration
			for range boots {
				t, err := c.floor()
				if err != nil {
					return 0, err
				}
				took = append(took, t)
			}
			return median(took), nil
		})
	c.report(b, what, s, "<= 120")
}

// cold is what a cold start needs, where nobody may use it.
type cold struct {
	lvslab, image, nothing, how, work string
	env                               []string
}

func prepareCold(b *testing.B, what string) *cold {
	b.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		skip(b, what, err.Error())
	}
	dir := b.TempDir()
	// Open to everybody, with all above it: nobody must get there.
	for d := dir; d != filepath.Dir(os.TempDir()); d = filepath.Dir(d) {
		if info, err := os.Stat(d); err == nil && info.Mode().Perm()&0o055 != 0o055 {
			if err := os.Chmod(d, info.Mode().Perm()|0o055); err != nil {
				b.Fatal(err)
			}
		}
		if d == filepath.Dir(d) || d == os.TempDir() {
			break
		}
	}
	c := &cold{image: filepath.Join(dir, "linux.uml"), lvslab: filepath.Join(dir, "lvslab"), work: filepath.Join(dir, "work")}
	modules := filepath.Join(dir, "modules")
	if err := copyFile(c.image, k.Image); err != nil {
		b.Fatal(err)
	}
	if err := os.CopyFS(modules, os.DirFS(k.Modules)); err != nil {
		b.Fatal(err)
	}
	// As the Makefile builds it.
	build(b, c.lvslab, "github.com/lvslab/lvslab/cmd/lvslab")
	c.nothing, c.how = doNothing(b, dir)
	if err := os.Mkdir(c.work, 0o777); err != nil {
		b.Fatal(err)
	}
	if err := os.Chmod(c.work, 0o777); err != nil {
		b.Fatal(err)
	}
	c.env = []string{"PATH=/usr/bin:/bin", "HOME=" + c.work, "LVSLAB_UML=" + c.image, "LVSLAB_UML_MODULES=" + modules}
	return c
}

// run runs lvslab's run.
func (c *cold) run(args ...string) (time.Duration, error) {
	return timed(func() *exec.Cmd {
		cmd := exec.Command(c.lvslab, append([]string{"run"}, args...)...)
		cmd.Env = c.env
		return cmd
	}, -1)
}

// floor boots the bare guest once.
func (c *cold) floor() (time.Duration, error) {
	own, err := os.MkdirTemp(c.work, "floor-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(own)
	if err := os.Chmod(own, 0o777); err != nil {
		return 0, err
	}
	return timed(func() *exec.Cmd {
		// As in runner/uml/order.go, but for the line to the host.
		cmd := exec.Command(c.image,
			fmt.Sprintf("mem=%dM", uml.DefaultMem>>20), "rootfstype=hostfs", "rootflags=/", "ro",
			"devtmpfs.mount=0", "init="+c.nothing, "con=null", "con0=null,fd:1", "ssl=null",
			"uml_dir="+own+"/", "umid=uml", "quiet", "lpj=18390000",
			"initcall_blacklist=raid6_select_algo", "pty.legacy_count=0",
			"selinux=0", "apparmor=0", "audit=0")
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		cmd.Dir = "/"
		return cmd
	}, lastCPU())
}

func (c *cold) report(b *testing.B, what string, s sample, goal string) {
	b.Helper()
	b.ReportMetric(s.ratio(), "x-floor")
	b.ReportMetric(float64(median(s.ours).Milliseconds()), "ms-lvslab")
	b.ReportMetric(float64(median(s.theirs).Milliseconds()), "ms-floor")
	results.add(what+" ("+c.how+")", s, s.ratio(), goal)
}

// timed runs a command to its end, pinned to a CPU if that is not negative.
func timed(command func() *exec.Cmd, cpu int) (time.Duration, error) {
	type outcome struct {
		took time.Duration
		err  error
	}
	done := onThread(func() outcome {
		if cpu >= 0 {
			var set unix.CPUSet
			set.Set(cpu)
			_ = unix.SchedSetaffinity(0, &set)
			const addrNoRandomize = 0x0040000 // personality(2)
			_, _, _ = unix.RawSyscall(unix.SYS_PERSONALITY, addrNoRandomize, 0, 0)
		}
		cmd := command()
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		}
		start := time.Now()
		err := cmd.Run()
		took := time.Since(start)
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out.Bytes())
		}
		return outcome{took, err}
	})
	return done.took, done.err
}

// onThread calls f on a thread that is thrown away, with all that is set for it.
func onThread[T any](f func() T) T {
	c := make(chan T)
	go func() {
		runtime.LockOSThread()
		c <- f()
	}()
	return <-c
}

// lastCPU is where lvslab pins a guest when there is no other.
func lastCPU() int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return -1
	}
	for cpu := len(set)*strconv.IntSize - 1; cpu >= 0; cpu-- {
		if set.IsSet(cpu) {
			return cpu
		}
	}
	return -1
}

// doNothing makes the init that powers off, in C where there is a compiler: Go's
// runtime alone would take a tenth of the floor's time.
func doNothing(b *testing.B, dir string) (path, how string) {
	b.Helper()
	path = filepath.Join(dir, "poweroff")
	source, err := filepath.Abs("testdata/poweroff.c")
	if err != nil {
		b.Fatal(err)
	}
	if cc, err := exec.LookPath("cc"); err == nil {
		if exec.Command(cc, "-Os", "-static", "-o", path, source).Run() == nil {
			return path, "its init in C"
		}
	}
	build(b, path, "./testdata/poweroff")
	return path, "its init in Go, some ms slower than in C"
}

func build(b *testing.B, out, pkg string) {
	b.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

func copyFile(to, from string) error {
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
