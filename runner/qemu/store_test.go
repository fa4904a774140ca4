package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// put keeps a snapshot with this content.
func put(t *testing.T, s *store, key, text string) {
	t.Helper()
	n, err := s.save(key)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	if _, err := n.f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := n.keep(); err != nil {
		t.Fatal(err)
	}
}

func (s *store) names(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestStore(t *testing.T) {
	s := newStore(t.TempDir())
	if _, _, err := s.open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty store: %v", err)
	}
	put(t, s, "a", "machine")
	put(t, s, "a", "another") // who comes second keeps the first one's
	f, tr, err := s.open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text := make([]byte, tr.Size)
	if _, err := f.Read(text); err != nil || string(text) != "machine" {
		t.Errorf("%q, %v", text, err)
	}
	if err := check(f, tr); err != nil {
		t.Error(err)
	}
	if at, err := f.Seek(0, 1); err != nil || at != 7 {
		t.Errorf("the check moved the offset to %d, %v", at, err)
	}

	// One that is on its way is not seen, and a second one does not begin.
	n, err := s.save("b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.save("c"); !errors.Is(err, errBusy) {
		t.Errorf("two at once: %v", err)
	}
	if _, err := n.f.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	if got := s.names(t); got != ".lock a.snapshot" {
		t.Errorf("while one is written: %s", got)
	}
	n.close()
	if got := s.names(t); got != ".lock a.snapshot" {
		t.Errorf("after it was given up: %s", got)
	}
	s.remove(f)
	if got := s.names(t); got != ".lock" {
		t.Errorf("after it was removed: %s", got)
	}
}

func TestStoreDamage(t *testing.T) {
	s := newStore(t.TempDir())
	put(t, s, "a", strings.Repeat("machine", 1000))
	whole, err := os.ReadFile(s.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int) []byte {
		other := append([]byte{}, whole...)
		other[at] ^= 1
		return other
	}
	for name, data := range map[string][]byte{
		"empty":       {},
		"short":       whole[:10],
		"truncated":   whole[:len(whole)-1],
		"half":        whole[:len(whole)/2],
		"longer":      append(append([]byte{}, whole...), 0),
		"first byte":  change(0),
		"last byte":   change(len(whole) - 25),
		"magic":       change(len(whole) - 24),
		"size":        change(len(whole) - 16),
		"checksum":    change(len(whole) - 8),
		"not a store": []byte(strings.Repeat("x", 100)),
	} {
		if err := os.WriteFile(s.path("a"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, tr, err := s.open("a")
		if err != nil {
			continue
		}
		if check(f, tr) == nil {
			t.Errorf("%s: taken for sound", name)
		}
		_ = f.Close()
	}
}

func TestStoreSweeps(t *testing.T) {
	s := newStore(t.TempDir())
	for i := range snapshotsKept + 3 {
		put(t, s, fmt.Sprint(i), "machine")
		at := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(s.path(fmt.Sprint(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	// What is used stays.
	f, _, err := s.open("3")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put(t, s, "new", "machine")
	if all := SnapshotsOf(filepath.Dir(s.dir)); all.Count != snapshotsKept || all.Bytes != int64(snapshotsKept*(7+24)) {
		t.Errorf("%+v", all)
	}
	for _, key := range []string{"3", "new"} {
		if _, err := os.Stat(s.path(key)); err != nil {
			t.Error(err)
		}
	}
}

// TestStoreFails: nothing is kept where nothing can be written, and of what did not
// fit on the disk.
func TestStoreFails(t *testing.T) {
	if _, err := newStore("/proc").save("a"); err == nil {
		t.Error("a snapshot in /proc")
	}
	s := newStore(t.TempDir())
	n, err := s.save("a")
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	_ = n.f.Close()
	if n.f, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if err := n.keep(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	if got := s.names(t); got != ".lock" {
		t.Errorf("left: %s", got)
	}
}

func TestSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept", "sums.json")
	file := filepath.Join(t.TempDir(), "file")
	sum := func(text string) string {
		t.Helper()
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := readSums(path)
		got, err := s.of(file)
		if err != nil {
			t.Fatal(err)
		}
		s.write()
		return got
	}
	a := sum("a")
	if got := sum(""); got != a || a != "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" {
		t.Errorf("%s, then %s", a, got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if sum("b") == a {
		t.Error("another file has the same sum")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if sum("a") != a {
		t.Error("after damage, the sum is another one")
	}
	if _, err := readSums(path).of(file + ".gone"); err == nil {
		t.Error("the sum of nothing")
	}
}
