package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/keeper"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// A keeper of these tests is this test program, with kernels that are none.
func TestMain(m *testing.M) {
	if keeper.Asked() {
		os.Exit(keeper.Main(func(string, io.Writer) ([]runner.Backend, error) { return []runner.Backend{backend{}}, nil }))
	}
	os.Exit(m.Run())
}

// backend is a kernel that does what the lab's name says.
type backend struct{}

func (backend) Name() string { return "none" }
func (backend) Can(context.Context, []topology.Feature) runner.Answer {
	return runner.Answer{Verdict: runner.Yes}
}

func (backend) Boot(context.Context) (runner.Session, error) {
	return &session{ended: make(chan struct{})}, nil
}

type session struct {
	ended chan struct{}
	stuck bool
}

func (*session) Run(context.Context, wire.Job, func(wire.Event)) error { return errors.New("no") }
func (*session) Kernel() string                                        { return "Linux 0.0 (none)" }
func (s *session) Ended() <-chan struct{}                              { return s.ended }
func (*session) Err() error                                            { return errors.New("the guest panicked") }

func (s *session) Close() error {
	if s.stuck {
		select {}
	}
	return nil
}

func (s *session) Up(ctx context.Context, job wire.Job) (live.Lab, error) {
	switch job.Labs[0] {
	case "refused":
		return nil, errors.New("this kernel lacks ip_vs")
	case "slow":
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case "crash":
		fmt.Fprintln(os.Stderr, "fatal: all is lost")
		os.Exit(2)
	case "dies":
		time.AfterFunc(50*time.Millisecond, func() { close(s.ended) })
	case "stuck":
		s.stuck = true
	}
	return lab{job.Labs[0]}, nil
}

type lab struct{ name string }

func (l lab) Exec(_ context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	if l.name == "dies" {
		return live.Exit{}, live.ErrGone
	}
	_, err := io.Copy(s.Stdout, s.Stdin)
	return live.Exit{Code: len(e.Args)}, err
}

