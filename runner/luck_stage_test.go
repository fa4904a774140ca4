package runner_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/kernel"
)

// The environment by which a test knows where it is.
const (
	// stageInit makes the test binary the first process of a stage; it holds
	// what is wanted, see initStage.
	stageInit = "LVSLAB_LUCK_INIT"
	// stageProgram tells a test that it is on a stage, and where lvslab is.
	stageProgram = "LVSLAB_LUCK_PROGRAM"
	// stageSeccomp makes the test binary deny itself ptrace and become another
	// program.
	stageSeccomp = "LVSLAB_LUCK_SECCOMP"
)

const (
	// stageDir is where a stage keeps what it is made of; the rest of the tree
	// is the machine's, but for what lvslab may write to.
	stageDir  = "/mnt"
	nobodyUID = 65534
)

// init plays the stage's own roles before any test begins.
func init() {
	switch {
	case os.Getenv(stageInit) != "":
		os.Exit(initStage())
	case os.Getenv(stageSeccomp) != "":
		os.Exit(denyPtrace())
	}
}

// playOn runs this very case once more, on a new stage, and tells what it
// said.
func playOn(t *testing.T, c luckCase, program string) {
	if c.soak && os.Getenv("LVSLAB_SOAK") == "" {
		t.Skip("a long one: set LVSLAB_SOAK=1")
	}
	k := luckKernel(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var only []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		only = append(only, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(self, "-test.run="+strings.Join(only, "/"), "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(),
		stageInit+"="+fmt.Sprintf("%t,%d,%t", c.denied, c.room, c.noexec), stageProgram+"="+program,
		"LVSLAB_UML="+k.Image, "LVSLAB_UML_MODULES="+k.Modules)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	root := os.Geteuid() == 0
	if !root || c.denied {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		if root {
			nobody := syscall.SysProcIDMap{ContainerID: nobodyUID, HostID: nobodyUID, Size: 1}
			cmd.SysProcAttr.UidMappings = append(cmd.SysProcAttr.UidMappings, nobody)
			cmd.SysProcAttr.GidMappings = append(cmd.SysProcAttr.GidMappings, nobody)
			cmd.SysProcAttr.GidMappingsEnableSetgroups = true
		}
	}
	// Pdeathsig counts from the thread, which must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("%v\n%s", err, text)
	case err != nil && os.Getenv("LVSLAB_REQUIRE") != "1":
		t.Skipf("a stage cannot be made here: %v", err)
	case err != nil:
		t.Fatalf("a stage cannot be made here: %v", err)
	case strings.Contains(text, "--- SKIP: "+t.Name()+" "):
		t.Skip(text)
	default:
		t.Log(text)
	}
}

// initStage is the stage's first process: it arranges the mounts, starts the
// test in them, and reaps.
func initStage() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "stage:", err)
		return 1
	}
	var denied, noexec bool
	var room int64
	want := strings.Split(os.Getenv(stageInit), ",")
	denied, _ = strconv.ParseBool(want[0])
	room, _ = strconv.ParseInt(want[1], 10, 64)
	noexec, _ = strconv.ParseBool(want[2])
	if err := arrange(room, noexec); err != nil {
		return fail(err)
	}
	if denied {
		for _, n := range []string{"user", "mnt", "pid", "net"} {
			if err := os.WriteFile("/proc/sys/user/max_"+n+"_namespaces", []byte("0"), 0); err != nil {
				return fail(err)
			}
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Dir = "/"
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains([]string{stageInit, stageProgram, "LVSLAB_UML", "LVSLAB_UML_MODULES", "TMPDIR"}, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, stageProgram+"="+stageDir+"/lvslab", "TMPDIR="+stageDir+"/tests",
		"LVSLAB_UML="+stageDir+"/linux.uml", "LVSLAB_UML_MODULES="+stageDir+"/modules/"+filepath.Base(os.Getenv("LVSLAB_UML_MODULES")))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fail(err)
		case err == nil && pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case err == nil && pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}

// arrange makes everything that lvslab might write to the stage's own.
func arrange(room int64, noexec bool) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("lvslab-test", stageDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", stageDir, err)
	}
	release := filepath.Base(os.Getenv("LVSLAB_UML_MODULES"))
	for _, d := range []string{"tests", "home", "home/root", "home/nobody", "run", "full", "modules", "modules/" + release} {
		if err := os.Mkdir(filepath.Join(stageDir, d), 0o755); err != nil {
			return err
		}
	}
	for name, from := range map[string]string{
		"lvslab": os.Getenv(stageProgram), "linux.uml": os.Getenv("LVSLAB_UML"),
		"modules/" + release: os.Getenv("LVSLAB_UML_MODULES"),
	} {
		at := filepath.Join(stageDir, name)
		if !strings.HasPrefix(name, "modules") {
			if err := os.WriteFile(at, nil, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(from, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	flags, data := uintptr(unix.MS_NOSUID|unix.MS_NODEV), "mode=1777"
	if noexec {
		flags |= unix.MS_NOEXEC
	}
	if room > 0 {
		data += fmt.Sprintf(",size=%d", room)
	}
	for _, at := range []string{"/tmp", "/var/tmp", "/dev/shm", stageDir + "/run"} {
		if err := unix.Mount("lvslab-test", at, "tmpfs", flags, data); err != nil {
			return fmt.Errorf("tmpfs on %s: %w", at, err)
		}
	}
	if err := unix.Mount("lvslab-test", stageDir+"/full", "tmpfs", 0, "mode=1777,size=64k"); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	if os.Getuid() == 0 {
		_ = os.Chown(stageDir+"/home/nobody", nobodyUID, nobodyUID) // fails where there is no nobody
	}
	return nil
}

// stage is what a case has.
type stage struct {
	program string
	kernel  kernel.Kernel
	denied  bool
	// before is what there was before the case began.
	before []string
}

func newStage(t *testing.T, c luckCase) *stage {
	s := &stage{program: os.Getenv(stageProgram), kernel: luckKernel(t), denied: c.denied}
	s.before = s.present()
	return s
}

// cmd is lvslab as the stage's root, in a session of its own, with nothing in
// its environment but what is told.
func (s *stage) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, args...)
	cmd.Dir = stageDir
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + stageDir + "/home/root", "XDG_RUNTIME_DIR=" + stageDir + "/run",
		"LVSLAB_UML=" + s.kernel.Image, "LVSLAB_UML_MODULES=" + s.kernel.Modules,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// nobody is lvslab as an ordinary user, where the machine lets the test become
// one.
func (s *stage) nobody(args ...string) *exec.Cmd {
	cmd := s.cmd(args...)
	if !mapped(nobodyUID) {
		return cmd
	}
	setenv(cmd, "HOME", stageDir+"/home/nobody")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobodyUID, Gid: nobodyUID}
	return cmd
}

// mapped reports whether this user namespace has a user (user_namespaces(7)).
func mapped(uid int64) bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		var first, outside, count int64
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && first <= uid && uid < first+count {
			return true
		}
	}
	return false
}

