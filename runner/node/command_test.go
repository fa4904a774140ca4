package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(t *testing.T, f *Files, line string) string {
	t.Helper()
	out := Run(t.Context(), f, Command{Shell: line, Combined: true})
	if out.Err != nil || out.ExitCode != 0 {
		t.Errorf("%s: %v, exit %d\n%s", line, out.Err, out.ExitCode, out.Stdout)
	}
	return string(out.Stdout)
}

func TestRun(t *testing.T) {
	f := overlayFiles(t, "web1")
	up(t, f.ns, "lo", "172.25.12.100/32")
	ctx := t.Context()

	out := Run(ctx, f, Command{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}})
	if string(out.Stdout) != "out\n" || string(out.Stderr) != "err\n" || out.ExitCode != 3 || out.Err != nil || out.Elapsed <= 0 {
		t.Errorf("%+v", out)
	}
	if out := Run(ctx, f, Command{Shell: "kill -SEGV $$"}); out.Signal != "SIGSEGV" || out.ExitCode != -1 || out.Err != nil {
		t.Errorf("%+v", out)
	}
	if got := sh(t, f, "for i in 1 2 3 4; do echo $i; echo $i >&2; done"); got != "1\n1\n2\n2\n3\n3\n4\n4\n" {
		t.Errorf("combined: %q", got)
	}
	if got := sh(t, f, "hostname; pwd; echo $LVSLAB_NODE $HOME; cat; env | grep -c LVSLAB_TEST || true"); got != "web1\n/\nweb1 /root\n0\n" {
		t.Errorf("surroundings: %q", got)
	}
	out = Run(ctx, f, Command{Args: []string{"sh", "-c", "echo $FOO; pwd"}, Env: []string{"FOO=bar"}, Dir: "/etc"})
	if string(out.Stdout) != "bar\n/etc\n" {
		t.Errorf("Env, Dir: %+v", out)
	}
	if got := sh(t, f, "ip -o addr show dev lo | grep -c 172.25.12.100; ls /sys/class/net"); got != "1\nlo\n" && !strings.HasSuffix(got, "\nlo\ntunl0\n") {
		t.Errorf("its network: %q", got)
	}
	if got := sh(t, f, "sysctl -qw net.ipv4.ip_forward=1; cat /proc/sys/net/ipv4/ip_forward"); got != "1\n" {
		t.Errorf("sysctl: %q", got)
	}
	if got, err := f.ns.Sysctl("net.ipv4.ip_forward"); err != nil || got != "1" {
		t.Errorf("sysctl in the node: %q, %v", got, err)
	}
	for _, c := range []Command{{}, {Args: []string{"true"}, Shell: "true"}, {Args: []string{"lvslab-no-such-program"}}, {Shell: "true", Dir: "/lvslab-none"}, {Args: []string{"/etc/passwd"}}, {Shell: "x\x00"}} {
		if out := Run(ctx, f, c); out.Err == nil || out.ExitCode != -1 || !strings.Contains(out.Err.Error(), "node web1") {
			t.Errorf("%+v: %+v", c, out)
		}
	}
	long := strings.Repeat("x", 100<<10)
	if out := Run(ctx, f, Command{Args: []string{"printf", "%s", long}}); string(out.Stdout) != long {
		t.Errorf("long argument: %d bytes, %v", len(out.Stdout), out.Err)
	}
	if out := Run(ctx, f, Command{Args: []string{"echo", long + long}}); !strings.Contains(fmt.Sprint(out.Err), "argument list too long") {
		t.Errorf("too long an argument: %v", out.Err)
	}
}

