package filter

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files from what arptables-legacy does")

// testNS is a network namespace that ends with the test.
type testNS struct {
	tb testing.TB
	fd int
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LVSLAB_REQUIRE") != "" {
		tb.Fatal("needs root for network namespaces, and LVSLAB_REQUIRE is set")
	}
	tb.Skip("needs root for network namespaces")
}

func newNS(tb testing.TB) *testNS {
	tb.Helper()
	needRoot(tb)
	ns := &testNS{tb: tb}
	err := onOwnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(ns.fd) })
	return ns
}

// onOwnThread runs f on a thread that is thrown away after it.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Do runs f on a thread in the namespace.
func (ns *testNS) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(ns.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (ns *testNS) must(f func() error) {
	ns.tb.Helper()
	if err := ns.Do(f); err != nil {
		ns.tb.Fatal(err)
	}
}

// run runs a program in the namespace.
func (ns *testNS) run(name string, args ...string) string {
	ns.tb.Helper()
	var out []byte
	ns.must(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		if err != nil {
			ns.tb.Logf("%s %v: %s", name, args, out)
		}
		return err
	})
	return string(out)
}

func needTool(tb testing.TB, name string) {
	tb.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tb.Skipf("%s is not installed", name)
	}
}

// needBackend skips where the kernel surely has not got it.
func needBackend(tb testing.TB, ns *testNS, b Backend) {
	tb.Helper()
	err := ns.Do(map[Backend]func() error{NFTables: probeNFT, ARPTables: probeLegacy}[b])
	if isAbsent(err) {
		tb.Skipf("this kernel has no %s: %v", b, err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func eachBackend(t *testing.T, f func(t *testing.T, b Backend)) {
	for _, b := range []Backend{NFTables, ARPTables} {
		t.Run(b.String(), func(t *testing.T) { f(t, b) })
	}
}

func TestReplaceAndList(t *testing.T) {
	eachBackend(t, func(t *testing.T, b Backend) {
		ns := newNS(t)
		needBackend(t, ns, b)
		ns.must(func() error {
			for _, rules := range [][]ArpRule{
				nil,
				typedRules(t),
				mustParse(t, "-A OUTPUT -j DROP", "-A INPUT -d 1.2.3.4 -j DROP", "-A OUTPUT -s 1.2.3.4 -j ACCEPT", "-A INPUT -d 1.2.3.4 -j DROP"),
				slices.Repeat(typedRules(t), 20),
				nil,
			} {
				if err := b.Replace(rules); err != nil {
					return err
				}
				got, err := b.List()
				if err != nil {
					return err
				}
				if !slices.Equal(got, Canonical(rules)) {
					t.Errorf("List gives\n%swanted\n%s", lines(got), lines(Canonical(rules)))
				}
			}
			return nil
		})
	})
}

func TestReplaceInvalid(t *testing.T) {
	ns := newNS(t)
	ns.must(func() error {
		for _, b := range []Backend{NFTables, ARPTables, "ebtables", ""} {
			if err := b.Replace([]ArpRule{{Chain: "FORWARD", Target: Drop}}); err == nil || !strings.Contains(err.Error(), "FORWARD") {
				t.Errorf("%s takes a rule in FORWARD: %v", b, err)
			}
		}
		if err := Backend("").Replace(nil); err == nil || !strings.Contains(err.Error(), "see Detect") {
			t.Errorf("no backend: %v", err)
		}
		return nil
	})
}

func TestDetect(t *testing.T) {
	ns := newNS(t)
	var b Backend
	ns.must(func() (err error) {
		if b, err = Detect(); err != nil {
			return err
		}
		if b != NFTables && b != ARPTables {
			t.Errorf("Detect gives %q", b)
		}
		rules, err := b.List()
		if len(rules) != 0 {
			t.Errorf("Detect left %v", rules)
		}
		return err
	})
	if _, err := exec.LookPath("nft"); err == nil && b == NFTables {
		if out := ns.run("nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
			t.Errorf("Detect left:\n%s", out)
		}
	}
}

// TestDetectUnprivileged is the third answer: neither yes nor no.
func TestDetectUnprivileged(t *testing.T) {
	needRoot(t)
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		// Capabilities are a thread's own; the thread ends here.
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			t.Fatal(err)
		}
		_, err := Detect()
		return err
	})
	if err == nil || isErrNoBackend(err) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without capabilities: %v", err)
	}
}

