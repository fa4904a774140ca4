package node

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// A node finds the programs of its toolbox, those that win over the machine's
// and those that do not, and they are this very program; without a toolbox there
// is nothing of it.
func TestToolbox(t *testing.T) {
	ns := newNode(t, "box")
	f := NewFiles("box", ns)
	t.Cleanup(func() { f.Close() })
	ended := make(chan struct{})
	f.SetToolbox(func() Toolbox {
		return Toolbox{
			First: []string{"ls"}, Last: []string{"sh", "no-such-program"},
			Argument: "-test.list=^TestToolbox$",
			Folders:  []string{"/etc/of-the-box"}, Files: map[string]string{"/etc/of-the-box/a": "one\n", "/etc/passwd": "two\n"},
			Control: func(l net.Listener) {
				defer close(ended)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "hello\n")
					conn.Close()
				}
			},
		}
	})
	script := `for c in ls sh no-such-program; do command -v $c; done; ls; no-such-program
cat /etc/of-the-box/a; head -c 4 /etc/passwd; echo
ls() { /bin/ls "$@"; }; ls -l /run/lvslab/control | cut -c1-10
echo x >> /run/lvslab/lvslab || echo read-only`
	out := Run(t.Context(), f, Command{Shell: script, Combined: true})
	got := string(out.Stdout)
	for _, want := range []string{
		"/run/lvslab/first/ls\n", "bin/sh\n", "/run/lvslab/bin/no-such-program\n", "one\nroot\n", "srw-------\n", "read-only\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("said %q, wanted %q", got, want)
		}
	}
	if n := strings.Count(got, "TestToolbox\n"); n != 2 {
		t.Errorf("the program was run %d times: %q", n, got)
	}
	v, done, err := f.use()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", procPath(v.root)+ControlPath)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(conn); err != nil || string(said) != "hello\n" {
		t.Errorf("the control socket said %q, %v", said, err)
	}
	conn.Close()
	done()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	<-ended

	plain := NewFiles("plain", ns)
	t.Cleanup(func() { plain.Close() })
	if out := Run(context.Background(), plain, Command{Shell: "echo $PATH; ls /run", Combined: true}); strings.Contains(string(out.Stdout), "lvslab") {
		t.Errorf("a node without a toolbox: %q", out.Stdout)
	}
}

// Where this program cannot be found, or another one lies in its place, the node
// gets a copy.
func TestToolboxCopies(t *testing.T) {
	k := &kit{copied: true, size: 5}
	if k.room() != 5 {
		t.Errorf("room for %d bytes", k.room())
	}
	var none *kit
	if none.room() != 0 || none.install() != nil || none.listen(nil) != nil {
		t.Error("no kit does something")
	}
	none.close()
}
