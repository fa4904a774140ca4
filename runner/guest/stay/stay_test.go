// Package stay keeps whole labs up in a guest and asks them over its line. It
// has tests only.
package stay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

// raceEnabled is set in a build with -race.
var raceEnabled bool

func TestMain(m *testing.M) {
	guest.Enter()
	os.Exit(m.Run())
}

const lab = `title: two real servers
networks: {lan: 172.25.12.0/24}
nodes:
  client:   {links: {eth0: lan 172.25.12.250/24}}
  director: {links: {eth0: lan 172.25.12.1/24}}
  web1:     {links: {eth0: lan 172.25.12.2/24}, serve: [http]}
  web2:     {links: {eth0: lan 172.25.12.3/24}, serve: [http]}
virtual_services:
  web:
    address: tcp 172.25.12.100:80
    directors: [director]
    scheduler: rr
    forwarding: dr
    vip: {directors: eth0/32, real_servers: lo/32}
    arp_suppression: sysctl
    real_servers: [web1, web2]
steps:
- name: requests alternate
  do: [request: {to: web, count: 4}]
  expect: [rotation: [web1, web2]]
`

func jobOf(text string) wire.Job {
	return wire.Job{Version: wire.Version, Labs: []string{"lab"}, Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(text)}}}
}

// boot boots a guest that ends with the test.
func boot(t *testing.T) runner.Session {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := uml.Config{Kernel: k, Log: t.Output()}
	if raceEnabled {
		// A program built with -race cannot run in a guest.
		c.Self = filepath.Join(t.TempDir(), "self")
		if out, err := exec.Command("go", "test", "-c", "-o", c.Self, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	s, err := (&uml.Backend{Config: c, Env: os.Getenv, Modules: guest.Modules}).Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A lab stays up in a guest: it says how it is, runs its steps as often as one
// likes, and programs run in its nodes, several at once.
func TestLabInGuest(t *testing.T) {
	s := boot(t)
	if _, err := s.Up(t.Context(), jobOf(strings.Replace(lab, "scheduler: rr", "scheduler: nope", 1))); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("a lab that is none: %v", err)
	}
	l, err := s.Up(t.Context(), jobOf(lab))
	if err != nil {
		t.Fatal(err)
	}
	st, err := l.Status(t.Context())
	if err != nil || !slices.Equal(st.Nodes, []string{"client", "director", "web1", "web2"}) || len(st.Troubles) > 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	for range 2 {
		var mu sync.Mutex
		var last wire.Event
		err := l.Run(t.Context(), live.Run{}, func(e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			if last = e; e.Kind == wire.StepFinished && e.Verdict != wire.Pass {
				t.Logf("%+v", *e.Step)
			}
		})
		if err != nil || last.Kind != wire.LabFinished || last.Verdict != wire.Pass {
			t.Errorf("its steps: %v, %+v", err, last)
		}
	}
	var wg sync.WaitGroup
	for _, node := range st.Nodes {
		wg.Go(func() {
			var out bytes.Buffer
			exit, err := l.Exec(t.Context(), live.Exec{Node: node, Args: []string{"sh", "-c", "ip -o -4 addr show dev eth0; exit 5"}}, live.Streams{Stdout: &out, Stderr: io.Discard})
			if err != nil || exit.Code != 5 || !strings.Contains(out.String(), "172.25.12.") {
				t.Errorf("%s: exit %+v, error %v, said %q", node, exit, err, out.String())
			}
		})
	}
	wg.Wait()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var out bytes.Buffer
	exit, err := l.Exec(t.Context(), live.Exec{Node: "web1", Args: []string{"wc", "-c"}}, live.Streams{Stdin: bytes.NewReader(data), Stdout: &out, Stderr: io.Discard})
	if err != nil || exit.Code != 0 || strings.TrimSpace(out.String()) != "1048576" {
		t.Errorf("1 MiB into a node: exit %+v, error %v, counted %q", exit, err, out.String())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Status(t.Context()); err == nil {
		t.Error("a lab whose guest is gone says how it is")
	}
}

// The end of a guest with a lab in it ends what was asked of the lab, and is told
// with its reason.
func TestGuestEnds(t *testing.T) {
	s := boot(t)
	l, err := s.Up(t.Context(), jobOf(lab))
	if err != nil {
		t.Fatal(err)
	}
	said, says := io.Pipe()
	asked := make(chan error, 1)
	go func() {
		_, err := l.Exec(t.Context(), live.Exec{Node: "client", Args: []string{"sh", "-c", "echo x; sleep 60"}}, live.Streams{Stdout: says, Stderr: io.Discard})
		asked <- err
	}()
	if _, err := io.ReadFull(said, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	killKernels(t)
	select {
	case <-s.Ended():
	case <-time.After(time.Minute):
		t.Fatal("the guest's end is not noticed")
	}
	var dead *machine.GuestError
	if !errors.As(s.Err(), &dead) || !strings.Contains(s.Err().Error(), "SIGKILL") {
		t.Errorf("got %v", s.Err())
	}
	if err := <-asked; err == nil {
		t.Error("a program outlived its kernel")
	}
}

// killKernels kills the guests' kernels of this process, which are children of
// its children, with SIGKILL.
func killKernels(t *testing.T) {
	t.Helper()
	parents := make(map[int]int)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		var pid, parent int
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		before, after, _ := strings.Cut(string(b), " (")
		_, after, _ = strings.Cut(after, ") ")
		if _, err := fmt.Sscanf(before+" "+after[1:], "%d %d", &pid, &parent); err == nil {
			parents[pid] = parent
		}
	}
	killed := 0
	for pid, parent := range parents {
		if parents[parent] == os.Getpid() {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			killed++
		}
	}
	if killed == 0 {
		t.Error("no guest's kernel was found")
	}
}