// setenv sets a variable of a command; with "" it takes it away.
func setenv(cmd *exec.Cmd, name, value string) {
	cmd.Env = slices.DeleteFunc(slices.Clone(cmd.Env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
	if value != "" {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
}

// through makes a command one that the shell prepares.
func through(cmd *exec.Cmd, script string) *exec.Cmd {
	cmd.Args = append([]string{"/bin/sh", "-c", script + "\nexec \"$0\" \"$@\"", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	return cmd
}

// lab writes a lab file and returns its path.
func (s *stage) lab(t *testing.T, name, text string) string {
	t.Helper()
	dir := stageDir + "/labs"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// present is all that lvslab could leave behind, but for what any process of
// this machine may do: processes, namespaces, mounts, links, files, abstract
// sockets, System V objects.
func (s *stage) present() []string {
	var all []string
	namespaces := make(map[string]bool)
	for _, p := range processes() {
		if p.pid == 1 || p.pid == os.Getpid() {
			continue
		}
		all = append(all, fmt.Sprintf("process %d %s", p.pid, p.command))
		for _, kind := range []string{"net", "mnt", "pid", "user", "ipc", "uts"} {
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.pid, kind)); err == nil {
				namespaces["namespace "+ns] = true
			}
		}
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, l := range tasks {
		if ns, err := os.Readlink(l); err == nil {
			namespaces["namespace "+ns] = true
		}
	}
	for ns := range namespaces {
		all = append(all, ns)
	}
	if info, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			all = append(all, "mount "+strings.TrimSpace(line))
		}
	}
	links, _ := net.Interfaces()
	for _, l := range links {
		all = append(all, "link "+l.Name)
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", stageDir + "/run", stageDir + "/home", stageDir + "/full"} {
		_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && path != dir {
				all = append(all, "file "+path)
			}
			return nil
		})
	}
	if sockets, err := os.ReadFile("/proc/self/net/unix"); err == nil {
		for line := range strings.Lines(string(sockets)) {
			if i := strings.Index(line, "@"); i >= 0 {
				all = append(all, "abstract socket "+strings.TrimSpace(line[i:]))
			}
		}
	}
	for _, kind := range []string{"shm", "sem", "msg"} {
		if list, err := os.ReadFile("/proc/sysvipc/" + kind); err == nil && strings.Count(string(list), "\n") > 1 {
			all = append(all, "System V "+kind+": "+string(list))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// clean waits until nothing of lvslab is left.
func (s *stage) clean(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left = nil
		for _, p := range s.present() {
			if !slices.Contains(s.before, p) {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
}

type process struct {
	pid     int
	command string
}

// processes are those of the stage.
func processes() []process {
	var all []process
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(l)))
		data, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		words := strings.Fields(strings.ReplaceAll(string(data), "\x00", " "))
		if len(words) > 6 {
			words = words[:6]
		}
		command := strings.Join(words, " ")
		if command == "" {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue
			}
			command = strings.TrimSpace(string(stat))
		}
		all = append(all, process{pid, command})
	}
	return all
}

// guests are the first processes of guests' kernels, lowest number first.
func (s *stage) guests() []int {
	groups := make(map[int]int)
	for _, p := range processes() {
		if !strings.HasPrefix(p.command, s.kernel.Image+" ") {
			continue
		}
		if group, err := unix.Getpgid(p.pid); err == nil && (groups[group] == 0 || p.pid < groups[group]) {
			groups[group] = p.pid
		}
	}
	var all []int
	for _, pid := range groups {
		all = append(all, pid)
	}
	slices.Sort(all)
	return all
}
