package node

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

// TestPauseDaemon has a daemon of several processes stop and go on: all of them,
// and no others.
func TestPauseDaemon(t *testing.T) {
	ns := newNode(t, "web1")
	f := NewFiles("web1", ns)
	t.Cleanup(func() { f.Close() })
	daemon := topology.Daemon{
		Name: "real:80", Service: "real", Port: 80, Protocols: []string{"tcp"},
		// A child in a session of its own hangs, too.
		Command: "setsid sleep 1000 & exec busybox httpd -f -p 80",
	}
	d, err := StartDaemon(t.Context(), f, ns, daemon)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	other, err := StartDaemon(t.Context(), f, ns, topology.Daemon{Name: "real:81", Service: "real", Port: 81, Protocols: []string{"tcp"}, Command: "busybox httpd -f -p 81"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	states := func(d *Daemon) string {
		t.Helper()
		d.processes.mu.Lock()
		defer d.processes.mu.Unlock()
		m, err := d.processes.space.members()
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, state := range slices.Sorted(maps.Values(m)) {
			s = append(s, string(state))
		}
		return strings.Join(s, "")
	}
	await(t, "both processes", func() bool { return len(states(d)) == 2 })
	for range 2 {
		if err := d.Pause(); err != nil {
			t.Fatal(err)
		}
		if got := states(d); got != "TT" {
			t.Errorf("paused, its processes are %q", got)
		}
	}
	if got := states(other); strings.Contains(got, "T") || got == "" {
		t.Errorf("another daemon is %q", got)
	}
	if !listening(ns, daemon) {
		t.Error("paused, it does not listen")
	}
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := states(d); strings.Contains(got, "T") {
		t.Errorf("resumed, its processes are %q", got)
	}
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Pause(); err == nil {
		t.Error("one that has ended was paused")
	}
}

// A disk is there again in another network, and its node's programs are not.
func TestSwitchOffAndOn(t *testing.T) {
	for _, plain := range []bool{false, true} {
		before := newNode(t, "web1")
		f := NewFiles("web1", before)
		f.plain = plain
		if err := f.WriteFile("/tmp/kept", []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		counter := f.Kept("number", func() any { return 7 })
		ended := make(chan Output, 1)
		started := make(chan int, 1)
		go func() {
			ended <- Run(t.Context(), f, Command{Shell: "sleep 1000", Timeout: DaemonWait, Started: func(pid int) { started <- pid }})
		}()
		<-started
		disk, err := f.SwitchOff()
		if err != nil {
			t.Fatal(err)
		}
		if out := <-ended; out.Err == nil {
			t.Errorf("a command outlives its node: %+v", out)
		}
		if _, err := f.ReadFile("/tmp/kept"); err == nil {
			t.Error("files are read while they are switched off")
		}
		if _, err := f.SwitchOff(); err == nil {
			t.Error("switched off twice")
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		ns := newNode(t, "web1")
		up(t, ns, "lo", "10.8.0.1/32")
		again, err := disk.SwitchOn(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if got, err := again.ReadFile("/tmp/kept"); err != nil || string(got) != "mine" {
			t.Errorf("the file has %q, %v", got, err)
		}
		if got := again.Kept("number", func() any { return 8 }); got != counter {
			t.Errorf("kept %v, found %v", counter, got)
		}
		if got := sh(t, again, "hostname; ip -o -4 addr show dev lo; ls /sys/class/net"); !strings.Contains(got, "web1\n") || !strings.Contains(got, "10.8.0.1") || !strings.HasSuffix(got, "lo\n") {
			t.Errorf("it runs in\n%s", got)
		}
		// Never used, or never switched on, a disk leaves nothing.
		unused, err := NewFiles("web1", ns).SwitchOff()
		if err == nil {
			err = unused.Close()
		}
		if err != nil {
			t.Error(err)
		}
		off, err := again.SwitchOff()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := off.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
