package runner_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// atOnce runs the same lab several times at once; the runs must not meet.
func atOnce(t *testing.T, s *stage) {
	ping := s.lab(t, "ping", pingLab)
	for _, args := range [][]string{{"run", "--kernel", "uml", "dr/arptables"}, {"run", "--kernel", "host", ping}} {
		for _, n := range []int{2, 4} {
			var running []*exec.Cmd
			var outs []*bytes.Buffer
			begin := time.Now()
			for range n {
				cmd, out := s.cmd(args...), new(bytes.Buffer)
				cmd.Stdout, cmd.Stderr = out, out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				running, outs = append(running, cmd), append(outs, out)
			}
			for i, cmd := range running {
				passed(t, wait(t, cmd, begin, outs[i], new(bytes.Buffer)))
			}
			s.clean(t)
		}
	}
}

// manyLabs runs the first chapters as an ordinary user.
func manyLabs(t *testing.T, s *stage) {
	e := finish(t, s.nobody("run", "--kernel", "uml", "dr", "tun", "nat"))
	passed(t, e)
	n := len(labs.Find("dr")) + len(labs.Find("tun")) + len(labs.Find("nat"))
	if want := fmt.Sprintf("%d labs: %d passed", n, n); !strings.Contains(e.stdout, want) {
		t.Errorf("it does not say %q:\n%s", want, e)
	}
	s.clean(t)
}

// labHangs bounds labs whose commands do not end.
func labHangs(t *testing.T, s *stage) {
	lab := s.lab(t, "hang", hangLab)
	for _, k := range []string{"host", "uml"} {
		e := finish(t, s.cmd("run", "--kernel", k, "--timeout", "1s", lab))
		if strings.Contains(e.String(), "no kernel here can run this") {
			t.Log(e)
			continue
		}
		refused(t, e, 3, "BROKEN", "the lab took longer than 1s", "1 lab: 1 broken")
		if e.took > 4*time.Second {
			t.Errorf("took %v", e.took)
		}
		s.clean(t)
	}
}

// hostileCommands are what a lab file from nobody knows where might run. None
// takes the guest with it: the second step still comes to its verdict.
func hostileCommands(t *testing.T, s *stage) {
	const lab = `title: Hostile
networks: {lan: 10.9.0.0/24}
nodes:
  a: {links: {eth0: lan 10.9.0.1/24}}
  b: {links: {eth0: lan 10.9.0.2/24}}
steps:
- name: hostile
  do: [run: {node: a, command: %q, timeout: 1500ms}]
  expect: [output: {exit: 77}]
`
	const second = `title: Peaceful
networks: {lan: 10.9.0.0/24}
nodes:
  a: {links: {eth0: lan 10.9.0.1/24}}
  b: {links: {eth0: lan 10.9.0.2/24}}
steps:
- name: peaceful
  do: [run: {node: a, command: "sleep 2; exit 77", timeout: 1m}]
  expect: [output: {exit: 77}]
`
	peaceful := s.lab(t, "peaceful", second)
	for name, command := range map[string]string{
		"floods":         "yes",
		"panics":         "echo c >/proc/sysrq-trigger; kill -9 1; reboot -f; poweroff -f; exit 5",
		"eats memory":    "tail -c 4G /dev/zero",
		"fills its disk": "for d in /tmp /run /dev/shm /root; do cat /dev/zero >$d/x; done; exit 5",
		// Only in a guest: it is the guest's processes that it takes.
		"forks": "f() { f | f & }; f; sleep 60",
	} {
		t.Run(name, func(t *testing.T) {
			hostile := s.lab(t, "hostile", fmt.Sprintf(lab, command))
			e := finish(t, s.cmd("run", "--kernel", "uml", "--format", "json", hostile, peaceful))
			verdicts := make(map[string]wire.Verdict)
			for _, ev := range events(t, e.stdout) {
				if ev.Kind == wire.LabFinished {
					verdicts[ev.Lab] = ev.Verdict
				}
			}
			if v := verdicts["hostile"]; v != wire.Fail && v != wire.Broken {
				t.Errorf("the hostile lab came to %q", v)
			}
			if v := verdicts["peaceful"]; v != wire.Pass {
				t.Errorf("the peaceful lab came to %q", v)
			}
			if t.Failed() || e.took > 90*time.Second { // it ends; how fast, the machine decides
				t.Errorf("after %v:\n%s", e.took, e)
			}
			s.clean(t)
		})
	}
}

