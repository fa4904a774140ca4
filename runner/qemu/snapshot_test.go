package qemu_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/qemu"
)

// logged is a guest and what was told of its start.
type logged struct {
	*machine.Session
	log  string
	took time.Duration
}

func startLogged(t *testing.T, c qemu.Config) logged {
	t.Helper()
	var log bytes.Buffer
	c.Kernel, c.Self, c.Log = testKernel(t), self, &log
	begin := time.Now()
	s, err := qemu.Boot(t.Context(), c)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Cleanup(s.Close)
	l := logged{s, log.String(), time.Since(begin)}
	t.Logf("up after %v: %s", l.took, l.log)
	return l
}

// folder is what is in the folder of snapshots.
func folder(t *testing.T, cache string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(cache, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// fakeKVM is a QEMU that does instead of KVM what the script says.
func fakeKVM(t *testing.T, script string) string {
	t.Helper()
	real, err := exec.LookPath(qemu.Program)
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "qemu")
	text := "#!/bin/sh\ncase \" $* \" in *\" -accel kvm \"*)\n" + script + "\nesac\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func hasKVM() bool { return unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) == nil }

// TestSnapshot starts guests from one that has booted: they are as good, and
// nobody else's twin. Their QEMU has a KVM that does not work, which is tried once.
func TestSnapshot(t *testing.T) {
	cache := t.TempDir()
	testKernel(t)
	c := qemu.Config{Cache: cache, Program: fakeKVM(t, "echo kvm: no such luck; exit 1")}
	jobs := []string{"random", "time", "load ip_vs ip_vs_rr nf_tables", "sh cut -d' ' -f1 /proc/modules | sort", "sh cat /proc/mounts"}
	cold := startLogged(t, c)
	first := run(t, cold.Session, jobs...)
	if strings.Contains(cold.log, "snapshot") || hasKVM() && !strings.Contains(cold.log, "no KVM: a guest did not boot by it: did not boot (exit status 1)") {
		t.Errorf("the first start: %s", cold.log)
	}
	if all := qemu.SnapshotsOf(cache); all.Count != 1 || all.Bytes < 10<<20 {
		t.Fatalf("%+v", all)
	}
	said := append([][]string{first}, twins(t, c, jobs)...)
	for i, got := range said {
		for j := range i {
			for part := range strings.FieldsSeq(got[0]) {
				if part != "<nil>" && strings.Contains(said[j][0], part) {
					t.Errorf("two guests drew the same: %q and %q", got[0], said[j][0])
				}
			}
		}
		for n := 2; n < len(jobs); n++ {
			if got[n] != first[n] {
				t.Errorf("%s: a guest that has booted says\n%s\nand one from a snapshot\n%s", jobs[n], first[n], got[n])
			}
		}
	}

	// A byte that is another one is seen, and a new snapshot made.
	names := folder(t, cache)
	path := ""
	for _, n := range names {
		if strings.HasSuffix(n, ".snapshot") {
			path = filepath.Join(cache, "snapshots", n)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	again := startLogged(t, c)
	if !strings.Contains(again.log, "is damaged") || run(t, again.Session, "echo hello")[0] != "hello" {
		t.Errorf("from a damaged snapshot: %s", again.log)
	}
	if now, err := os.ReadFile(path); err != nil || bytes.Equal(now, data) {
		t.Errorf("the damaged snapshot is still there, %v", err)
	}
	if left := folder(t, cache); len(left) != len(names) {
		t.Errorf("left are %q, were %q", left, names)
	}
}

// twins are what two guests say that start from the same snapshot at once.
func twins(t *testing.T, c qemu.Config, jobs []string) [][]string {
	t.Helper()
	var said [][]string
	var mu sync.Mutex
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			before := time.Now()
			s := startLogged(t, c)
			got := run(t, s.Session, jobs...)
			after := time.Now()
			switch {
			case !strings.Contains(s.log, "from the snapshot "+c.Cache), strings.Contains(s.log, "does not start"):
				t.Errorf("a next start: %s", s.log)
			case hasKVM() && !strings.Contains(s.log, "no KVM: a guest did not boot by it at "):
				t.Errorf("KVM was tried again: %s", s.log)
			}
			// Both clocks are the host's, but for what one may lose meanwhile.
			const slack = 2 * time.Second
			if ns, err := strconv.ParseInt(got[1], 10, 64); err != nil || time.Unix(0, ns).Before(before.Add(-slack)) || time.Unix(0, ns).After(after.Add(slack)) {
				t.Errorf("the guest has the time %s, asked between %d and %d", got[1], before.UnixNano(), after.UnixNano())
			}
			mu.Lock()
			defer mu.Unlock()
			said = append(said, got)
		})
	}
	both.Wait()
	return said
}

// TestKVM boots by a KVM that works, as far as anybody can tell.
func TestKVM(t *testing.T) {
	testKernel(t)
	if !hasKVM() {
		t.Skip("/dev/kvm cannot be opened")
	}
	cache := t.TempDir()
	c := qemu.Config{Cache: cache, NoSnapshot: true, Program: fakeKVM(t, `
		for word; do
			shift
			[ "$word" != kvm ] || word=tcg
			set -- "$@" "$word"
		done`)}
	s := startLogged(t, c)
	if strings.Contains(s.log, "no KVM") || !strings.Contains(s.log, "is tried for 5s") {
		t.Skip("emulated, it took longer than KVM may: ", s.log)
	}
	data, err := os.ReadFile(filepath.Join(cache, "kvm.json"))
	if err != nil || !bytes.Contains(data, []byte(`"works": true`)) {
		t.Errorf("remembered is %s, %v", data, err)
	}
}
