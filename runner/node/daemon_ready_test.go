package node

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/lvslab/lvslab/topology"
)

// TestDaemonReady has a daemon that listens nowhere: it is ready when it has
// written its file, and one that another has left does not count.
func TestDaemonReady(t *testing.T) {
	ns := newNode(t, "director")
	f := NewFiles("director", ns)
	t.Cleanup(func() { f.Close() })
	daemon := topology.Daemon{Name: "quiet", Service: "quiet", Ready: "/run/quiet.pid", Command: "echo begins; sleep 0.2; echo $$ >/run/quiet.pid; sleep 1000"}
	for range 2 {
		d, err := StartDaemon(t.Context(), f, ns, daemon)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Stat(daemon.Ready); err != nil {
			t.Error(err)
		}
		if got := d.Output(); got != "begins" {
			t.Errorf("it wrote %q", got)
		}
		if err := d.Close(); err != nil { // killed, it leaves its file
			t.Fatal(err)
		}
	}
	daemon.Command = "echo no such interface >&2; exit 3"
	_, err := StartDaemon(t.Context(), f, ns, daemon)
	want := "node director: start quiet (echo no such interface >&2; exit 3): it ended before it wrote /run/quiet.pid: it exited with 3; a daemon must stay in the foreground; it wrote:\nno such interface"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwanted\n%s", err, want)
	}
	if _, err := f.Stat(daemon.Ready); !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("the file that was left is still there: %v", err)
	}
}
