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
)

// processes are those that run, by number, with the numbers of their parents.
func processes() map[int]int {
	all := make(map[int]int)
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
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
			continue
		}
		all[pid], _ = strconv.Atoi(f[1])
	}
	return all
}

// family is a process and all that descend from it.
func family(root int) []int {
	all := processes()
	list := []int{root}
	for grown := true; grown; {
		grown = false
		for pid, parent := range all {
			if slices.Contains(list, parent) && !slices.Contains(list, pid) {
				list = append(list, pid)
				grown = true
			}
		}
	}
	return list
}

// allGone waits for the end of processes.
func allGone(t *testing.T, pids []int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		now := processes()
		left := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { _, runs := now[pid]; return !runs })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, pid := range left {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				t.Errorf("process %d lives: %q", pid, line)
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

// kernelOf is the process that is a lab's guest kernel, the largest of its
// keeper's family.
func kernelOf(t *testing.T, keeper int) int {
	t.Helper()
	for _, pid := range family(keeper) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		parent := processes()[pid]
		above, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", parent))
		if strings.Contains(string(line), "rootfstype=hostfs") && !strings.Contains(string(above), "rootfstype=hostfs") {
			return pid
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
	up := func() []int {
		must(t, env, "up", file, "--kernel", "uml")
		must(t, env, "exec", "mine", "web1", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 0")
		return family(psOf(t, env, "mine").Pid)
	}
	t.Run("the guest dies", func(t *testing.T) {
		all := up()
		if err := unix.Kill(kernelOf(t, all[0]), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
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
		if err := unix.Kill(all[0], unix.SIGKILL); err != nil {
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
	for range 2 {
		var wg sync.WaitGroup
		args := [][]string{}
		for i := range 10 {
			kernel := "host"
			file := filepath.Join("testdata", "living", "lan.yaml")
			if i < 3 || os.Geteuid() != 0 {
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
		var doc psDoc
		if err := json.Unmarshal([]byte(must(t, env, "ps", "--format", "json")), &doc); err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, l := range doc.Labs {
			if l.Health != healthUp {
				t.Errorf("%s is %s: %s", l.Name, l.Health, l.Why)
			}
			pids = append(pids, family(l.Pid)...)
		}
		if len(doc.Labs) != 10 {
			t.Errorf("%d labs are up, wanted 10", len(doc.Labs))
		}
		// They do not meet: all have the same addresses.
		for _, name := range []string{"lab1", "lab8"} {
			must(t, env, "exec", name, "one", "--", "ip", "addr", "add", "10.9.0.77/24", "dev", "eth0")
			must(t, env, "exec", name, "two", "--", "ping", "-c1", "-W5", "10.9.0.77")
		}
		if out, err := lvslab(t, env, "exec", "lab2", "two", "--", "ping", "-c1", "-W1", "10.9.0.77").CombinedOutput(); err == nil {
			t.Errorf("a lab reaches another one:\n%s", out)
		}
		must(t, env, "down", "--all")
		allGone(t, pids)
	}
	if after := traces(t, env); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// traces are what labs might leave on a machine: devices, mounts and files. What
// other tests make at the same time has other names.
func traces(t *testing.T, env []string) string {
	t.Helper()
	var b strings.Builder
	for _, file := range []string{"/proc/self/net/dev", "/proc/self/mountinfo", "/proc/self/net/route"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			// Counters change by themselves.
			b.WriteString(strings.Join(strings.Fields(line)[:1], " ") + "\n")
		}
	}
	_ = filepath.WalkDir(strings.TrimPrefix(env[1], "XDG_STATE_HOME="), func(name string, _ os.DirEntry, err error) error {
		if err == nil && !strings.HasSuffix(name, "/labs") && !strings.HasSuffix(name, "/lvslab") {
			b.WriteString(name + "\n")
		}
		return nil
	})
	return b.String()
}