// guestSilent stops a guest's kernel: that it says nothing is told from that it
// takes its time.
func guestSilent(t *testing.T, s *stage) {
	lab := s.lab(t, "hang", hangLab)
	data, err := os.ReadFile(lab)
	if err != nil {
		t.Fatal(err)
	}
	b := &uml.Backend{Config: uml.Config{Kernel: s.kernel, Self: s.program, Silence: 3 * time.Second}, Env: os.Getenv}
	var finished *wire.Event
	begin := time.Now()
	counts, err := runner.Run(t.Context(), runner.Options{
		Files: []wire.File{{Path: lab, Name: "hang", Data: data}}, Backends: []runner.Backend{b}, Kernel: "uml",
	}, func(e wire.Event) {
		switch e.Kind {
		case wire.LabStarted:
			for _, pid := range s.guests() {
				if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
					t.Error(err)
				}
			}
		case wire.LabFinished:
			finished = &e
		}
	})
	switch {
	case err != nil:
		t.Error(err)
	case counts.Broken != 1 || finished == nil:
		t.Errorf("counts %+v, %v", counts, finished)
	case !strings.Contains(finished.Message, "went silent: not a sign of life for 3s"):
		t.Errorf("it says %q", finished.Message)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
	s.clean(t)
}

// nodes is a lab with so many of them, a thousand in a network.
func nodes(n int) string {
	const each = 1000
	var networks, list strings.Builder
	for i := range n {
		net, at := i/each, i%each+1
		if i%each == 0 {
			fmt.Fprintf(&networks, "  lan%d: 10.%d.0.0/16\n", net, net)
		}
		fmt.Fprintf(&list, "  n%d: {links: {eth0: lan%d 10.%d.%d.%d/16}}\n", i, net, net, at>>8, at&255)
	}
	return "title: Many nodes\nnetworks:\n" + networks.String() + "nodes:\n" + list.String() +
		"steps:\n- name: one pings another\n  do: [ping: {from: n0, to: 10.0.0.2}]\n  expect: [result: ok]\n"
}

// tooLarge is a lab that no kernel here holds, and one in which all is too
// much.
func tooLarge(t *testing.T, s *stage) {
	lab := s.lab(t, "large", nodes(20000))
	for _, k := range []string{"uml", "host"} {
		e := finish(t, s.cmd("run", "--kernel", k, lab))
		if strings.Contains(e.String(), "no kernel here can run this") {
			t.Log(e)
			continue
		}
		refused(t, e, 3, "no room for 20020 nodes", "1 lab: 1 broken")
		t.Logf("%v: %s", e.took, e)
		s.clean(t)
	}
	huge := s.lab(t, "huge", nodes(200000))
	refused(t, finish(t, s.cmd("run", "--kernel", "uml", huge)), 2, "huge.yaml")
	s.clean(t)
}

// manyLarge are labs of which each fits into a guest, and all together do not:
// they wait for one another.
func manyLarge(t *testing.T, s *stage) {
	args := []string{"run", "--kernel", "uml"}
	for i := range 3 {
		args = append(args, s.lab(t, fmt.Sprintf("large-%d", i), nodes(100)))
	}
	e := finish(t, s.cmd(args...))
	passed(t, e)
	t.Logf("%v: %s", e.took, e)
	s.clean(t)
}

// soak runs all labs but the matrix ten times in a row, then ten times with the
// other CPU busy. What this kernel lacks is skipped.
func soak(t *testing.T, s *stage) {
	chapters := slices.DeleteFunc(labs.Chapters(), func(c string) bool { return c == "matrix" })
	for _, busy := range []bool{false, true} {
		stop := func() {}
		if busy {
			stop = keepBusy(t)
			s.before = s.present()
		}
		var least, most, sum time.Duration
		flakes := 0
		const times = 10
		for i := range times {
			e := finish(t, s.cmd(append([]string{"run", "--kernel", "uml", "-v"}, chapters...)...))
			if e.exit != 0 || !strings.Contains(e.stdout, " passed") {
				flakes++
				t.Errorf("busy %t, run %d: exit %d after %v:\n%s", busy, i, e.exit, e.took, e)
			}
			if i == 0 || e.took < least {
				least = e.took
			}
			most, sum = max(most, e.took), sum+e.took
			s.clean(t)
		}
		t.Logf("busy %t: %d runs of all labs, %d did not pass; %v at least, %v on average, %v at most", busy, times, flakes, least, sum/times, most)
		stop()
	}
}

// keepBusy keeps every CPU but one busy, from a process of its own each.
func keepBusy(t *testing.T) (stop func()) {
	t.Helper()
	var all []*exec.Cmd
	for cpu := range runtime.NumCPU() - 1 {
		runtime.LockOSThread()
		var was, one unix.CPUSet
		one.Set(cpu)
		err := errors.Join(unix.SchedGetaffinity(0, &was), unix.SchedSetaffinity(0, &one))
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		if err == nil {
			err = cmd.Start()
		}
		if err = errors.Join(err, unix.SchedSetaffinity(0, &was)); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
		all = append(all, cmd)
	}
	return func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}
