package qemu_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/wire"
)

// TestGuest looks around in one guest: a boot is seconds.
func TestGuest(t *testing.T) {
	s := start(t, qemu.Config{})
	if k := testKernel(t); s.Kernel() != k.Release {
		t.Errorf("kernel %q, want %q", s.Kernel(), k.Release)
	}
	t.Run("jobs", func(t *testing.T) {
		for _, word := range []string{"one", "two"} {
			if got := run(t, s, "echo "+word); len(got) != 1 || got[0] != word {
				t.Errorf("job %s said %q", word, got)
			}
		}
	})
	t.Run("modules", func(t *testing.T) {
		// ip_vs wants what no symbol tells of, and a scheduler that is not there
		// is named.
		got := run(t, s, "load ip_vs ip_vs_rr nf_tables", "load ip_vs_nope", "sh grep -c ^ip_vs /proc/modules")
		if got[0] != "<nil>" || !strings.Contains(got[1], `"ip_vs_nope"`) || strings.HasPrefix(got[2], "0") {
			t.Errorf("%q", got)
		}
	})
	t.Run("flood", func(t *testing.T) {
		if got := run(t, s, "flood"); len(got) != 50 || len(got[49]) < 100<<10 {
			t.Errorf("%d events", len(got))
		}
	})
	t.Run("children", func(t *testing.T) {
		// The line is no child's business.
		if got := run(t, s, "sh ls -l /proc/self/fd"); strings.Contains(got[0], "vport") {
			t.Errorf("a child has the line to the host:\n%s", got[0])
		}
	})
	t.Run("untouched", func(t *testing.T) {
		// Not below /tmp, of which the guest has its own.
		other, err := os.MkdirTemp("/var/tmp", "lvslab-qemu-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(other) })
		mark := filepath.Join(other, "mark")
		// Its own mount is read-only, and when it is made writable the host's
		// side still is not.
		got := run(t, s, "write "+mark, "remount", "write "+mark, "sh rm -rf "+other+"; echo done")
		for _, i := range []int{0, 2} {
			if !strings.Contains(got[i], "read-only") {
				t.Errorf("writing to the host's disk: %s", got[i])
			}
		}
		if names, err := os.ReadDir(other); err != nil || len(names) != 0 {
			t.Errorf("the guest left %v, %v", names, err)
		}
	})
	s.Close()
	s.Close()
	var dead *machine.GuestError
	if err := s.Run(t.Context(), wire.Job{}, func(wire.Event) {}); !errors.As(err, &dead) {
		t.Errorf("Run after Close: %v", err)
	}
}

// TestEnds gives guests ends before their time.
func TestEnds(t *testing.T) {
	k := testKernel(t)
	t.Run("deadline", func(t *testing.T) {
		s, err := qemu.Boot(t.Context(), qemu.Config{Kernel: k, Self: self, BootTimeout: 50 * time.Millisecond})
		if err == nil {
			s.Close()
			t.Skip("it booted within 50 ms")
		}
		var dead *machine.GuestError
		if !errors.As(err, &dead) || !strings.Contains(err.Error(), "guest (QEMU, ") || !strings.Contains(dead.What, "did not boot in time") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no init", func(t *testing.T) {
		self := filepath.Join(t.TempDir(), "self")
		if err := os.WriteFile(self, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if s, err := qemu.Boot(t.Context(), qemu.Config{Kernel: k, Self: self}); err == nil {
			s.Close()
			t.Error("booted")
		} else if !strings.Contains(err.Error(), "is to be the guest's init") {
			t.Errorf("%v", err)
		}
	})
	t.Run("panic", func(t *testing.T) {
		s := start(t, qemu.Config{Kernel: k})
		err := s.Run(t.Context(), wire.Job{Labs: []string{"oops"}}, func(wire.Event) {})
		var dead *machine.GuestError
		if !errors.As(err, &dead) || !strings.Contains(dead.What, "the guest's kernel panicked") || !strings.Contains(dead.Console, "sysrq triggered crash") {
			t.Errorf("%v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		st := newStage(t)
		s := start(t, qemu.Config{Kernel: st.kernel, Silence: 6 * time.Second})
		err := s.Run(t.Context(), wire.Job{Labs: []string{"hang"}}, func(wire.Event) {
			for _, pid := range st.machines() {
				_ = unix.Kill(pid, unix.SIGSTOP)
			}
		})
		if err == nil || !strings.Contains(err.Error(), "went silent: not a sign of life for 6s") {
			t.Errorf("%v", err)
		}
		st.gone(t)
	})
}
