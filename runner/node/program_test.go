package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// session is a program under test whose output is kept as it comes.
type session struct {
	*Process
	t   *testing.T
	all sync.WaitGroup

	mu       sync.Mutex
	out, err bytes.Buffer
}

func begin(t *testing.T, f *Files, p Program) *session {
	t.Helper()
	proc, err := Start(f, p)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Process: proc, t: t}
	keep := func(to *bytes.Buffer, from io.Reader) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			s.mu.Lock()
			to.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}
	s.all.Go(func() { keep(&s.out, proc.Stdout) })
	if proc.Stderr != nil {
		s.all.Go(func() { keep(&s.err, proc.Stderr) })
	}
	t.Cleanup(proc.Kill)
	return s
}

func line(f *Files, t *testing.T, text string) *session {
	t.Helper()
	return begin(t, f, Program{Args: []string{"sh", "-c", text}})
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// expect waits for a text in the output.
func (s *session) expect(text string) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(s.text(), text); {
		if time.Now().After(end) {
			s.t.Fatalf("no %q in the output:\n%q", text, s.text())
		}
		time.Sleep(time.Millisecond)
	}
}

// say types a line after what was written so far is forgotten.
func (s *session) say(text string) {
	s.t.Helper()
	s.mu.Lock()
	s.out.Reset()
	s.mu.Unlock()
	if _, err := io.WriteString(s.Stdin, text); err != nil {
		s.t.Fatalf("type %q: %v", text, err)
	}
}

// finish waits for the program and for the end of its outputs.
func (s *session) finish() Ended {
	s.t.Helper()
	ended, err := s.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	s.all.Wait()
	return ended
}

func (s *session) wantEnd(want Ended) {
	s.t.Helper()
	if got := s.finish(); got != want {
		s.t.Errorf("it ended with %+v, wanted %+v; it wrote %q and %q", got, want, s.out.String(), s.err.String())
	}
}

func TestProgram(t *testing.T) {
	f := overlayFiles(t, "web1")
	s := line(f, t, "cat; echo err >&2; exit 3")
	s.say("in\n")
	s.expect("in\n")
	s.Stdin.Close()
	s.wantEnd(Ended{Code: 3})
	if s.out.String() != "in\n" || s.err.String() != "err\n" {
		t.Errorf("%q, %q", s.out.String(), s.err.String())
	}
	line(f, t, "kill -SEGV $$").wantEnd(Ended{Code: 139, Signal: "SEGV"})
	if err := s.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal for what has ended: %v", err)
	}

	s = begin(t, f, Program{Args: []string{"sh", "-c", "pwd; hostname; whoami; echo $LVSLAB_NODE $HOME $USER $TERM $FOO; umask; env | grep -c LVSLAB_TEST; cat /proc/1/comm"}, Env: []string{"FOO=bar"}, Dir: "/etc", Term: "xterm"})
	s.wantEnd(Ended{})
	if got := s.out.String(); got != "/etc\nweb1\nroot\nweb1 /root root xterm bar\n0022\n0\ninit\n" {
		t.Errorf("surroundings: %q", got)
	}
	long := strings.Repeat("x", 100<<10)
	s = begin(t, f, Program{Args: []string{"printf", "%s", long}})
	if s.wantEnd(Ended{}); s.out.String() != long {
		t.Errorf("a long argument: %d bytes", s.out.Len())
	}
}

