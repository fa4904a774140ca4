package keeper_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/keeper"
)

// TestTemp shows that what others have put where labs' folders go in /tmp is
// neither written to nor believed.
func TestTemp(t *testing.T) {
	temp, victim := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	none := func(string) string { return "" }
	own := filepath.Join(temp, fmt.Sprintf("lvslab-%d", os.Geteuid()))
	if err := os.Symlink(victim, own); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.Up(t.Context(), none, request("lab", "lab")); err == nil {
		t.Error("a lab came up behind a link of somebody else's")
	}
	if _, err := os.Lstat(filepath.Join(victim, "labs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written to where the link leads: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(victim, "labs", "lab"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names := keeper.Names(none); len(names) != 0 {
		t.Errorf("labs behind a link: %v", names)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	up(t, none, "lab", "lab")
	if err := keeper.Down(t.Context(), none, "lab"); err != nil {
		t.Error(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("to give a folder away needs root")
	}
	if err := os.MkdirAll(filepath.Join(own, "labs", "lab"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chown(own, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if names := keeper.Names(none); len(names) != 0 {
		t.Errorf("labs in another user's folder: %v", names)
	}
}
