package engine

import (
	"os/exec"
	"testing"
)

// RemoveNode takes a node out of the world, as switching it off does.
func (l *Live) RemoveNode(name string) error { return l.world.RemoveNode(name) }

// InNode runs a program of the machine in a node's namespace.
func (l *Live) InNode(t *testing.T, name string, args ...string) (out []byte, err error) {
	t.Helper()
	n, err := l.world.live(name)
	if err != nil {
		t.Fatal(err)
	}
	terr := n.Thread(func() error {
		out, err = exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		return nil
	})
	if terr != nil {
		t.Fatal(terr)
	}
	return out, err
}

// ProcNet is a file of a node's /proc/net, "" where there is none.
func (l *Live) ProcNet(t *testing.T, name, file string) string {
	t.Helper()
	n, err := l.world.live(name)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := n.ProcNet(file)
	return string(data)
}