func TestProgramNotThere(t *testing.T) {
	f := overlayFiles(t, "web1")
	write(t, f, "/opt/plain", "#!/bin/sh\n")
	var missing *NotFoundError
	var denied *NotExecutableError
	for _, name := range []string{"lvslab-none", "/opt/none", "./none", "", strings.Repeat("x", 100<<10)} {
		if _, err := Start(f, Program{Args: []string{name}}); !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.20q: %.100v", name, err)
		}
	}
	for _, name := range []string{"/opt/plain", "/etc", "../opt/plain"} {
		if _, err := Start(f, Program{Args: []string{name}, Dir: "/opt"}); !errors.As(err, &denied) || !strings.Contains(err.Error(), "web1") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Start(f, Program{Args: []string{"echo", strings.Repeat("x", 200<<10)}}); !errors.As(err, &denied) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("too long an argument: %.100v", err)
	}
	for _, p := range []Program{{}, {Args: []string{"true"}, Dir: "/none"}, {Args: []string{"true"}, Dir: "/etc/passwd"}} {
		if _, err := Start(f, p); err == nil || errors.As(err, &missing) && len(p.Args) == 0 {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// What a program must not be able to do although it is root.
func TestProgramHasNotTheRights(t *testing.T) {
	f := overlayFiles(t, "web1")
	for _, text := range []string{
		"mount -t tmpfs none /mnt", "umount -l /proc", "mknod /x b 254 0", "test -e /dev/console", "sysctl -w kernel.panic=1",
		"nsenter -t 1 -m true", "ls /proc/1/root/", "readlink /proc/1/fd/3", "head -c 1 </proc/1/fd/2", "cat /proc/1/mem", "kill -STOP 1; grep 'T (stopped)' /proc/1/status", "unshare -m true", "date -s 2000-01-01",
	} {
		s := line(f, t, text)
		if got := s.finish(); got.Code == 0 {
			t.Errorf("%q went well: %s", text, s.out.String())
		}
	}
	s := line(f, t, "grep CapBnd /proc/self/status; ls /proc/self/fd")
	s.wantEnd(Ended{})
	run := Run(t.Context(), f, Command{Shell: "grep CapBnd /proc/self/status"})
	if bound, rest, _ := strings.Cut(s.out.String(), "\n"); bound+"\n" != string(run.Stdout) || rest != "0\n1\n2\n3\n" {
		t.Errorf("rights or descriptors: %q, those of Run: %q", s.out.String(), run.Stdout)
	}
}

func TestProgramSignals(t *testing.T) {
	f := newFiles(t, "web1")
	s := line(f, t, "trap 'echo term; exit 4' TERM; sleep 1000 & echo $!; wait")
	s.expect("\n")
	if err := s.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wantEnd(Ended{Code: 4})
	// The signal is for the whole group.
	s = line(f, t, "sh -c 'sleep 1001'; echo $?; exit 5")
	// Before it is sleep, it is a shell, which forgets a SIGINT when it turns into one.
	line(f, t, "until pgrep -f '^sleep 1001'; do sleep 0.01; done").finish()
	_ = s.Signal(unix.SIGINT)
	s.wantEnd(Ended{Code: 130, Signal: "INT"})
	// Init takes them all and stays.
	line(f, t, `for s in $(seq 1 64); do kill -$s 1 2>/dev/null; done; echo ok`).wantEnd(Ended{})
	line(f, t, "kill -KILL 1; sleep 0.05").wantEnd(Ended{})
	if err := s.Signal(0); err == nil {
		t.Error("signal 0 went well")
	}
}

// A node is one machine: what one program leaves another one sees and can end.
func TestProgramsSeeEachOther(t *testing.T) {
	f := overlayFiles(t, "web1")
	s := line(f, t, "setsid sleep 4321 >/dev/null 2>&1 & echo started")
	s.wantEnd(Ended{})
	s = line(f, t, "ps ax | grep '[s]leep 4321'; pkill -f '[s]leep 4321'; while pgrep -f '[s]leep 4321'; do sleep 0.01; done; ps -o pid= -p 1")
	s.wantEnd(Ended{})
	if !strings.Contains(s.out.String(), "sleep 4321") || !strings.HasSuffix(s.out.String(), " 1\n") {
		t.Errorf("%q", s.out.String())
	}
	// One that keeps the output does not keep the caller, and may write on.
	s = line(f, t, "(while echo x >>/tmp/log && echo x; do sleep 0.02; done) & echo started")
	s.wantEnd(Ended{})
	line(f, t, "n=$(wc -l </tmp/log); while [ $(wc -l </tmp/log) -lt $((n+5)) ]; do sleep 0.01; done").wantEnd(Ended{})
	// Another node's programs are not there, and Run's are not either.
	line(newFiles(t, "web2"), t, "pgrep sleep").wantEnd(Ended{Code: 1})
}

func TestProgramSeesMounts(t *testing.T) {
	f := newFiles(t, "web1")
	s := line(f, t, "echo ready; read x; cat /mnt/hello; ls /mnt")
	s.expect("ready")
	v, done, err := f.use()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	v.do(func() { err = unix.Mount("lvslab", treePath+"/mnt", "tmpfs", 0, "") })
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, "/mnt/hello", "hello\n")
	s.say("\n")
	s.expect("hello\nhello\n")
	s.wantEnd(Ended{})
}

func TestProgramsAtOnce(t *testing.T) {
	f := newFiles(t, "web1")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			s := line(f, t, fmt.Sprintf("read x; echo $x; exit %d", i))
			s.say(fmt.Sprintln(i))
			if got := s.finish(); got.Code != i || s.out.String() != fmt.Sprintln(i) {
				t.Errorf("%d: %+v, %q", i, got, s.out.String())
			}
		})
	}
	all.Wait()
}

