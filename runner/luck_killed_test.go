package runner_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/labs"
)

// pingLab needs nothing that a plain kernel lacks, so the host backend runs it.
const pingLab = `title: Two nodes ping each other
networks: {lan: 10.9.0.0/24}
nodes:
  a: {links: {eth0: lan 10.9.0.1/24}}
  b: {links: {eth0: lan 10.9.0.2/24}}
steps:
- name: a pings b
  do: [ping: {from: a, to: 10.9.0.2, count: 3}]
  expect: [result: ok]
- name: and again
  do: [ping: {from: b, to: 10.9.0.1, count: 3}]
  expect: [result: ok]
`

// hangLab has a command that leaves processes, files and shared memory for as
// long as it may run.
const hangLab = `title: A command that hangs
networks: {lan: 10.9.0.0/24}
nodes:
  a: {links: {eth0: lan 10.9.0.1/24}}
steps:
- name: it sleeps
  do: [run: {node: a, command: "echo x >/tmp/left; echo x >/run/left; setsid sleep 300 & sleep 300", timeout: 100s}]
  expect: [output: {exit: 0}]
`

// atOnceKilled is how many lvslabs share a stage while they are killed.
const atOnceKilled = 5

// killedAnyMoment kills lvslab with a guest at random moments of a run.
func killedAnyMoment(t *testing.T, s *stage, times int, lvslab func(...string) *exec.Cmd) {
	// All of a run is to be hit, the boot and the end too.
	whole := finish(t, lvslab("run", "dr/arptables"))
	passed(t, whole)
	s.clean(t)
	span := whole.took * atOnceKilled / 3
	t.Logf("a run takes %v; killed within %v", whole.took, span)
	killedWithin(t, s, times, span, func() *exec.Cmd { return lvslab("run", "dr/arptables") })
}

// killedWithin kills what start makes within a time from its start.
func killedWithin(t *testing.T, s *stage, times int, span time.Duration, command func() *exec.Cmd) {
	t.Helper()
	for done := 0; done < times; {
		var running []*exec.Cmd
		var when []time.Duration
		for ; done < times && len(running) < atOnceKilled; done++ {
			cmd := command()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			after := rand.N(span)
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			running, when = append(running, cmd), append(when, after)
		}
		for _, cmd := range running {
			_ = cmd.Wait()
		}
		s.clean(t)
		if t.Failed() {
			t.Fatalf("killed after %v", when)
		}
	}
}

// killedOnHost kills lvslab while labs are in the machine's own kernel.
func killedOnHost(t *testing.T, s *stage) {
	lab := s.lab(t, "ping", pingLab)
	whole := finish(t, s.cmd("run", "--kernel", "host", lab))
	if whole.exit == 3 && strings.Contains(whole.String(), "no kernel here can run this") {
		t.Skip(whole)
	}
	passed(t, whole)
	s.clean(t)
	killedWithin(t, s, 20, 2*whole.took, func() *exec.Cmd { return s.cmd("run", "--kernel", "host", lab) })
}

// killedInCommand kills lvslab while a node's command runs.
func killedInCommand(t *testing.T, s *stage) {
	lab := s.lab(t, "hang", hangLab)
	for _, k := range []string{"host", "uml"} {
		for range 3 {
			cmd := s.cmd("run", "--kernel", k, "--format", "json", lab)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			begin := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if k == "host" {
				sleeping := func() bool {
					for _, p := range processes() {
						if strings.HasPrefix(p.command, "sleep 300") {
							return true
						}
					}
					return false
				}
				if !until(10*time.Second, sleeping) {
					_ = cmd.Process.Kill()
					e := wait(t, cmd, begin, &out, &errs)
					if strings.Contains(e.String(), "no kernel here can run this") {
						t.Log(e)
						break
					}
					t.Fatalf("the command never ran:\n%s", e)
				}
			} else {
				// Which guest process is the command's cannot be told from here.
				until(10*time.Second, func() bool { return len(s.guests()) > 0 })
				time.Sleep(400*time.Millisecond + rand.N(300*time.Millisecond))
			}
			_ = cmd.Process.Kill()
			if e := wait(t, cmd, begin, &out, &errs); e.exit != 128+int(unix.SIGKILL) {
				t.Errorf("it had ended before:\n%s", e)
			}
			s.clean(t)
		}
	}
}