// The promise of the room: commands of a node see each other's files, and nobody
// else sees them.
func TestRunWritesNothingOutside(t *testing.T) {
	web1, web2 := overlayFiles(t, "web1"), overlayFiles(t, "web2")
	dir := t.TempDir()
	before, _ := os.ReadFile("/etc/motd")
	sh(t, web1, "echo lvslab-was-here >/etc/motd; echo x >"+dir+"/f; rm -rf /home; mkdir -p /home/new; chmod 0 /etc/passwd; hostname other 2>/dev/null || true")
	if got := sh(t, web1, "cat /etc/motd "+dir+"/f; ls /home"); got != "lvslab-was-here\nx\nnew\n" {
		t.Errorf("the next command sees %q", got)
	}
	wantFile(t, web1, "/etc/motd", "lvslab-was-here\n")
	if got := sh(t, web2, "cat /etc/motd 2>/dev/null || true; ls "+dir); got != string(before) {
		t.Errorf("another node sees %q", got)
	}
	if after, _ := os.ReadFile("/etc/motd"); !bytes.Equal(before, after) {
		t.Fatal("the machine's /etc/motd changed")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the machine has %v", left)
	}
	if info, err := os.Stat("/etc/passwd"); err != nil || info.Mode().Perm() == 0 {
		t.Error("the machine's /etc/passwd lost its mode")
	}
}

// What a command must not be able to do although it is root.
func TestRunHasNotTheRights(t *testing.T) {
	f := overlayFiles(t, "web1")
	for _, line := range []string{
		"mount -t tmpfs none /mnt",
		"mount -o remount,rw /proc",
		"umount -l /proc",
		"mknod /x b 254 0",
		"mknod /tmp/x b 254 0",
		"test -e /dev/vda",
		"test -e /dev/kmsg",
		"echo x >/proc/sys/kernel/hostname",
		"sysctl -w kernel.panic=1",
		"echo h >/proc/sysrq-trigger",
		"echo 1 >/sys/kernel/mm/ksm/run",
		"unshare -m true",
		"nsenter -t 1 -m true",
		"ls /proc/1/root/",
		"modprobe dummy",
		"date -s 2000-01-01",
		"reboot -f",
	} {
		out := Run(t.Context(), f, Command{Shell: line})
		if out.Err != nil || out.ExitCode == 0 {
			t.Errorf("%q went well: %+v\n%s", line, out, out.Stdout)
		}
	}
	if got := sh(t, f, "ls -d /proc/[0-9]* | wc -l"); strings.TrimSpace(got) > "5" {
		t.Errorf("it sees %s processes", got)
	}
}

func TestRunEnds(t *testing.T) {
	f := newFiles(t, "web1")
	for name, c := range map[string]struct {
		c    Command
		want func(Output) bool
	}{
		"hangs":                 {Command{Shell: "echo a; sleep 1000"}, func(o Output) bool { return o.TimedOut && string(o.Stdout) == "a\n" }},
		"ignores SIGTERM":       {Command{Shell: "trap '' TERM INT HUP; while :; do sleep 1; done"}, func(o Output) bool { return o.TimedOut }},
		"stops itself":          {Command{Shell: "kill -STOP $$"}, func(o Output) bool { return o.TimedOut }},
		"stays in background":   {Command{Shell: "sleep 1000 & setsid sleep 1000 & echo a"}, func(o Output) bool { return o.ExitCode == 0 && string(o.Stdout) == "a\n" && !o.TimedOut }},
		"floods":                {Command{Shell: "yes"}, func(o Output) bool { return o.Truncated && len(o.Stdout) == DefaultMaxOutput && !o.TimedOut }},
		"floods both":           {Command{Shell: "yes & yes >&2", MaxOutput: 1000}, func(o Output) bool { return o.Truncated && len(o.Stdout)+len(o.Stderr) <= 1000 }},
		"floods from behind":    {Command{Shell: "setsid yes & sleep 1000"}, func(o Output) bool { return o.Truncated }},
		"kills its init":        {Command{Shell: "kill -TERM 1; kill -KILL 1; kill -INT 1; kill -QUIT 1; sleep 0.05; echo a"}, func(o Output) bool { return string(o.Stdout) == "a\n" && o.ExitCode == 0 }},
		"closes its outputs":    {Command{Shell: "exec >&- 2>&-; sleep 1000"}, func(o Output) bool { return o.TimedOut }},
		"leaves many orphans":   {Command{Shell: "for i in $(seq 50); do (sleep 0.01 &) ; done; sleep 0.1; echo a"}, func(o Output) bool { return string(o.Stdout) == "a\n" }},
		"writes exactly enough": {Command{Shell: "printf 12345678", MaxOutput: 8}, func(o Output) bool { return !o.Truncated && string(o.Stdout) == "12345678" && o.ExitCode == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.c.Timeout = 2 * time.Second
			out := Run(t.Context(), f, c.c)
			if out.Err != nil || !c.want(out) || out.Elapsed > 8*time.Second {
				out.Stdout, out.Stderr = out.Stdout[:min(100, len(out.Stdout))], out.Stderr[:min(100, len(out.Stderr))]
				t.Errorf("%+v\n%s%s", out, out.Stdout, out.Stderr)
			}
		})
	}
}

