package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/wire"
)

// keep is what the tests keep up in a guest.
func keep(context.Context, wire.Job, func(...string) error) (live.Lab, error) { return echo{}, nil }

// echo is a lab whose programs write what they read, and then what the guest has
// in place of this program's file.
type echo struct{ live.Lab }

func (echo) Exec(_ context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
		return live.Exit{}, err
	}
	here, err := os.Stat("/proc/self/exe")
	if err != nil {
		return live.Exit{}, err
	}
	there, err := os.Stat(guest.Self)
	if err != nil {
		return live.Exit{}, err
	}
	if !os.SameFile(here, there) {
		return live.Exit{}, fmt.Errorf("%s is not this program", guest.Self)
	}
	if e.Args[0] == "oops" {
		return live.Exit{}, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	}
	return live.Exit{Code: 7}, nil
}

// A guest keeps a lab up, over a line of another kind, and its end is known.
func TestUp(t *testing.T) {
	s := start(t, qemu.Config{})
	lab, err := s.Up(t.Context(), wire.Job{Labs: []string{"lab"}})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	var out bytes.Buffer
	exit, err := lab.Exec(t.Context(), live.Exec{Args: []string{"cat"}}, live.Streams{Stdin: bytes.NewReader(data), Stdout: &out})
	if err != nil || exit.Code != 7 || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes of %d came back, exit %+v, error %v; the console: %s", out.Len(), len(data), exit, err, s.Console())
	}
	if _, err := lab.Exec(t.Context(), live.Exec{Args: []string{"oops"}}, live.Streams{Stdin: strings.NewReader("")}); err == nil {
		t.Error("the kernel survived its panic")
	}
	select {
	case <-s.Ended():
	case <-time.After(time.Minute):
		t.Fatal("the guest's end is not noticed")
	}
	var dead *machine.GuestError
	if !errors.As(s.Err(), &dead) || !strings.Contains(s.Err().Error(), "panicked") {
		t.Errorf("got %v", s.Err())
	}
}
