package uml_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// keep is what the tests keep up in a guest: a lab that knows the words of its
// Exec and nothing else. The job's one lab may be an error to fail with.
func keep(ctx context.Context, j wire.Job, _ func(...string) error) (live.Lab, error) {
	switch word, arg, _ := strings.Cut(j.Labs[0], " "); word {
	case "fail":
		return nil, errors.New(arg)
	case "hang":
		<-ctx.Done()
		time.Sleep(time.Hour)
	case "oops":
		return nil, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	}
	return words{}, nil
}

type words struct{ live.Lab }

func (words) Exec(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	switch e.Args[0] {
	case "drain": // reads all, slowly at first, and tells what it was
		time.Sleep(200 * time.Millisecond)
		h := sha256.New()
		if _, err := io.Copy(h, s.Stdin); err != nil {
			return live.Exit{}, err
		}
		fmt.Fprintf(s.Stdout, "%x", h.Sum(nil))
	case "flood":
		left, err := strconv.Atoi(e.Args[1])
		if err != nil {
			return live.Exit{}, err
		}
		for piece := make([]byte, 64<<10); left > 0 && err == nil; left -= len(piece) {
			_, err = s.Stdout.Write(piece[:min(left, len(piece))])
		}
		return live.Exit{Code: 3}, err
	case "self":
		return live.Exit{}, sameSelf()
	case "terminals":
		return live.Exit{}, ownTerminals()
	case "mute":
		return live.Exit{}, mute()
	case "oops":
		return live.Exit{}, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "wait":
		fmt.Fprint(s.Stdout, "waiting")
		<-ctx.Done()
	}
	return live.Exit{}, nil
}

// sameSelf is an error unless the guest's own tree has this very program.
func sameSelf() error {
	var here, there unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &here); err != nil {
		return err
	}
	if err := unix.Stat(guest.Self, &there); err != nil {
		return err
	}
	if here.Ino != there.Ino || here.Dev != there.Dev || here.Mode&0o111 == 0 {
		return fmt.Errorf("%s is file %d of %d, this program %d of %d", guest.Self, there.Ino, there.Dev, here.Ino, here.Dev)
	}
	return nil
}

