package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// BenchmarkUp compares `lvslab up dr/arptables`, from its start until the lab is
// ready, with `lvslab run` of the same lab without its steps, which ends when the
// lab is gone again.
func BenchmarkUp(b *testing.B) {
	const what = "lvslab up, against lvslab run of the lab without its steps"
	c := prepareCold(b, what)
	found := labs.Find("dr/arptables")
	text, _, ok := strings.Cut(string(found[0].Data), "\nsteps:")
	if !ok {
		b.Fatal("the lab has no steps to leave out")
	}
	file := filepath.Join(filepath.Dir(c.lvslab), "bare.yaml")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	lvslab := func(args ...string) (time.Duration, error) {
		return timed(func() *exec.Cmd {
			cmd := exec.Command(c.lvslab, args...)
			cmd.Env = append(slices.Clone(c.env), "XDG_STATE_HOME="+c.work)
			return cmd
		}, -1)
	}
	s := inTurns(b, pairs(15),
		func() (time.Duration, error) {
			took, err := lvslab("up", "--kernel", "uml", file)
			if err == nil {
				_, err = lvslab("down", "bare")
			}
			return took, err
		},
		func() (time.Duration, error) { return lvslab("run", "--kernel", "uml", file) })
	b.ReportMetric(s.ratio(), "x-run")
	results.add(what, s, s.ratio(), "<= 1.3")
}

// forks is how many times a program is started for one figure.
const forks = 20

// forkArg makes the test binary a program that starts another one, forks times,
// and prints how many nanoseconds one took.
const forkArg = "lvslab-bench-fork"

// forkLoop is that program. It returns at once where it is not asked for.
func forkLoop() {
	if len(os.Args) != 3 || os.Args[1] != forkArg {
		return
	}
	begin := time.Now()
	for range forks {
		p, err := os.StartProcess(os.Args[2], []string{"nothing"}, &os.ProcAttr{})
		if err == nil {
			_, err = p.Wait()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println(time.Since(begin).Nanoseconds() / forks)
	os.Exit(0)
}

// BenchmarkExec compares the round trip of exec, of a static program that does
// nothing in a node of a guest, with what a fork and exec of it take there.
func BenchmarkExec(b *testing.B) {
	const what = "exec of a static program in a guest, against fork and exec there"
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		skip(b, what, err.Error())
	}
	// Not below /tmp, /run or /dev, which are a guest's own.
	dir, err := os.MkdirTemp("/var/tmp", "lvslab-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	nothing := filepath.Join(dir, "nothing")
	build(b, nothing, filepath.Join(dir, "main.go"))
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	forker := filepath.Join(dir, "forker")
	if err := copyFile(forker, self); err != nil {
		b.Fatal(err)
	}
	s, err := (&uml.Backend{Config: uml.Config{Kernel: k}, Env: os.Getenv, Modules: guest.Modules}).Boot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	lab, err := s.Up(b.Context(), wire.Job{
		Version: wire.Version, Labs: []string{"lab"}, Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(streamLab)}},
	})
	if err != nil {
		b.Fatal(err)
	}
	r := inTurns(b, pairs(15),
		func() (time.Duration, error) {
			begin := time.Now()
			for range forks {
				if _, err := output(b.Context(), lab, nothing); err != nil {
					return 0, err
				}
			}
			return time.Since(begin) / forks, nil
		},
		func() (time.Duration, error) {
			out, err := output(b.Context(), lab, forker, forkArg, nothing)
			if err != nil {
				return 0, err
			}
			ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
			return time.Duration(ns), err
		})
	b.ReportMetric(r.ratio(), "x-fork")
	results.add(what, r, r.ratio(), "<= 2")
}

// output runs a program in the node of streamLab.
func output(ctx context.Context, lab live.Lab, args ...string) (string, error) {
	var out, errw bytes.Buffer
	exit, err := lab.Exec(ctx, live.Exec{Node: "one", Args: args}, live.Streams{Stdout: &out, Stderr: &errw})
	if err == nil && exit.Code != 0 {
		err = errors.New(errw.String())
	}
	return out.String(), err
}