func isErrNoBackend(err error) bool { return strings.Contains(err.Error(), ErrNoBackend.Error()) }

// legacyTool writes typed's rules with arptables-legacy.
func legacyTool(t *testing.T) *testNS {
	needTool(t, "arptables-legacy")
	ns := newNS(t)
	needBackend(t, ns, ARPTables)
	for _, c := range typed {
		ns.run("arptables-legacy", strings.Fields(c.words)...)
	}
	return ns
}

// saveOf is arptables-legacy-save's text, made as its Perl script makes it
// but of arptables-legacy, because the script calls whatever arptables is.
func saveOf(ns *testNS) string {
	chain, policies, rules := "", "", ""
	for _, l := range strings.Split(ns.run("arptables-legacy", "-t", "filter", "-L", "-n"), "\n") {
		if name, policy, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(l, "Chain "), ")"), " (policy "); ok {
			chain = name
			policies += ":" + name + " " + policy + "\n"
		} else if l != "" {
			rules += "-A " + chain + " " + l + "\n"
		}
	}
	return "*filter\n" + policies + rules + "\n"
}

// TestToolGolden compares the golden files with what arptables-legacy does
// here; -update writes them.
func TestToolGolden(t *testing.T) {
	ns := legacyTool(t)
	var blob string
	ns.must(func() error {
		fd, err := openLegacy()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		tb, err := legacyTable(fd)
		blob = formatBlob(tb)
		return err
	})
	save := saveOf(ns)
	if script, err := filepath.EvalSymlinks("/usr/sbin/arptables"); err == nil && filepath.Base(script) == "arptables-legacy" {
		if diff := cmp.Diff(ns.run("arptables-legacy-save"), save); diff != "" {
			t.Errorf("arptables-legacy-save differs (- its, + ours):\n%s", diff)
		}
	}
	for name, got := range map[string]string{blobFile: blob, "testdata/arptables-legacy-save.txt": save} {
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, []byte(got)) {
			t.Errorf("%s is not what arptables-legacy does here; run go test -run TestToolGolden -update and look", name)
		}
	}
}

func TestToolReadsLegacy(t *testing.T) {
	needTool(t, "arptables-legacy")
	ns := newNS(t)
	needBackend(t, ns, ARPTables)
	ns.must(func() error { return ARPTables.Replace(typedRules(t)) })
	if diff := cmp.Diff(FormatSave(typedRules(t)), saveOf(ns)); diff != "" {
		t.Errorf("arptables-legacy sees others (- ours, + the tool's):\n%s", diff)
	}
}

func TestListReadsTool(t *testing.T) {
	ns := legacyTool(t)
	ns.must(func() error {
		got, err := ARPTables.List()
		if !slices.Equal(got, Canonical(typedRules(t))) {
			t.Errorf("List gives\n%swanted\n%s", lines(got), lines(Canonical(typedRules(t))))
		}
		return err
	})
	// What no ArpRule can say is an error that names it.
	ns.run("arptables-legacy", "-N", "mine")
	ns.must(func() error {
		if _, err := ARPTables.List(); err == nil || !strings.Contains(err.Error(), "user chain") {
			t.Errorf("with a user chain: %v", err)
		}
		return nil
	})
	ns.run("arptables-legacy", "-X", "mine")
	ns.run("arptables-legacy", "-A", "FORWARD", "-j", "DROP")
	ns.must(func() error {
		if _, err := ARPTables.List(); err == nil || !strings.Contains(err.Error(), "FORWARD") {
			t.Errorf("with a rule in FORWARD: %v", err)
		}
		return ARPTables.Replace(nil)
	})
	if got := saveOf(ns); got != FormatSave(nil) {
		t.Errorf("after Replace(nil) the tool sees:\n%s", got)
	}
}