// Nobody reads ahead of the caller.
func TestProgramIsHeldBack(t *testing.T) {
	f := newFiles(t, "web1")
	p, err := Start(f, Program{Args: []string{"sh", "-c", "head -c 3000000 /dev/zero; touch /tmp/done"}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(p.Stdout, make([]byte, 100000)); err != nil {
		t.Fatal(n, err)
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := f.Stat("/tmp/done"); err == nil {
		t.Error("all of it was written, and nobody had read it")
	}
	rest, err := io.ReadAll(p.Stdout)
	if err != nil || len(rest) != 2900000 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if ended, err := p.Wait(); err != nil || ended != (Ended{}) {
		t.Error(ended, err)
	}
	// What was written before the end can be read long after it.
	p, err = Start(f, Program{Args: []string{"head", "-c", "60000", "/dev/zero"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	time.Sleep(2 * quiet)
	if rest, err := io.ReadAll(p.Stdout); err != nil || len(rest) != 60000 {
		t.Errorf("late: %d bytes, %v", len(rest), err)
	}
	p.Close()
	// A flood that was left behind has an end for the caller.
	s := line(f, t, "yes &")
	s.wantEnd(Ended{})
	line(f, t, "for n in $(seq 1000); do pkill yes && exit; sleep 0.02; done; exit 1").wantEnd(Ended{})
}

func TestProgramKill(t *testing.T) {
	f := newFiles(t, "web1")
	s := line(f, t, "trap '' TERM INT HUP; (setsid sleep 1234; true) & (sleep 2345; true) & echo ready; while :; do sleep 1; done")
	s.expect("ready")
	s.Kill()
	s.wantEnd(Ended{Code: 137, Signal: "KILL"})
	line(f, t, "while pgrep -f 'sleep (1234|2345)'; do sleep 0.01; done").wantEnd(Ended{})
	s.Kill()

	s = line(f, t, "echo ready; sleep 1000")
	s.expect("ready")
	time.AfterFunc(10*time.Millisecond, func() { f.Close() })
	if ended, err := s.Wait(); !errors.Is(err, errFilesClosed) || ended.Code == 0 {
		t.Errorf("Close: %+v, %v", ended, err)
	}
	s.all.Wait()
	if _, err := Start(f, Program{Args: []string{"true"}}); !errors.Is(err, errFilesClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestProgramInitKilled(t *testing.T) {
	f := newFiles(t, "web1")
	s := line(f, t, "echo ready; sleep 1000")
	s.expect("ready")
	s.in.process.Kill()
	if _, err := s.Wait(); err == nil {
		t.Error("nothing was said")
	}
	line(f, t, "true").wantEnd(Ended{})
}

func TestProgramForkBomb(t *testing.T) {
	f := newFiles(t, "web1")
	other := line(f, t, "echo ready; read x; echo $x")
	other.expect("ready")
	for name, bomb := range map[string]Program{
		"plain":     {Args: []string{"sh", "-c", "b() { b | b & }; b; sleep 1000"}, Limit: 64},
		"terminal":  {Args: []string{"bash", "-c", "b() { b | b & }; b; sleep 1000"}, TTY: true},
		"daemonize": {Args: []string{"sh", "-c", `echo 'setsid sh /tmp/b & setsid sh /tmp/b & sleep 1000' >/tmp/b; sh /tmp/b`}, Limit: 64},
	} {
		s := begin(t, f, bomb)
		ended := s.finish()
		if got := s.out.String() + s.err.String(); ended.Signal != "KILL" || !strings.Contains(got, "processes at once") {
			t.Errorf("%s: %+v, %.500q", name, ended, got)
		}
	}
	other.say("alive\n")
	other.expect("alive")
	other.wantEnd(Ended{})
}

// After many programs there is as much of everything as before.
func TestProgramLeavesNothing(t *testing.T) {
	f := newFiles(t, "web1")
	once := func(tty bool) {
		s := begin(t, f, Program{Args: []string{"true"}, TTY: tty})
		s.Stdin.Close()
		s.wantEnd(Ended{})
	}
	once(true)
	in := f.programs.init
	count := func(pid int, what string) int {
		names, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, what))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	here, fds, theirs := runtime.NumGoroutine(), count(os.Getpid(), "fd"), count(in.process.Pid, "fd")
	for i := range 200 {
		once(i%4 == 0)
	}
	await(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= here })
	await(t, fmt.Sprintf("no more than the %d descriptors of before", fds), func() bool { return count(os.Getpid(), "fd") <= fds })
	await(t, fmt.Sprintf("no more than the %d descriptors that init had before", theirs), func() bool { return count(in.process.Pid, "fd") <= theirs })
	if got := count(in.process.Pid, "task"); got > 20 {
		t.Errorf("init has %d threads", got)
	}
}

// Killed at any moment, the process leaves nothing of the node's programs.
func TestProgramKilledWithUs(t *testing.T) {
	needRoot(t)
	if mark := os.Getenv("LVSLAB_TEST_PROGRAM"); mark != "" {
		f := newFiles(t, "web1")
		for i := range 2 {
			line(f, t, "setsid sleep "+mark+" & sleep "+mark).say(fmt.Sprint(i))
		}
		select {}
	}
	before := mountinfo(t)
	for i := range 6 {
		mark := fmt.Sprintf("88%d%d", os.Getpid(), i)
		cmd := exec.Command(os.Args[0], "-test.run=^TestProgramKilledWithUs$")
		cmd.Env = append(os.Environ(), "LVSLAB_TEST_PROGRAM="+mark)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			await(t, "the programs to run", func() bool { return len(processes(t, mark)) >= 4 })
		} else {
			time.Sleep(time.Duration(i) * 15 * time.Millisecond)
		}
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		await(t, "its programs to be gone", func() bool { return len(processes(t, mark)) == 0 })
	}
	await(t, "inits to be gone", func() bool {
		for _, pid := range processes(t, initArgument) {
			if stat, _ := os.ReadFile(filepath.Join("/proc", pid, "status")); bytes.Contains(stat, []byte("PPid:\t1\n")) {
				return false
			}
		}
		return true
	})
	if after := mountinfo(t); after != before {
		t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
	}
}

func BenchmarkProgram(b *testing.B) {
	f := newFiles(b, "web1")
	for b.Loop() {
		p, err := Start(f, Program{Args: []string{"/bin/true"}})
		if err != nil {
			b.Fatal(err)
		}
		p.Stdin.Close()
		if _, err := p.Wait(); err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}

// What BenchmarkProgram is measured against.
func BenchmarkForkExec(b *testing.B) {
	for b.Loop() {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func TestParseStat(t *testing.T) {
	p, alive := parseStat([]byte("17 (a) b) (c) S 4 17 9 0 -1\n"))
	if want := (process{17, 4, 9}); p != want || !alive {
		t.Errorf("%+v, %t", p, alive)
	}
	for _, bad := range []string{"", "17", "17 (x", "17 (x) Z 1 2 3 4", "x (x) S 1 2 3"} {
		if p, alive := parseStat([]byte(bad)); alive {
			t.Errorf("%q: %+v", bad, p)
		}
	}
	all := []process{{2, 1, 2}, {3, 2, 2}, {4, 3, 4}, {5, 1, 5}}
	if got := membersOf(all, 2); len(got) != 3 {
		t.Errorf("members: %v", got)
	}
	if got := strangers(all, []*started{{pid: 2}}); len(got) != 1 || got[0] != 5 {
		t.Errorf("strangers: %v", got)
	}
}