// until polls for something.
func until(most time.Duration, done func() bool) bool {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

// interrupted sends the signals that end a run in good order, to the whole
// process group as a terminal does.
func interrupted(t *testing.T, s *stage, lvslab func(...string) *exec.Cmd) {
	whole := finish(t, lvslab("run", "dr"))
	passed(t, whole)
	for i := range 12 {
		sig := []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGINT}[i%3]
		asJSON := i%2 == 0
		args := []string{"run", "dr"}
		if asJSON {
			args = append(args, "--format", "json")
		}
		cmd := lvslab(args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Not in its first moments, in which the Go runtime itself is not up.
		after := 50*time.Millisecond + rand.N(whole.took*8/10)
		time.Sleep(after)
		if err := unix.Kill(-cmd.Process.Pid, sig); err != nil {
			t.Error(err)
		}
		e := wait(t, cmd, begin, &out, &errs)
		if e.exit == 0 && e.took < after+time.Second {
			t.Logf("%v after %v came too late", sig, after)
			continue
		}
		if e.exit != 130 || e.took > after+2*time.Second || !strings.Contains(e.stderr, "interrupted") {
			t.Errorf("%v after %v: exit %d after %v:\n%s", sig, after, e.exit, e.took, e)
		}
		s.clean(t)
		if !asJSON {
			if e.stdout != "" && !strings.Contains(e.stdout, "labs: ") {
				t.Errorf("%v after %v: no summary:\n%s", sig, after, e)
			}
			continue
		}
		// Every lab has a verdict, if the run had begun at all.
		finished, all := 0, events(t, e.stdout)
		for _, ev := range all {
			if ev.Kind == "lab_finished" {
				finished++
			}
		}
		if len(all) > 0 && (all[len(all)-1].Kind != "run_finished" || finished != len(labs.Find("dr"))) {
			t.Errorf("%v after %v: %d labs have a verdict:\n%s", sig, after, finished, e)
		}
	}
}

// start starts lvslab and returns when the first line with a text has come.
func startUntil(t *testing.T, cmd *exec.Cmd, text string) (begin time.Time, out, errs *bytes.Buffer, rest func()) {
	t.Helper()
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = errs
	begin = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !strings.Contains(out.String(), text) {
		n, err := pipe.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			t.Fatalf("no %q: %v\n%s%s", text, err, out, errs)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, pipe)
	}()
	return begin, out, errs, func() { <-done }
}

// guestKilled kills the guest of a run once: its labs are run again, alone.
func guestKilled(t *testing.T, s *stage) {
	cmd := s.cmd("run", "--format", "json", "dr/arptables", "dr/sysctl", "tun/rp-filter")
	begin, out, errs, rest := startUntil(t, cmd, "lab_started")
	guests := s.guests()
	if len(guests) != 1 {
		t.Errorf("%d guests", len(guests))
	}
	for _, pid := range guests {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	rest()
	e := wait(t, cmd, begin, out, errs)
	finished := make(map[string]int)
	for _, ev := range events(t, e.stdout) {
		if ev.Kind == "lab_finished" && ev.Verdict == "pass" {
			finished[ev.Lab]++
		}
	}
	if e.exit != 0 || len(finished) != 3 {
		t.Errorf("exit %d, verdicts %v:\n%s", e.exit, finished, e)
	}
	s.clean(t)
}

// guestAlwaysKilled kills every guest that ever boots, by a signal after which
// the kernel still says something.
func guestAlwaysKilled(t *testing.T, s *stage) {
	// Labs that come to no verdict before the guest is killed.
	var slow []string
	for _, name := range []string{"slow", "slower"} {
		slow = append(slow, s.lab(t, name, `title: `+name+`
networks: {lan: 10.9.0.0/24}
nodes:
  a: {links: {eth0: lan 10.9.0.1/24}}
  b: {links: {eth0: lan 10.9.0.2/24}}
steps:
- name: wait
  do: [run: {node: a, command: sleep 60, timeout: 1m}]
  expect: [output: {exit: 0}]
`))
	}
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSEGV} {
		stop, stopped := make(chan struct{}), make(chan struct{})
		cmd := s.cmd(append([]string{"run", "--kernel", "uml"}, slow...)...)
		begin, out, errs, rest := startUntil(t, cmd, "kernel: ")
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				// Late enough for a boot as a rule; where it is not, the guest is
				// killed booting, which is broken as well.
				case <-time.After(350 * time.Millisecond):
				}
				for _, pid := range s.guests() {
					_ = unix.Kill(pid, sig)
				}
			}
		}()
		rest()
		e := wait(t, cmd, begin, out, errs)
		close(stop)
		<-stopped
		want := []string{"BROKEN", "the kernel ended before the lab did, twice", "2 labs: 2 broken", fmt.Sprintf("killed by signal %d", int(sig))}
		if sig == unix.SIGSEGV {
			want = append(want[:3], "its console showed:")
		}
		refused(t, e, 3, want...)
		s.clean(t)
	}
}