func TestRunForkBomb(t *testing.T) {
	f := newFiles(t, "web1")
	out := Run(t.Context(), f, Command{Shell: "b() { b | b & }; b; sleep 1000", Timeout: 5 * time.Second})
	if out.Elapsed > 15*time.Second || !out.TimedOut && out.Err == nil {
		t.Errorf("%s, timed out %t, %v", out.Elapsed, out.TimedOut, out.Err)
	}
	t.Logf("%s: %v", out.Elapsed, out.Err)
	if got := sh(t, f, "echo fine"); got != "fine\n" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestRunCancelled(t *testing.T) {
	f := newFiles(t, "web1")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if out := Run(ctx, f, Command{Shell: "sleep 1000"}); !errors.Is(out.Err, context.Canceled) || out.Elapsed > 5*time.Second {
		t.Errorf("%+v", out)
	}
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	if out := Run(t.Context(), f, Command{Shell: "sleep 1000"}); !errors.Is(out.Err, errFilesClosed) || out.Elapsed > 5*time.Second {
		t.Errorf("%+v", out)
	}
}

func TestRunAtOnce(t *testing.T) {
	f := overlayFiles(t, "web1")
	done := make(chan string)
	for i := range 8 {
		go func() {
			out := Run(t.Context(), f, Command{Shell: fmt.Sprintf("echo %d >/tmp/%d; cat /tmp/%d", i, i, i)})
			done <- fmt.Sprint(strings.TrimSpace(string(out.Stdout)) == strconv.Itoa(i), out.Err)
		}()
	}
	for range 8 {
		if got := <-done; got != "true <nil>" {
			t.Error(got)
		}
	}
}

// Killed at any moment, the program leaves no process and no file.
func TestRunKilled(t *testing.T) {
	needRoot(t)
	if dir := os.Getenv("LVSLAB_TEST_KILLED"); dir != "" {
		f := newFiles(t, "web1")
		Run(t.Context(), f, Command{Shell: "echo x >/tmp/x; exec sleep " + dir, Timeout: time.Hour})
		return
	}
	before := mountinfo(t)
	for i := range 10 {
		mark := fmt.Sprintf("99%d%d", os.Getpid(), i)
		cmd := exec.Command(os.Args[0], "-test.run=^TestRunKilled$")
		cmd.Env = append(os.Environ(), "LVSLAB_TEST_KILLED="+mark)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // once for sure while the command runs
			await(t, "the command to run", func() bool { return len(processes(t, mark)) > 0 })
		} else {
			time.Sleep(time.Duration(i) * 7 * time.Millisecond)
		}
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		await(t, "its processes to be gone", func() bool { return len(processes(t, mark)) == 0 })
	}
	await(t, "first processes to be gone", func() bool { return len(processes(t, commandArgument)) == 0 })
	if after := mountinfo(t); after != before {
		t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// processes are the machine's whose command line has a word.
func processes(t *testing.T, word string) (pids []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		line, _ := os.ReadFile(d + "/cmdline")
		if bytes.Contains(line, []byte("\x00"+word+"\x00")) {
			pids = append(pids, filepath.Base(d))
		}
	}
	return pids
}

func mountinfo(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The word alone, typed by a person, does nothing.
func TestMainByHand(t *testing.T) {
	out, err := exec.Command(os.Args[0], commandArgument).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte(commandArgument)) {
		t.Errorf("%v: %s", err, out)
	}
}

func BenchmarkRun(b *testing.B) {
	f := newFiles(b, "web1")
	for b.Loop() {
		if out := Run(b.Context(), f, Command{Args: []string{"/bin/true"}}); out.Err != nil {
			b.Fatal(out.Err)
		}
	}
}

func BenchmarkFiles(b *testing.B) {
	ns := newNode(b, "web1")
	for b.Loop() {
		f := NewFiles("web1", ns)
		if _, err := f.ReadFile("/etc/passwd"); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