func (l lab) Status(ctx context.Context) (*live.Status, error) {
	if l.name == "silent" {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return &live.Status{Lab: l.name, Nodes: []string{"client"}}, nil
}

func (lab) Inspect(context.Context) (*live.Inspection, error)       { return &live.Inspection{}, nil }
func (lab) Logs(context.Context, live.Logs, io.Writer) error        { return nil }
func (lab) Apply(context.Context, live.Apply) (*live.Change, error) { return &live.Change{}, nil }
func (lab) Run(context.Context, live.Run, func(wire.Event)) error   { return nil }
func (lab) Capture(context.Context, live.Capture, io.Writer) error  { return nil }
func (lab) Fault(context.Context, live.Fault) (*live.Change, error) { return &live.Change{}, nil }

func (lab) Heal(context.Context, live.Heal) (*live.Change, error) { return &live.Change{}, nil }

// home is an environment with a state folder of its own.
func home(t *testing.T) (env keeper.Env, root string) {
	t.Helper()
	state := t.TempDir()
	env = func(name string) string {
		if name == "XDG_STATE_HOME" {
			return state
		}
		return ""
	}
	t.Cleanup(func() {
		for _, name := range keeper.Names(env) {
			if err := keeper.Down(context.Background(), env, name); err != nil {
				t.Error(err)
			}
		}
	})
	return env, filepath.Join(state, "lvslab", "labs")
}

func up(t *testing.T, env keeper.Env, name, what string) live.Info {
	t.Helper()
	info, err := keeper.Up(t.Context(), env, request(name, what))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func request(name, what string) keeper.Request {
	return keeper.Request{Name: name, File: "/my.yaml", Backend: "none", Job: wire.Job{Version: wire.Version, Labs: []string{what}}}
}

// gone waits for a process to end, with all of its threads: the first may be a
// zombie while others still hold the lock and the socket.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) || zombie(pid) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

func zombie(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || len(threads) <= 1 && strings.Contains(string(stat), ") Z ")
}

func TestUpAndDown(t *testing.T) {
	env, root := home(t)
	info := up(t, env, "dr/arptables", "dr/arptables")
	if info.Kernel != "Linux 0.0 (none)" || info.Ready.IsZero() || info.Pid == os.Getpid() {
		t.Errorf("info %+v", info)
	}
	var already *keeper.UpError
	if _, err := keeper.Up(t.Context(), env, request("dr/arptables", "x")); !errors.As(err, &already) || already.Coming {
		t.Errorf("up twice: %v", err)
	}
	up(t, env, "second", "dr/arptables") // the same lab, another name

	c, got, err := keeper.Connect(t.Context(), env, "dr/arptables")
	if err != nil || got.Pid != info.Pid {
		t.Fatalf("Connect: %+v, %v", got, err)
	}
	var out strings.Builder
	exit, err := c.Exec(t.Context(), live.Exec{Args: []string{"cat", "-"}}, live.Streams{Stdin: strings.NewReader("hello"), Stdout: &out})
	if err != nil || exit.Code != 2 || out.String() != "hello" {
		t.Errorf("Exec: %+v %q %v", exit, out.String(), err)
	}
	c.Close()

	list := keeper.List(t.Context(), env)
	if len(list) != 2 || list[0].Err != nil || list[0].Status == nil || list[0].Info.Name != "dr/arptables" || list[1].Info.Name != "second" {
		t.Errorf("List: %+v", list)
	}
	if err := keeper.Down(t.Context(), env, "dr/arptables"); err != nil {
		t.Fatal(err)
	}
	gone(t, info.Pid)
	if left, _ := os.ReadDir(root); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	var none *keeper.NotUpError
	if err := keeper.Down(t.Context(), env, "dr/arptables"); !errors.As(err, &none) || err.Error() != "lab dr/arptables is not up; up are: second" {
		t.Errorf("down twice: %v", err)
	}
}

// TestPrivate shows that nobody else can enter.
func TestPrivate(t *testing.T) {
	unix.Umask(0)
	defer unix.Umask(0o022)
	env, root := home(t)
	up(t, env, "a/b", "x")
	for name, want := range map[string]os.FileMode{
		filepath.Dir(root): 0o700, root: 0o700, filepath.Join(root, "a~b"): 0o700,
		filepath.Join(root, "a~b", "socket"): 0o600, filepath.Join(root, "a~b", "lab.json"): 0o600, filepath.Join(root, "a~b", "log"): 0o600,
	} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, wanted %v", name, info.Mode(), err, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("to be another user needs root")
	}
	nobody := exec.Command("sh", "-c", "ls "+root)
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := nobody.CombinedOutput(); err == nil {
		t.Errorf("another user sees %s", out)
	}
}

func TestFailedUp(t *testing.T) {
	env, root := home(t)
	for what, want := range map[string]string{
		"refused": "this kernel lacks ip_vs",
		"crash":   "the lab's keeper ended before the lab was up: exit status 2\nfatal: all is lost",
	} {
		if _, err := keeper.Up(t.Context(), env, request(what, what)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Ctrl-C while it comes up.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	go func() {
		for len(keeper.Names(env)) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(why)
	}()
	if _, err := keeper.Up(ctx, env, request("slow", "slow")); !errors.Is(err, why) {
		t.Errorf("interrupted: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestKilled shows a lab whose keeper was killed, and one whose machine was
// started anew: it is told, taken away, and in nobody's way.
func TestKilled(t *testing.T) {
	env, root := home(t)
	info := up(t, env, "lab", "lab")
	if err := unix.Kill(info.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, info.Pid)
	var dead *keeper.DeadError
	if list := keeper.List(t.Context(), env); len(list) != 1 || !errors.As(list[0].Err, &dead) {
		t.Errorf("List: %+v", list)
	}
	if _, _, err := keeper.Connect(t.Context(), env, "lab"); !errors.As(err, &dead) {
		t.Errorf("Connect: %v", err)
	}
	up(t, env, "lab", "lab")
	if err := keeper.Down(t.Context(), env, "lab"); err != nil {
		t.Error(err)
	}
	// A folder in which another process has the number of the keeper.
	if err := os.MkdirAll(filepath.Join(root, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"version":1,"name":"old","pid":%d,"ready":"2026-01-01T00:00:00Z"}`, os.Getpid())
	if err := os.WriteFile(filepath.Join(root, "old", "lab.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Down(t.Context(), env, "old"); err != nil {
		t.Error(err)
	}
}

// TestDeadKernel shows that the end of a lab's kernel is told, with its reason.
func TestDeadKernel(t *testing.T) {
	env, _ := home(t)
	up(t, env, "dies", "dies")
	c, _, err := keeper.Connect(t.Context(), env, "dies")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Exec(t.Context(), live.Exec{}, live.Streams{})
	if err == nil || !strings.Contains(err.Error(), "the lab is dead: the guest panicked\ntake it down: lvslab down dies") {
		t.Errorf("Exec: %v", err)
	}
	if list := keeper.List(t.Context(), env); len(list) != 1 || list[0].Info.Dead != "the guest panicked" {
		t.Errorf("List: %+v", list)
	}
}

// TestHangs shows a lab that does not answer, and a keeper that does not end when
// it is stopped: it is killed.
func TestHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a keeper is given")
	}
	env, _ := home(t)
	up(t, env, "silent", "silent")
	info := up(t, env, "stopped", "stopped")
	if err := unix.Kill(info.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, e := range keeper.List(t.Context(), env) {
		if e.Err == nil {
			t.Errorf("%s: %+v", e.Info.Name, e)
		}
	}
	if err := keeper.Down(t.Context(), env, "stopped"); err != nil {
		t.Error(err)
	}
	gone(t, info.Pid)
}

// TestLongFolder shows that a socket's name is short enough wherever the folder
// is (unix(7)).
func TestLongFolder(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	env := func(name string) string {
		if name == "XDG_STATE_HOME" {
			return deep
		}
		return ""
	}
	up(t, env, "lab", "lab")
	if err := keeper.Down(t.Context(), env, "lab"); err != nil {
		t.Error(err)
	}
}

// TestPlaces shows where labs' folders go, and that a folder of somebody else's
// is not taken.
func TestPlaces(t *testing.T) {
	runtime := t.TempDir()
	env := func(name string) string {
		return map[string]string{"XDG_STATE_HOME": "/proc/nowhere", "XDG_RUNTIME_DIR": runtime}[name]
	}
	up(t, env, "lab", "lab")
	if _, err := os.Stat(filepath.Join(runtime, "lvslab", "labs", "lab", "socket")); err != nil {
		t.Error(err)
	}
	if err := keeper.Down(t.Context(), env, "lab"); err != nil {
		t.Error(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("to give a folder away needs root")
	}
	theirs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(theirs, "lvslab", "labs"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(theirs, "lvslab"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	env = func(name string) string {
		return map[string]string{"XDG_STATE_HOME": theirs, "XDG_RUNTIME_DIR": runtime}[name]
	}
	up(t, env, "lab", "lab")
	if _, err := os.Stat(filepath.Join(runtime, "lvslab", "labs", "lab")); err != nil {
		t.Errorf("another user's folder was taken: %v", err)
	}
	if err := keeper.Down(t.Context(), env, "lab"); err != nil {
		t.Error(err)
	}
}