// ownTerminals mounts an instance of pseudo-terminals, as the nodes have their
// own, and opens one.
func ownTerminals() error {
	dir, err := os.MkdirTemp("", "pts-")
	if err != nil {
		return err
	}
	if err := unix.Mount("devpts", dir, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,mode=0620,ptmxmode=0666"); err != nil {
		return fmt.Errorf("mounting devpts: %w", err)
	}
	for _, ptmx := range []string{filepath.Join(dir, "ptmx"), "/dev/ptmx"} {
		f, err := os.OpenFile(ptmx, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		// Numbers begin at 0 in each instance.
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
		if err != nil {
			return fmt.Errorf("%s: %w", ptmx, err)
		}
		if n != 0 {
			return fmt.Errorf("the first terminal of %s is %d", ptmx, n)
		}
	}
	return nil
}

// up brings the small lab up in a session.
func up(t *testing.T, s *uml.Session) *live.Client {
	t.Helper()
	lab, err := s.Up(t.Context(), wire.Job{Labs: []string{"lab"}})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// do has the lab do something and returns what it wrote.
func do(t *testing.T, lab live.Lab, stdin io.Reader, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := lab.Exec(t.Context(), live.Exec{Node: "any", Args: args}, live.Streams{Stdin: stdin, Stdout: &out, Stderr: io.Discard}); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	return out.String()
}

// A guest keeps a lab up on every rung: much goes in, though User-Mode Linux's
// line stops for good at 4096 unread bytes, and much comes out meanwhile.
func TestUp(t *testing.T) {
	eachRung(t, func(t *testing.T, r uml.Rung) {
		s := allowed(t, r, uml.Config{})
		// A session that has run a job, and one that came to nothing, is as good.
		run(t, s, "echo before")
		if _, err := s.Up(t.Context(), wire.Job{Labs: []string{"fail in this way"}}); err == nil || !strings.Contains(err.Error(), "in the guest: in this way") {
			t.Fatalf("a lab that fails: %v", err)
		}
		if got := run(t, s, "echo still there"); !slices.Equal(got, []string{"still there"}) {
			t.Errorf("afterwards: %q", got)
		}
		lab := up(t, s)
		do(t, lab, nil, "self")
		do(t, lab, nil, "terminals")

		flooded := make(chan error, 1)
		var flood counting
		go func() {
			exit, err := lab.Exec(t.Context(), live.Exec{Node: "any", Args: []string{"flood", "20000000"}}, live.Streams{Stdout: &flood, Stderr: io.Discard})
			if err == nil && exit.Code != 3 {
				err = fmt.Errorf("exit %d", exit.Code)
			}
			flooded <- err
		}()
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		if got, want := do(t, lab, bytes.NewReader(data), "drain"), fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
			t.Errorf("1 MiB came in as %s, wanted %s", got, want)
		}
		if err := <-flooded; err != nil || flood != 20000000 {
			t.Errorf("%d bytes came out, error %v", flood, err)
		}
		if _, err := s.Up(t.Context(), wire.Job{Labs: []string{"lab"}}); err == nil || !strings.Contains(err.Error(), "keeps a lab up") {
			t.Errorf("a second lab: %v", err)
		}
		if err := s.Run(t.Context(), wire.Job{Labs: []string{"echo x"}}, func(wire.Event) {}); err == nil || !strings.Contains(err.Error(), "keeps a lab up") {
			t.Errorf("a job beside the lab: %v", err)
		}
		if err := s.Err(); err != nil {
			t.Errorf("Err of a guest that lives: %v", err)
		}
		s.Close()
		<-s.Ended()
		var dead *uml.GuestError
		if err := s.Err(); !errors.As(err, &dead) || !strings.Contains(err.Error(), "the session is closed") {
			t.Errorf("Err after Close: %v", err)
		}
	})
}

// A guest that keeps a lab up shows that it lives, though nobody asks anything.
func TestUpIsNotSilent(t *testing.T) {
	s := start(t, uml.Config{Silence: 6 * time.Second})
	lab := up(t, s)
	select {
	case <-s.Ended():
		t.Fatalf("ended: %v", s.Err())
	case <-time.After(7500 * time.Millisecond):
	}
	do(t, lab, nil, "self")
}

// counting counts what is written.
type counting int

func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

// The end of a guest that keeps a lab up is known, with the reason, whether
// somebody asks something of the lab at that time or not.
func TestUpEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, s *uml.Session, lab *live.Client)
		want []string
	}{
		{"panic of the kernel", func(t *testing.T, s *uml.Session, lab *live.Client) { ask(t, lab, "oops") }, []string{"ended", "anicked"}},
		{"silent", func(t *testing.T, s *uml.Session, lab *live.Client) { ask(t, lab, "mute") }, []string{"went silent", "4s"}},
		{"killed from outside", func(t *testing.T, s *uml.Session, lab *live.Client) { killBelow(t) }, []string{"ended", "killed"}},
		{"the client closed", func(t *testing.T, s *uml.Session, lab *live.Client) { lab.Close() }, []string{"the session is closed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := uml.Config{}
			if tt.name == "silent" {
				c.Silence = 4 * time.Second
			}
			s := allowed(t, uml.Auto, c)
			lab := up(t, s)
			waiting := make(chan error, 1)
			pipe, said := io.Pipe()
			go func() {
				_, err := lab.Exec(t.Context(), live.Exec{Node: "any", Args: []string{"wait"}}, live.Streams{Stdout: said, Stderr: io.Discard})
				waiting <- err
			}()
			if _, err := io.ReadFull(pipe, make([]byte, len("waiting"))); err != nil {
				t.Fatal(err)
			}
			tt.end(t, s, lab)
			select {
			case <-s.Ended():
			case <-time.After(time.Minute):
				t.Fatal("the guest's end is not noticed")
			}
			t.Log(s.Err())
			var dead *uml.GuestError
			if !errors.As(s.Err(), &dead) {
				t.Fatalf("got %v, want a *GuestError", s.Err())
			}
			for _, want := range tt.want {
				if !strings.Contains(s.Err().Error(), want) {
					t.Errorf("no %q in: %v", want, s.Err())
				}
			}
			if err := <-waiting; err == nil {
				t.Error("what was asked of the lab has ended well")
			}
			if err := s.Run(t.Context(), wire.Job{Labs: []string{"echo x"}}, func(wire.Event) {}); !errors.As(err, &dead) {
				t.Errorf("a job then: %v", err)
			}
		})
	}
}

// ask asks for something that ends the guest.
func ask(t *testing.T, lab live.Lab, word string) {
	go func() {
		_, _ = lab.Exec(t.Context(), live.Exec{Node: "any", Args: []string{word}}, live.Streams{Stdout: io.Discard, Stderr: io.Discard})
	}()
}

// killBelow kills, with SIGKILL, the process that is the guest's kernel: the
// child of this process's only child.
func killBelow(t *testing.T) {
	t.Helper()
	kernels := childrenOf(t, childrenOf(t, os.Getpid())...)
	if len(kernels) != 1 {
		t.Fatalf("processes %v below, wanted one", kernels)
	}
	if err := unix.Kill(kernels[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func childrenOf(t *testing.T, parents ...int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(after)
		if ppid, err := strconv.Atoi(fields[1]); err != nil || !slices.Contains(parents, ppid) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && fields[0] != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A lab that does not come up ends with whom it is for.
func TestUpStopped(t *testing.T) {
	s := start(t, uml.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Up(ctx, wire.Job{Labs: []string{"hang"}})
	var dead *uml.GuestError
	if !errors.As(err, &dead) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lab that never comes up: %v", err)
	}
	<-s.Ended()

	s = start(t, uml.Config{})
	if _, err := s.Up(t.Context(), wire.Job{Labs: []string{"oops"}}); !errors.As(err, &dead) || !strings.Contains(err.Error(), "anicked") {
		t.Errorf("a kernel that panics meanwhile: %v", err)
	}
}
