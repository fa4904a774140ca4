package uml_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// allowed boots on a rung, or skips where this machine denies it.
func allowed(t *testing.T, r uml.Rung, c uml.Config) *uml.Session {
	t.Helper()
	if r == uml.Root && os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c.Rung = r
	return start(t, c)
}

func eachRung(t *testing.T, f func(t *testing.T, r uml.Rung)) {
	for _, r := range []uml.Rung{uml.Root, uml.UserNS, uml.Bare} {
		t.Run(r.String(), func(t *testing.T) { f(t, r) })
	}
}

func TestEachRung(t *testing.T) {
	eachRung(t, func(t *testing.T, r uml.Rung) {
		dir := shortDir(t)
		t.Setenv("TMPDIR", dir)
		s := allowed(t, r, uml.Config{WorkDir: dir})
		if s.Rung() != r {
			t.Errorf("on rung %v", s.Rung())
		}
		if k := testKernel(t); s.Kernel() != k.Release {
			t.Errorf("kernel %q, want %q", s.Kernel(), k.Release)
		}
		for _, word := range []string{"one", "two"} {
			if got := run(t, s, "echo "+word); !slices.Equal(got, []string{word}) {
				t.Errorf("job %s said %q", word, got)
			}
		}
		if left := names(dir); r != uml.Bare && len(left) > 0 {
			t.Errorf("on the host: %v", left)
		}
		s.Close()
		s.Close()
		if left := names(dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		var dead *uml.GuestError
		if err := s.Run(t.Context(), wire.Job{}, func(wire.Event) {}); !errors.As(err, &dead) {
			t.Errorf("Run after Close: %v", err)
		}
	})
}

// shortDir is a temporary folder with a name that is short enough for sockets,
// open to everybody.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "u-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// names are what is in a folder.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestHostFilesAreSafe(t *testing.T) {
	eachRung(t, func(t *testing.T, r uml.Rung) {
		// Not below /tmp, which the guest has its own of.
		dir, err := os.MkdirTemp(".", "guest-write-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path, err := filepath.Abs(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		s := allowed(t, r, uml.Config{})
		for _, said := range run(t, s, "write "+path, "remount", "write "+path) {
			t.Log(said)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the guest wrote the host's file (%v)", err)
		}
	})
}

func TestGuestHas(t *testing.T) {
	s := start(t, uml.Config{})
	said := run(t, s,
		"load ip-vs-rr ipip veth hostfs", "load ip_vs_rr", "load no_such_module",
		"read /proc/sys/net/ipv4/neigh/default/gc_thresh3",
		"write /tmp/x", "write /run/x", "write /dev/shm/x",
		"sh echo $PATH; test -c /dev/null && test -c /dev/ptmx && test -e /dev/fd/0 && test -d /sys/class/net && echo ok",
		"children")
	for i, want := range []string{"<nil>", "<nil>", `no module "no_such_module"`, "1048576", "<nil>", "<nil>", "<nil>", "ok\n<nil>", "0 wrong, 0 zombies"} {
		if !strings.Contains(said[i], want) {
			t.Errorf("%d: said %q, want %q", i, said[i], want)
		}
	}
}

func TestBigJobAndManyEvents(t *testing.T) {
	eachRung(t, func(t *testing.T, r uml.Rung) {
		s := allowed(t, r, uml.Config{})
		n, size := 0, 0
		data := make([]byte, 4<<20)
		err := s.Run(t.Context(), wire.Job{Labs: []string{"files", "flood"}, Files: []wire.File{{Path: "big.yaml", Data: data}}}, func(e wire.Event) {
			if n == 0 && e.Message != "big.yaml 4194304" {
				t.Errorf("the guest got %s", e.Message)
			}
			n++
			size += len(e.Message)
		})
		if err != nil || n != 201 || size < 200*100<<10 {
			t.Errorf("%d events of %d bytes, error %v", n, size, err)
		}
	})
}

func TestJobFails(t *testing.T) {
	s := start(t, uml.Config{})
	err := s.Run(t.Context(), wire.Job{Labs: []string{"fail in this way"}}, func(wire.Event) {})
	var dead *uml.GuestError
	if err == nil || !strings.Contains(err.Error(), "in this way") || errors.As(err, &dead) {
		t.Errorf("got %v", err)
	}
	if got := run(t, s, "echo still there"); !slices.Equal(got, []string{"still there"}) {
		t.Errorf("afterwards: %q", got)
	}
}

// TestGuestEnds ends guests in all the ways they can end.
func TestGuestEnds(t *testing.T) {
	for _, tt := range []struct {
		name, lab string
		want      []string
	}{
		{"panic in Go", "panic", []string{"without its final record", "panic: on purpose", "init ended"}},
		{"panic of the kernel", "oops", []string{"without its final record", "anicked"}},
		{"killed", "sh kill -9 1; echo c >/proc/sysrq-trigger", []string{"without its final record"}},
		{"powered off", "sh echo o >/proc/sysrq-trigger; sleep 5", []string{"without its final record"}},
		{"silent", "mute", []string{"went silent", "4s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachRung(t, func(t *testing.T, r uml.Rung) {
				c := uml.Config{}
				if tt.name == "silent" {
					c.Silence = 4 * time.Second // two heartbeats
				}
				s := allowed(t, r, c)
				begin := time.Now()
				err := s.Run(t.Context(), wire.Job{Labs: []string{tt.lab}}, func(wire.Event) {})
				var dead *uml.GuestError
				if !errors.As(err, &dead) {
					t.Fatalf("got %v, want a *GuestError", err)
				}
				t.Log(err)
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("no %q in: %v", want, err)
					}
				}
				if took := time.Since(begin); took > uml.DefaultSilence {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestBusyIsNotSilent(t *testing.T) {
	s := start(t, uml.Config{Silence: 5 * time.Second})
	run(t, s, "busy")
}

func TestBootFails(t *testing.T) {
	k := testKernel(t)
	fake := func(script string) kernel.Kernel {
		path := filepath.Join(t.TempDir(), "linux.uml")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return kernel.Kernel{Image: path, Modules: k.Modules}
	}
	for _, tt := range []struct {
		name string
		c    uml.Config
		want string
	}{
		{"false", uml.Config{Kernel: kernel.Kernel{Image: "/bin/false", Modules: k.Modules}}, "did not boot (exit status 1)"},
		{"missing", uml.Config{Kernel: kernel.Kernel{Image: "/no/such", Modules: k.Modules}}, "no such file"},
		{"silent", uml.Config{Kernel: fake("exec sleep 60"), BootTimeout: 300 * time.Millisecond}, "did not boot in time"},
		{"garbage", uml.Config{Kernel: fake("echo garbage >&3; exec sleep 60")}, `"garbage"`},
		{"another version", uml.Config{Kernel: fake(`echo '{"version":9,"event":"hello"}' >&3; exec sleep 60`)}, "version 9, this lvslab speaks version 1"},
		{"no ptrace", uml.Config{Kernel: fake("echo 'check_ptrace : expected SIGSTOP, got status = 256'; exit 1")}, "ptrace is blocked here"},
		{"too little memory", uml.Config{Kernel: k, Mem: 4 << 20, BootTimeout: 5 * time.Second}, "did not boot"},
		{"no modules", uml.Config{Kernel: kernel.Kernel{Image: k.Image, Modules: "/no/such"}}, "modules"},
		{"no work folder", uml.Config{Kernel: k, Rung: uml.Bare, WorkDir: "/proc"}, "set TMPDIR"},
		{"huge memory", uml.Config{Kernel: k, Rung: uml.Bare, Mem: 1 << 50}, "MB free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Self = self
			begin := time.Now()
			s, err := uml.Boot(t.Context(), tt.c)
			if err == nil {
				s.Close()
				t.Fatal("booted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("no %q in: %v", tt.want, err)
			}
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestTwoAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		s := start(t, uml.Config{})
		wg.Go(func() {
			for _, word := range []string{"a", "b", "c"} {
				if got := run(t, s, "echo "+word); !slices.Equal(got, []string{word}) {
					t.Errorf("said %q, want %q", got, word)
				}
			}
		})
	}
	wg.Wait()
}

func TestCancel(t *testing.T) {
	eachRung(t, func(t *testing.T, r uml.Rung) {
		s := allowed(t, r, uml.Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		var begin time.Time
		enough := errors.New("enough")
		err := s.Run(ctx, wire.Job{Labs: []string{"hang"}}, func(wire.Event) {
			begin = time.Now()
			cancel(enough)
		})
		if !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("gone after %v", took)
		}
	})
	t.Run("boot", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := uml.Boot(ctx, uml.Config{Kernel: testKernel(t), Self: self})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("gone after %v", took)
		}
	})
}

func TestProbe(t *testing.T) {
	if raceEnabled {
		t.Skip("Probe boots this very program, which was built with -race")
	}
	f := uml.Probe(t.Context(), testKernel(t))
	for _, r := range f.Rungs {
		t.Logf("%v: %v, %s (%v)", r.Rung, r.Answer, r.Why, r.Boot)
		if os.Geteuid() == 0 && r.Answer != uml.Yes && r.Rung != uml.UserNS {
			t.Errorf("rung %v: %v, %s", r.Rung, r.Answer, r.Why)
		}
	}
	if len(f.Rungs) != 3 || f.Auto == uml.Auto {
		t.Errorf("%+v", f)
	}
	for _, r := range uml.Probe(t.Context(), kernel.Kernel{}).Rungs {
		if r.Answer != uml.Unknown {
			t.Errorf("without a kernel: %+v", r)
		}
	}
}
