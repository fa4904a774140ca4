package node

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console starts a node's interactive shell on a terminal and waits for its
// prompt.
func console(t *testing.T, f *Files) *session {
	t.Helper()
	s := begin(t, f, Program{Args: Shell(f, f.name), TTY: true, Term: "xterm", Rows: 30, Cols: 90})
	s.expect("[root@web1 ~]# ")
	return s
}

// do types a command and waits for its answer and the next prompt.
func (s *session) do(command, answer string) {
	s.t.Helper()
	s.say(command + "\n")
	s.expect(answer)
	s.expect("]# ")
}

func TestShell(t *testing.T) {
	f := overlayFiles(t, "web1")
	s := console(t, f)
	s.do("tty", "/dev/pts/0\r\n")
	s.do("stty size", "30 90\r\n")
	if err := s.Resize(40, 120); err != nil {
		t.Fatal(err)
	}
	s.do("stty size", "40 120\r\n")
	s.do("echo $COLUMNS", "120\r\n")
	s.do("ps t", "bash")
	s.do("cd /etc", "[root@web1 etc]# ")
	s.do("echo $TERM $SHELL; test -e /dev/console || echo none", "xterm /bin/bash\r\nnone\r\n")
	s.do("echo hi >/dev/tty; ls -l /dev/ptmx", "hi\r\n")

	// Ctrl-C and Ctrl-Z reach the program, and jobs can be taken up again.
	s.say("sleep 1000\n")
	line(f, t, "until pgrep -f '[s]leep 1000'; do sleep 0.01; done").finish()
	s.say("\x03")
	s.expect("]# ")
	s.do("echo $?", "130\r\n")
	s.say("sleep 2000\n")
	line(f, t, "until pgrep -f '[s]leep 2000'; do sleep 0.01; done").finish()
	s.say("\x1a")
	s.expect("Stopped")
	s.say("fg\n")
	line(f, t, "until ps ax -o stat=,args= | grep 'S+ *[s]leep 2000'; do sleep 0.01; done").finish()
	if err := s.Signal(unix.SIGINT); err != nil { // who is in the foreground, not the shell
		t.Fatal(err)
	}
	s.expect("]# ")
	s.say("sleep 3000\n")
	line(f, t, "until pgrep -f '[s]leep 3000'; do sleep 0.01; done").finish()
	s.say("\x03")
	s.expect("]# ")
	s.say("exit\n")
	s.wantEnd(Ended{Code: 130})

	s = console(t, f)
	s.say("exit 3\n")
	s.wantEnd(Ended{Code: 3})
	s = console(t, f)
	s.say("\x1b[A") // the other shell's history
	s.expect("exit 3")
	s.say("\r")
	s.wantEnd(Ended{Code: 3})
}

func TestTerminalOtherShell(t *testing.T) {
	f := overlayFiles(t, "web1")
	if err := f.Remove(bashShell); err != nil {
		t.Skip(err)
	}
	s := begin(t, f, Program{Args: Shell(f, "web1"), TTY: true})
	s.expect("[root@web1 /root]# ")
	s.say("exit 3\n")
	s.wantEnd(Ended{Code: 3})
}

// What has the end of its input typed reads by lines.
func TestTerminalEndOfInput(t *testing.T) {
	f := newFiles(t, "web1")
	s := begin(t, f, Program{Args: []string{"cat"}, TTY: true})
	s.say("x\n")
	s.expect("x\r\nx\r\n")
	s.Stdin.Close()
	s.wantEnd(Ended{})
	s = begin(t, f, Program{Args: []string{"sh", "-c", "stty raw; echo ready; head -c 1 | od -c"}, TTY: true})
	s.expect("ready")
	s.Stdin.Close()
	s.say("y")
	s.wantEnd(Ended{})
	if !strings.Contains(s.text(), "y") {
		t.Errorf("%q", s.text())
	}
}

// A terminal that is closed hangs up; what was told to stay stays.
func TestTerminalHangsUp(t *testing.T) {
	f := newFiles(t, "web1")
	s := console(t, f)
	s.say("nohup sleep 4000 >/dev/null 2>&1 &\n")
	s.expect("]# ")
	s.say("sleep 5000\n")
	line(f, t, "until pgrep -f '^sleep 4000' && pgrep -f '^sleep 5000'; do sleep 0.01; done").finish() // nohup has done its part
	s.Close()
	if ended, err := s.Wait(); err != nil || ended == (Ended{}) {
		t.Errorf("%+v, %v", ended, err)
	}
	line(f, t, "while pgrep -f '[s]leep 5000'; do sleep 0.01; done; pkill -f '[s]leep 4000'").wantEnd(Ended{})

	// What holds the terminal when the shell has ended does not hold it up.
	s = console(t, f)
	s.say("sleep 6000 &\nexit\n")
	s.wantEnd(Ended{})
}

func TestTerminalPrograms(t *testing.T) {
	f := overlayFiles(t, "web1")
	write(t, f, "/root/long", strings.Repeat("a line\n", 200))
	s := console(t, f)
	for _, c := range []struct{ program, start, sees, keys string }{
		{"vim", "vim -u NONE -N /tmp/file", "~", "ihello\x1b:wq\r"},
		{"less", "less /root/long", "a line", "q"},
		{"top", "top", "PID", "q"},
		{"script", "script -q -c 'echo in; tty' /dev/null", "/dev/pts/", ""},
		{"tmux", "tmux -f /dev/null new-session 'echo $TMUX; read x'", "/tmp/tmux", "\r"},
	} {
		if _, err := exec.LookPath(c.program); err != nil {
			t.Logf("%s is not installed: left out", c.program)
			continue
		}
		s.say(c.start + "; echo back=$?\n")
		s.expect(c.sees)
		if c.keys != "" {
			await(t, c.program+" to draw its screen", quietFor(s, 150*time.Millisecond))
			s.say(c.keys)
		}
		s.expect("back=0")
		await(t, "a prompt", quietFor(s, 20*time.Millisecond))
	}
	if _, err := exec.LookPath("vim"); err == nil {
		wantFile(t, f, "/tmp/file", "hello\n")
	}
	s.say("exit\n")
	s.finish()
}

// quietFor says whether nothing was written for a while.
func quietFor(s *session, d time.Duration) func() bool {
	last, since := -1, time.Now()
	return func() bool {
		if n := len(s.text()); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > d
	}
}

func TestTerminalsAreTheNodesOwn(t *testing.T) {
	web1, web2 := newFiles(t, "web1"), newFiles(t, "web2")
	for i := range 3 {
		s := begin(t, web1, Program{Args: []string{"sh", "-c", "tty; read x"}, TTY: true})
		s.expect(fmt.Sprintf("/dev/pts/%d\r\n", i))
	}
	s := begin(t, web2, Program{Args: []string{"sh", "-c", "tty; ls /dev/pts"}, TTY: true})
	s.wantEnd(Ended{})
	if got := strings.Fields(s.text()); len(got) != 3 || got[0] != "/dev/pts/0" {
		t.Errorf("%q", got)
	}
}
