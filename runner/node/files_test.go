package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newFiles(t testing.TB, name string) *Files {
	t.Helper()
	f := NewFiles(name, newNode(t, name))
	t.Cleanup(func() { f.Close() })
	return f
}

// overlayFiles are files that can be written everywhere.
func overlayFiles(t testing.TB, name string) *Files {
	t.Helper()
	f := newFiles(t, name)
	ok, err := f.Overlay()
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Skip("this kernel has no overlayfs")
	}
	return f
}

func write(t *testing.T, f *Files, name, text string) {
	t.Helper()
	if err := f.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, f *Files, name, want string) {
	t.Helper()
	if got, err := f.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s in %s: %q, %v; wanted %q", name, f.name, got, err, want)
	}
}

func TestFiles(t *testing.T) {
	web1, web2 := overlayFiles(t, "web1"), overlayFiles(t, "web2")
	const name = "/etc/sysconfig-of-lvslab/deep/ipvsadm"

	if _, err := web1.ReadFile(name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "web1") || !strings.Contains(err.Error(), name) {
		t.Errorf("missing file: %v", err)
	}
	write(t, web1, name, "a long first content")
	write(t, web1, name, "short")
	wantFile(t, web1, name, "short")
	if info, err := web1.Stat(name); err != nil || info.Mode() != 0o640 || info.Size() != 5 {
		t.Errorf("Stat: %v, %v", info, err)
	}
	if _, err := web2.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another node sees it: %v", err)
	}
	if _, err := os.Stat("/etc/sysconfig-of-lvslab"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the machine has it: %v", err)
	}
	out := Run(t.Context(), web1, Command{Shell: "cat " + name + "; echo changed >" + name})
	if out.Err != nil || string(out.Stdout) != "short" {
		t.Errorf("a command sees %q, %v", out.Stdout, out.Err)
	}
	wantFile(t, web1, name, "changed\n")
	if err := web1.Remove(name); err != nil {
		t.Error(err)
	}
	if err := web1.Remove(filepath.Dir(name)); err != nil {
		t.Error(err)
	}
	if err := web1.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Remove again: %v", err)
	}

	// What the machine has can be changed too, in the node.
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, web1, "/etc/passwd", string(before))
	write(t, web1, "/etc/passwd", "mine\n")
	wantFile(t, web1, "/etc/passwd", "mine\n")
	wantFile(t, web2, "/etc/passwd", string(before))
	if after, _ := os.ReadFile("/etc/passwd"); string(after) != string(before) {
		t.Fatal("the machine's /etc/passwd changed")
	}
}

// A mount of the machine that is none of its root's must be covered as well.
func TestFilesOnOtherMounts(t *testing.T) {
	f := overlayFiles(t, "web1")
	for _, dir := range []string{"/dev/shm", "/run", "/tmp", t.TempDir()} {
		name := filepath.Join(dir, "lvslab-node-test")
		write(t, f, name, "x")
		wantFile(t, f, name, "x")
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the machine has %s: %v", name, err)
		}
	}
	own := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(own, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantFile(t, f, own, "hello")
}

func TestFilesLinksStayInside(t *testing.T) {
	f := overlayFiles(t, "web1")
	outside := filepath.Join(t.TempDir(), "outside") // on the machine
	out := Run(t.Context(), f, Command{Shell: `mkdir /lvslab-t && cd /lvslab-t &&
		ln -s ` + outside + ` abs && ln -s ../../../../../../..` + outside + ` up &&
		ln -s loop loop && ln -s /proc/self/root/etc magic && mkfifo fifo && mkdir dir`})
	if out.Err != nil || out.ExitCode != 0 {
		t.Fatalf("%+v %s", out, out.Stderr)
	}
	for _, link := range []string{"abs", "up"} {
		write(t, f, "/lvslab-t/"+link, link)
		wantFile(t, f, outside, link)
	}
	write(t, f, "/../../.."+outside, "dots")
	wantFile(t, f, outside, "dots")
	if _, err := os.Stat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("it was written on the machine: %v", err)
	}
	for _, bad := range []string{"/lvslab-t/loop", "/lvslab-t/magic/passwd", "/lvslab-t/fifo", "/lvslab-t/dir", "relative", "", "/lvslab-t/nul\x00"} {
		if _, err := f.ReadFile(bad); err == nil {
			t.Errorf("ReadFile(%q) went well", bad)
		}
		if err := f.WriteFile(bad, nil, 0o644); err == nil {
			t.Errorf("WriteFile(%q) went well", bad)
		}
	}
}

