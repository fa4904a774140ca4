package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/topology"
)

// process is one that runs. A number is used again when its process has ended,
// but not with the same time of birth.
type process struct {
	pid, parent int
	born        string
}

// processes are those that run, by number. One whose first thread has ended runs
// as long as others do: they hold its files.
func processes() map[int]process {
	all := make(map[int]process)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// The name, in parentheses, may hold anything.
		// Behind the name: the state, field 3 of proc_pid_stat(5), and so on.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 20 {
			continue
		}
		state, threads := f[0], f[17]
		if state == "X" || state == "Z" && threads <= "1" {
			continue
		}
		p := process{pid: pid, born: f[19]}
		p.parent, _ = strconv.Atoi(f[1])
		all[pid] = p
	}
	return all
}

// family is a process and all that descend from it, itself the first.
func family(t *testing.T, root int) []process {
	t.Helper()
	all := processes()
	first, ok := all[root]
	if root <= 1 || !ok {
		t.Fatalf("no process %d runs", root)
	}
	list := []process{first}
	in := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			if in[p.parent] && !in[pid] {
				list = append(list, p)
				in[pid], grown = true, true
			}
		}
	}
	return list
}

// allGone waits for the end of processes.
func allGone(t *testing.T, these []process) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		now := processes()
		left := slices.DeleteFunc(slices.Clone(these), func(p process) bool { return now[p.pid].born != p.born })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, p := range left {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
				t.Errorf("process %d lives: %q", p.pid, line)
			}
			return
		}
	}
}

// psOf is what ps tells of one lab.
func psOf(t *testing.T, env []string, name string) psLab {
	t.Helper()
	var doc psDoc
	if err := json.Unmarshal([]byte(must(t, env, "ps", "--format", "json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, l := range doc.Labs {
		if l.Name == name {
			return l
		}
	}
	return psLab{}
}

// staysUp wants a lab to be up. A machine that is busy may leave it no time to
// answer at once.
func staysUp(t *testing.T, env []string, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		l := psOf(t, env, name)
		if l.Health == healthUp {
			return
		}
		if l.Health == healthDead || time.Now().After(deadline) {
			t.Fatalf("ps: %+v", l)
		}
	}
}

// kernelOf is the process that is a lab's guest kernel, the largest of its
// keeper's family.
func kernelOf(t *testing.T, keeper int) int {
	t.Helper()
	for _, p := range family(t, keeper) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		above, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.parent))
		if strings.Contains(string(line), "rootfstype=hostfs") && !strings.Contains(string(above), "rootfstype=hostfs") {
			return p.pid
		}
	}
	t.Fatalf("the keeper %d has no guest", keeper)
	return 0
}

// TestBadLuck kills what keeps a lab up, bit by bit.
func TestBadLuck(t *testing.T) {
	t.Parallel()
	env := livingEnv(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "labs", "dr", "sysctl.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	up := func() []process {
		must(t, env, "up", file, "--kernel", "uml")
		must(t, env, "exec", "mine", "web1", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 0")
		return family(t, psOf(t, env, "mine").Pid)
	}
	t.Run("the guest dies", func(t *testing.T) {
		all := up()
		if err := unix.Kill(kernelOf(t, all[0].pid), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			l := psOf(t, env, "mine")
			if l.Health == healthDead && strings.Contains(l.Why, "guest (User-Mode Linux") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("ps: %+v", l)
			}
		}
		out, err := lvslab(t, env, "exec", "mine", "web1", "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the lab is dead: ") || !strings.Contains(string(out), "lvslab down mine") {
			t.Errorf("exec: %v\n%s", err, out)
		}
		must(t, env, "down", "mine")
		allGone(t, all)
	})
	t.Run("the keeper dies", func(t *testing.T) {
		all := up()
		if err := unix.Kill(all[0].pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		allGone(t, all)
		if l := psOf(t, env, "mine"); l.Health != healthDead {
			t.Errorf("ps: %+v", l)
		}
		all = up() // nothing is in its way
		must(t, env, "down", "mine")
		allGone(t, all)
	})
	t.Run("the file goes", func(t *testing.T) {
		all := up()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		out, err := lvslab(t, env, "apply", "mine").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "lvslab apply mine FILE") {
			t.Errorf("apply: %v\n%s", err, out)
		}
		must(t, env, "down", "mine")
		allGone(t, all)
	})
}