func TestToolReadsNFT(t *testing.T) {
	needTool(t, "nft")
	ns := newNS(t)
	needBackend(t, ns, NFTables)
	ns.must(func() error {
		return NFTables.Replace(mustParse(t,
			"-A INPUT -d 172.25.12.100 -j DROP",
			"-A INPUT -i eth+ ! -s 10.0.0.0/8 --opcode Request -j ACCEPT",
			"-A OUTPUT -o eth0 -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2",
		))
	})
	got := ns.run("nft", "list", "ruleset")
	for _, want := range []string{
		"table arp filter {", "type filter hook input priority filter; policy accept;",
		"arp daddr ip 172.25.12.100 counter packets 0 bytes 0 drop",
		`iifname "eth*" arp operation request arp saddr ip != 10.0.0.0/8 counter packets 0 bytes 0 accept`,
		"type filter hook output priority filter; policy accept;",
		`oifname "eth0" arp saddr ip 172.25.12.100 counter packets 0 bytes 0 arp saddr ip set 172.25.12.2 accept`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("nft does not show %q but:\n%s", want, got)
		}
	}
	ns.must(func() error { return NFTables.Replace(nil) })
	if got := ns.run("nft", "list", "ruleset"); strings.TrimSpace(got) != "" {
		t.Errorf("Replace(nil) left:\n%s", got)
	}
}

func TestListReadsNFT(t *testing.T) {
	needTool(t, "nft")
	ns := newNS(t)
	needBackend(t, ns, NFTables)
	nft := func(words string) { ns.run("nft", strings.Fields(words)...) }
	nft("add table arp filter")
	nft("add chain arp filter in { type filter hook input priority 0 ; }")
	nft("add chain arp filter out { type filter hook output priority 0 ; }")
	nft("add rule arp filter in arp daddr ip 172.25.12.100 drop")
	nft("add rule arp filter in iifname eth0 arp saddr ip != 10.1.0.0/16 arp daddr ip 10.0.0.0/9 arp operation reply accept")
	nft("add rule arp filter in arp saddr ether 02:00:00:00:00:01 counter drop")
	// As arptables-nft 1.8.9 writes "-A INPUT -d 172.25.12.100 -j DROP".
	nft("add rule arp filter in arp htype 1 arp hlen 6 arp plen 4 arp daddr ip 172.25.12.100 counter drop")
	nft("add rule arp filter out arp saddr ip 172.25.12.100 arp saddr ip set 172.25.12.2")
	want := mustParse(
		t, "-A INPUT -d 172.25.12.100 -j DROP",
		"-A INPUT -i eth0 ! -s 10.1.0.0/16 -d 10.0.0.0/9 --opcode Reply -j ACCEPT",
		"-A INPUT --source-mac 02:00:00:00:00:01 -j DROP",
		"-A INPUT -d 172.25.12.100 -j DROP",
		"-A OUTPUT -s 172.25.12.100 -j mangle --mangle-ip-s 172.25.12.2 --mangle-target CONTINUE",
	)
	ns.must(func() error {
		got, err := NFTables.List()
		if !slices.Equal(got, want) {
			t.Errorf("List gives\n%swanted\n%s", lines(got), lines(want))
		}
		return err
	})
	for _, c := range []struct{ words, want string }{
		{"add rule arp filter in arp htype 1 accept", "--h-type"},
		{"add rule arp filter in ether saddr 02:00:00:00:00:01 accept", "is not supported"},
		{"add rule arp filter in counter", "without a verdict"},
		{"add rule arp filter in meta mark 1 accept", "meta key"},
		{"add rule arp filter in limit rate 1/second accept", "Limit"},
		{"add chain arp filter mine", "user chains"},
		{"add chain arp filter in2 { type filter hook input priority 1 ; }", "same hook"},
		{"add chain arp filter in2 { type filter hook input priority 1 ; policy drop ; }", ""},
	} {
		nft("flush table arp filter")
		nft(c.words)
		ns.must(func() error {
			if _, err := NFTables.List(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, wanted an error with %q", c.words, err, c.want)
			}
			return nil
		})
		if strings.Contains(c.words, "add chain") {
			nft("delete chain " + strings.Join(strings.Fields(c.words)[2:5], " "))
		}
	}
	nft("add table arp foreign")
	nft("add chain arp foreign in { type filter hook input priority 0 ; }")
	ns.must(func() error {
		if err := NFTables.Replace(nil); err == nil || !strings.Contains(err.Error(), "nft delete table arp foreign") {
			t.Errorf("with a foreign table: %v", err)
		}
		return nil
	})
}
