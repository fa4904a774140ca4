package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
)

// person is somebody at a terminal.
type person struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd
	mu   sync.Mutex
	seen []byte // what was not looked at yet
}

// atTerminal starts lvslab on a terminal of 100 columns and 30 rows.
func atTerminal(t *testing.T, env []string, args ...string) *person {
	t.Helper()
	p := &person{t: t, cmd: lvslab(t, env, args...)}
	master, err := pty.StartWithSize(p.cmd, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	// A file that blocks is not closed as long as somebody reads it.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.tty = os.NewFile(uintptr(fd), master.Name())
	master.Close()
	t.Cleanup(func() {
		p.tty.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	go func() {
		buf := make([]byte, 4<<10)
		for {
			n, err := p.tty.Read(buf)
			p.mu.Lock()
			p.seen = append(p.seen, buf[:n]...)
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// lvslab is this program as a person starts it.
func lvslab(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("lvslab") // testscript.Main has put it there
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = env
	return cmd
}

// types sends keys.
func (p *person) types(keys string) {
	p.t.Helper()
	if _, err := p.tty.WriteString(keys); err != nil {
		p.t.Fatalf("typing %q: %v", keys, err)
	}
}

// control are what a terminal obeys and nobody reads: CSI and OSC sequences of
// ECMA-48, and the choice of a keypad.
var control = regexp.MustCompile("\x1b\\[[0-9;?<>=]*[a-zA-Z]|\x1b\\][^\a\x1b]*(\a|\x1b\\\\)|\x1b[=>()][0-9AB]?")

// sees waits until what the terminal shows matches, and forgets all up to there.
func (p *person) sees(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		text := control.ReplaceAll(bytes.ReplaceAll(p.seen, []byte("\r"), nil), nil)
		at := re.FindIndex(text)
		if at != nil {
			p.seen = text[at[1]:]
			p.mu.Unlock()
			return string(text[at[0]:at[1]])
		}
		p.mu.Unlock()
		if time.Now().After(deadline) {
			p.t.Fatalf("wanted to see %s, the terminal shows:\n%s", pattern, text)
		}
	}
}

// prompt is that of a shell in a node.
const prompt = `\[root@\S+ \S+\][#$] `

// does types a command and returns what was shown until the next prompt.
func (p *person) does(command string) string {
	p.t.Helper()
	p.types(command + "\r")
	p.sees(regexp.QuoteMeta(lastWords(command)) + `\s*\n`)
	out := p.sees(`(?s)^.*?` + prompt)
	return regexp.MustCompile(prompt+"$").ReplaceAllString(out, "")
}

// waits is a program that runs for long and says when it does: before that a key
// is the shell's. A shell that says it and then turns into sleep would not do: it
// forgets a Ctrl-C that comes between the two.
const waits = "echo beg''in >/tmp/waits; tail -f /tmp/waits"

// lastWords is the end of a command, which is what a terminal shows of it in one
// piece, however it wraps.
func lastWords(command string) string {
	const most = 20
	if len(command) > most {
		return command[len(command)-most:]
	}
	return command
}

// ends waits for the end of the program, and returns its exit status.
func (p *person) ends() int {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(60 * time.Second):
		p.t.Fatal("the program does not end")
		return 0
	}
}

// livingEnv is an environment with folders of its own, in which nothing stays up
// after the test.
func livingEnv(t *testing.T) []string {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if raceEnabled || err != nil {
		if err != nil && os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatalf("LVSLAB_REQUIRE is set, and no guest can be booted: %v", err)
		}
		t.Skip("no guest can be booted")
	}
	state := t.TempDir()
	env := []string{
		"HOME=" + state, "XDG_STATE_HOME=" + state, "PATH=" + os.Getenv("PATH"), "TERM=xterm",
		"LVSLAB_UML=" + k.Image, "LVSLAB_UML_MODULES=" + k.Modules,
	}
	t.Cleanup(func() {
		if out, err := lvslab(t, env, "down", "--all").CombinedOutput(); err != nil {
			t.Errorf("down --all: %v\n%s", err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(state, "lvslab", "labs", "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return env
}

// must runs lvslab and returns what it prints.
func must(t *testing.T, env []string, args ...string) string {
	t.Helper()
	out, err := lvslab(t, env, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("lvslab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestShell sits down at a terminal.
func TestShell(t *testing.T) {
	t.Parallel()
	env := livingEnv(t)
	must(t, env, "up", "dr/sysctl", "--name", "mine", "--kernel", "uml")
	p := atTerminal(t, env, "shell", "mine", "web1")
	p.sees(`\[root@web1 \S+\]# `)
	if out := p.does("hostname; tty; stty size"); !strings.Contains(out, "web1\n/dev/pts/0\n30 100\n") {
		t.Errorf("the terminal: %q", out)
	}
	if _, err := exec.LookPath("ps"); err == nil {
		if out := p.does("ps aux"); !strings.Contains(out, " ps aux\n") {
			t.Errorf("the processes: %q", out)
		}
	}
	if err := pty.Setsize(p.tty, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	p.types("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo resi''zed\r")
	p.sees("resized\n")
	p.sees(prompt)

	// Ctrl-C is the program's.
	p.types(waits + "\r")
	p.sees("begin\n")
	p.types("\x03")
	p.sees(prompt)
	if out := p.does("echo status $?"); !strings.Contains(out, "status 130\n") {
		t.Errorf("after Ctrl-C: %q", out)
	}
	// Job control.
	p.types(waits + "\r")
	p.sees("begin\n")
	p.types("\x1a")
	p.sees("Stopped")
	p.sees(prompt)
	p.does("bg; kill %1; wait")

	t.Run("editor", func(t *testing.T) {
		editor := "vim.tiny" // Debian's vim-tiny
		if _, err := exec.LookPath(editor); err != nil {
			editor = "vim"
		}
		if _, err := exec.LookPath(editor); err != nil {
			if os.Getenv("LVSLAB_REQUIRE") != "" {
				t.Fatal("LVSLAB_REQUIRE is set, and vim is not installed")
			}
			t.Skip("vim is not installed")
		}
		file := fmt.Sprintf("/var/tmp/lvslab-shell-%d", os.Getpid())
		p.types(editor + " -u NONE " + file + "\r")
		p.sees(`~\n|~ +~|\[New|0,0-1`)
		p.types("ihello from web1\x1b:wq\r")
		p.sees(`written`)
		p.sees(prompt)
		if out := p.does("cat " + file); !strings.Contains(out, "hello from web1\n") {
			t.Errorf("the file: %q", out)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s reached the machine's files", file)
		}
	})

	p.types(waits + "\r")
	p.sees("begin\n")
	p.types("\x03")
	p.sees(prompt)
	p.types("exit\r")
	if status := p.ends(); status != 130 {
		t.Errorf("the shell ended with %d, wanted 130", status)
	}

	// A terminal that is closed in the middle of a shell, and a shell that is left
	// the other way.
	closed := atTerminal(t, env, "shell", "mine", "web1")
	closed.sees(prompt)
	closed.tty.Close()
	closed.ends()
	left := atTerminal(t, env, "shell", "mine", "web1")
	left.sees(prompt)
	left.types("\r~.")
	left.ends()
	staysUp(t, env, "mine")
}

// TestExecStreams is exec as ssh would do it.
func TestExecStreams(t *testing.T) {
	t.Parallel()
	env := livingEnv(t)
	must(t, env, "up", "dr/sysctl", "--name", "mine", "--kernel", "uml")
	cmd := lvslab(t, env, "exec", "mine", "client", "--", "sh", "-c", "cat; echo bad >&2; exit 7")
	var out, errw bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.LimitReader(zeros{}, 1<<20), &out, &errw
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 || out.Len() != 1<<20 || errw.String() != "bad\n" {
		t.Errorf("%v, %d bytes, %q", err, out.Len(), errw.String())
	}
	for _, c := range []struct {
		args []string
		exit int
	}{
		{[]string{"true"}, 0},
		{[]string{"--", "sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"no-such-program"}, 127},
		{[]string{"/etc/passwd"}, 126},
	} {
		cmd := lvslab(t, env, append([]string{"exec", "mine", "client"}, c.args...)...)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != c.exit {
			t.Errorf("%v: exit status %d, wanted %d\n%s", c.args, cmd.ProcessState.ExitCode(), c.exit, out)
		}
	}
	// Ctrl-C at lvslab is the program's, which may do with it as it likes.
	cmd = lvslab(t, env, "exec", "mine", "client", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(stdout)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 || string(said) != "caught\n" {
		t.Errorf("interrupted: %v, %q", err, said)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