// TestManyLabs brings ten labs up at once, some of the same file, and takes them
// down, twice: the machine is as it was.
func TestManyLabs(t *testing.T) {
	t.Parallel()
	env := livingEnv(t)
	before := traces(t, env)
	// This machine's own kernel is a quick one, where it can.
	own := host.New().Can(t.Context(), []topology.Feature{"veth", "bridge", "overlay"}).Verdict == runner.Yes
	for range 2 {
		var wg sync.WaitGroup
		args := [][]string{}
		for i := range 10 {
			kernel := "host"
			file := filepath.Join("testdata", "living", "lan.yaml")
			if i < 3 || !own {
				kernel = "uml"
			}
			if i == 0 {
				file = "nat/two-networks"
			}
			args = append(args, []string{"up", file, "--name", fmt.Sprintf("lab%d", i), "--kernel", kernel})
		}
		for _, a := range args {
			wg.Go(func() {
				if out, err := lvslab(t, env, a...).CombinedOutput(); err != nil {
					t.Errorf("%v: %v\n%s", a, err, out)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		var these []process
		for _, l := range tenUp(t, env) {
			these = append(these, family(t, l.Pid)...)
		}
		// They do not meet: all have the same addresses.
		for _, name := range []string{"lab1", "lab8"} {
			must(t, env, "exec", name, "one", "--", "ip", "addr", "add", "10.9.0.77/24", "dev", "eth0")
			must(t, env, "exec", name, "two", "--", "ping", "-c1", "-W20", "10.9.0.77")
		}
		if out, err := lvslab(t, env, "exec", "lab2", "two", "--", "ping", "-c1", "-W1", "10.9.0.77").CombinedOutput(); err == nil {
			t.Errorf("a lab reaches another one:\n%s", out)
		}
		must(t, env, "down", "--all")
		allGone(t, these)
	}
	// What other tests make at the same time goes again.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left := slices.DeleteFunc(traces(t, env), func(l string) bool { return slices.Contains(before, l) })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %q", left)
		}
	}
}

// tenUp are the labs of a ps in which all ten are up; a machine that is busy may
// leave one of them no time to answer.
func tenUp(t *testing.T, env []string) []psLab {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var doc psDoc
		if err := json.Unmarshal([]byte(must(t, env, "ps", "--format", "json")), &doc); err != nil {
			t.Fatal(err)
		}
		up := slices.DeleteFunc(slices.Clone(doc.Labs), func(l psLab) bool { return l.Health != healthUp })
		if len(up) == 10 && len(doc.Labs) == 10 {
			return up
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d labs are up, wanted 10: %+v", len(up), len(doc.Labs), doc.Labs)
		}
	}
}

// traces are what labs might leave on a machine: devices, mounts and files.
func traces(t *testing.T, env []string) (all []string) {
	t.Helper()
	for _, file := range []string{"/proc/self/net/dev", "/proc/self/mountinfo", "/proc/self/net/route"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			// Counters change by themselves.
			all = append(all, file+" "+strings.Fields(line)[0])
		}
	}
	_ = filepath.WalkDir(strings.TrimPrefix(env[1], "XDG_STATE_HOME="), func(name string, _ os.DirEntry, err error) error {
		if err == nil && !strings.HasSuffix(name, "/labs") && !strings.HasSuffix(name, "/lvslab") {
			all = append(all, name)
		}
		return nil
	})
	return all
}