func TestFilesFull(t *testing.T) {
	f := overlayFiles(t, "web1")
	err := f.WriteFile("/big", make([]byte, FilesBytes+1), 0o644)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v; wanted ENOSPC", err)
	}
	if err := f.Remove("/big"); err != nil {
		t.Error(err)
	}
	if out := Run(t.Context(), f, Command{Shell: "truncate -s 1G /sparse"}); out.Err != nil || out.ExitCode != 0 {
		t.Fatalf("%+v", out)
	}
	if _, err := f.ReadFile("/sparse"); !errors.Is(err, unix.EFBIG) {
		t.Errorf("%v; wanted EFBIG", err)
	}
}

func TestFilesWithoutOverlay(t *testing.T) {
	f := NewFiles("web1", newNode(t, "web1"))
	f.plain = true
	defer f.Close()
	if ok, err := f.Overlay(); ok || err != nil {
		t.Fatal(ok, err)
	}
	write(t, f, "/tmp/x/y", "mine")
	write(t, f, "/run/lock/y", "mine")
	wantFile(t, f, "/tmp/x/y", "mine")
	if err := f.WriteFile("/etc/passwd", nil, 0o644); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("%v", err)
	}
	out := Run(t.Context(), f, Command{Shell: "cat /tmp/x/y /etc/passwd | head -c 4; touch /etc/x /root/x /usr/x /sys/x /dev/shm/x; mount -o remount,rw /; echo x >/etc/x; ls /dev /proc/1"})
	if out.Err != nil || !strings.HasPrefix(string(out.Stdout), "mine") || strings.Count(string(out.Stderr), "Read-only file system") < 3 {
		t.Errorf("%+v\n%s\n%s", out.Err, out.Stdout, out.Stderr)
	}
	for _, p := range []string{"/etc/x", "/root/x", "/usr/x", "/dev/shm/x"} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("the machine has %s", p)
		}
	}
}

func TestFilesClosed(t *testing.T) {
	never := NewFiles("web1", nil)
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	f := newFiles(t, "web1")
	if err := f.WriteFile("/tmp/x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.ReadFile("/tmp/x"); !errors.Is(err, errFilesClosed) {
		t.Errorf("%v", err)
	}
	if out := Run(t.Context(), f, Command{Shell: "true"}); !errors.Is(out.Err, errFilesClosed) {
		t.Errorf("%+v", out)
	}
}

func FuzzParseMountinfo(f *testing.F) {
	if text, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		f.Add(string(text))
	}
	f.Add("36 35 98:0 /mnt1 /mnt2\\040x rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Add("36 35 98:0 / /a\\1 rw - \n")
	f.Add("1 2 3 4 relative 6 - x")
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := parseMountinfo(text)
		if err != nil {
			return
		}
		for _, m := range mounts {
			if !filepath.IsAbs(m.path) {
				t.Errorf("mount point %q", m.path)
			}
		}
	})
}

func TestParseMountinfo(t *testing.T) {
	got, err := parseMountinfo("36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 - ext3 /dev/root rw\n40 36 0:1 / /b rw - autofs x y\n")
	want := []mountPoint{{36, `/mnt 2\`, "ext3"}, {40, "/b", "autofs"}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%v, %v; wanted %v", got, err, want)
	}
}
