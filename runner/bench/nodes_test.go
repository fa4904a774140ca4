package bench

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/scenarios"
)

//go:embed testdata/netns.sh
var netnsScript []byte

//go:embed testdata/mininet.py
var mininetScript []byte

// BenchmarkNodes compares a lab of one network and n nodes, up and down in the
// machine's own kernel, with bare system calls that make and end the same
// things. A script with ip(8) and Mininet stand beside it.
func BenchmarkNodes(b *testing.B) {
	if os.Geteuid() != 0 {
		skip(b, "nodes on this kernel", "needs root, to make network namespaces")
	}
	for _, n := range []int{4, 64, 256, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			what := fmt.Sprintf("%d nodes up and down, against ", n)
			plan := nodesPlan(b, n)
			todo := bareWork(b, plan)
			ours := func() (time.Duration, error) { return lvslabNodes(b.Context(), plan) }
			s := inTurns(b, pairs(10), ours, func() (time.Duration, error) {
				settle()
				return onThread(todo.upAndDown).unpack()
			})
			b.ReportMetric(s.ratio(), "x-bare")
			b.ReportMetric(float64(median(s.ours).Microseconds())/1000, "ms-lvslab")
			b.ReportMetric(float64(median(s.theirs).Microseconds())/1000, "ms-bare")
			results.add(what+"bare system calls", s, s.ratio(), "<= 1.5")

			// What takes seconds is not taken often.
			beside := func(name string, cmd func() *exec.Cmd) {
				s := inTurns(b, max(1, min(5, 256/n)), ours, func() (time.Duration, error) { return alone(cmd()) })
				b.ReportMetric(s.ratio(), "x-"+strings.ReplaceAll(name, " ", "-"))
				results.add(what+name, s, s.ratio(), "")
			}
			if _, err := exec.LookPath("ip"); err != nil {
				results.skip(what+"ip netns", "no ip: apt-get install iproute2")
			} else {
				beside("ip netns", func() *exec.Cmd { return exec.Command("sh", "-s", "--", fmt.Sprint(n)) })
			}
			switch {
			case exec.Command("python3", "-c", "import mininet").Run() != nil:
				results.skip(what+"Mininet", "not installed: apt-get install mininet")
			case n > 64:
				results.skip(what+"Mininet", "minutes")
			default:
				beside("Mininet", func() *exec.Cmd { return exec.Command("python3", "-", fmt.Sprint(n)) })
			}
		})
	}
}

// nodesPlan is the lab.
func nodesPlan(b *testing.B, n int) *scenarios.Plan {
	b.Helper()
	var text strings.Builder
	text.WriteString("title: many nodes\nnetworks: {lan: 10.0.0.0/16}\nnodes:\n")
	for i := range n {
		fmt.Fprintf(&text, "  n%d: {links: {eth0: lan 10.0.%d.%d/16}}\n", i, (i+1)/250, (i+1)%250+1)
	}
	text.WriteString("steps:\n- name: it is there\n  do: [{ping: {from: n0, to: n1}}]\n  expect: [{result: ok}]\n")
	labs, err := scenarios.Load("many.yaml", "many", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	plan, err := labs[0].Plan()
	if err != nil {
		b.Fatal(err)
	}
	return plan
}

// settle waits until the kernel, which takes namespaces down behind one's back,
// has done with those of the measurement before.
func settle() {
	last := -1
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := namespaces()
		if now == last {
			return
		}
		last = now
	}
}

// namespaces is how many network namespaces the kernel holds, 0 if unknown.
func namespaces() int {
	data, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "net_namespace" {
			n, _ := strconv.Atoi(f[1]) // 0 is unknown
			return n
		}
	}
	return 0
}

func lvslabNodes(ctx context.Context, plan *scenarios.Plan) (time.Duration, error) {
	settle()
	runtime.GC()
	start := time.Now()
	up, err := engine.Start(ctx, plan)
	if err != nil {
		return 0, err
	}
	if err := up.Close(); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// alone runs a command in a mount and a network namespace of its own, so that
// nothing which it leaves is left on the machine.
func alone(cmd *exec.Cmd) (time.Duration, error) {
	input := netnsScript
	if filepath.Base(cmd.Args[0]) == "python3" {
		input = mininetScript
	}
	cmd.Stdin = strings.NewReader(string(input))
	settle()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS,
	}
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd.Args[0], err, out)
	}
	return time.Since(start), nil
}
