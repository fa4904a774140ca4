// Package inside runs the tests of rooms that meet a kernel inside a guest: the
// machine that runs `make test` may have no IPVS and no legacy ARP tables, and
// tests that skip for that would never run. The package has tests only.
package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
)

func TestMain(m *testing.M) {
	guest.Main(runTests)
	os.Exit(m.Run())
}

// modules are what the tests of all rooms need.
var modules = []string{
	"ipv6", "veth", "bridge", "ipip", "sch_netem", "sch_tbf", "arp_tables", "arptable_filter", "arpt_mangle",
	"iptable_raw", "iptable_mangle", "iptable_nat", "iptable_filter", "ip6table_raw", "ip6table_mangle", "ip6table_nat", "ip6table_filter",
	"xt_tcpudp", "xt_sctp", "xt_conntrack", "xt_mark", "xt_nat", "xt_MASQUERADE", "xt_TCPMSS", "xt_ipvs", "ipt_REJECT", "ip6t_REJECT",
	"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_lblc", "ip_vs_lblcr", "ip_vs_dh", "ip_vs_sh",
	"ip_vs_sed", "ip_vs_nq", "ip_vs_fo", "ip_vs_ovf", "ip_vs_mh", "ip_vs_pe_sip", "overlay", "nfs", "nfsv3",
}

// A room is a package with tests that meet a kernel.
type room struct {
	name string
	// only are the tests that run in the guest, a regular expression of go test's;
	// all where it is empty.
	only string
}

func rooms() []room {
	return []room{
		{name: "scenarios/ipvs"},
		{name: "topology"},
		{name: "topology/filter"},
		{name: "topology/capture"},
		{name: "runner/node/serve"},
		{name: "runner/node/tools"},
		{"runner/engine", "Inside$|^TestHang$|^TestStopKeepsFiles$|^TestCapture"},
		// No fork bombs: a guest has one CPU and little memory.
		{"runner/node", "^TestProgram$|^TestProgramHasNotTheRights$|^TestProgramSignals$|^TestProgramKill$|^TestTerminalHangsUp$|^TestToolbox$"},
	}
}

// runTests runs a test binary, the name of the job's one lab, in the guest. What
// follows a bar in the name are the tests to run.
func runTests(ctx context.Context, job wire.Job, load func(...string) error, emit func(wire.Event)) error {
	if err := load(modules...); err != nil {
		return err
	}
	// As a machine has it; labs have namespaces of their own.
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	binary, only, _ := strings.Cut(job.Labs[0], "|")
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.timeout=4m", "-test.run="+only)
	cmd.Dir = filepath.Dir(binary)
	cmd.Env = append(os.Environ(), "LVSLAB_REQUIRE=1", "GOGC=100", "LVSLAB_INSIDE=1")
	out, err := cmd.CombinedOutput()
	e := wire.Event{Kind: wire.LabFinished, Verdict: wire.Pass, Message: string(out)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.Verdict = wire.Fail
	} else if err != nil {
		return err
	}
	emit(e)
	return nil
}

func TestInside(t *testing.T) {
	missing := t.Skip
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		missing = t.Fatal
	}
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		missing(err)
	}
	for _, tool := range []string{"ipvsadm", "arptables-legacy", "iptables-legacy"} {
		if _, err := exec.LookPath(tool); err != nil {
			if _, err := os.Stat("/usr/sbin/" + tool); err != nil {
				missing(err)
			}
		}
	}
	// A guest has a /tmp of its own, so what it shall see lies elsewhere.
	dir, err := os.MkdirTemp("/var/tmp", "lvslab-inside-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, r := range rooms() {
		t.Run(r.name, func(t *testing.T) {
			out := run(t, k, dir, r)
			// A skip would mean that the guest is no better than the machine.
			for line := range strings.Lines(out) {
				skipped, ok := strings.CutPrefix(strings.TrimSpace(line), "--- SKIP: ")
				if ok && (r.only != "" || strings.HasPrefix(skipped, "TestGuest")) {
					t.Errorf("skipped in the guest: %s", skipped)
				}
			}
			passed := strings.Count("\n"+out, "\n--- PASS: ")
			if passed == 0 && !t.Failed() {
				t.Errorf("no test ran: %s", out)
			}
			t.Logf("%d tests passed in the guest", passed)
		})
	}
}

// run builds the tests of a room and runs them in a guest.
func run(t *testing.T, k kernel.Kernel, dir string, r room) string {
	t.Helper()
	folder := filepath.Join(dir, strings.ReplaceAll(r.name, "/", "-"))
	binary := filepath.Join(folder, "room.test")
	build := exec.Command("go", "test", "-c", "-o", binary, "github.com/lvslab/lvslab/"+r.name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testdata := filepath.Join("..", "..", "..", filepath.FromSlash(r.name), "testdata")
	if _, err := os.Stat(testdata); err == nil {
		if err := os.CopyFS(filepath.Join(folder, "testdata"), os.DirFS(testdata)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := uml.Boot(t.Context(), uml.Config{Kernel: k, Mem: 512 << 20, Log: t.Output(), Silence: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var last wire.Event
	err = s.Run(t.Context(), wire.Job{Version: wire.Version, Labs: []string{binary + "|" + r.only}}, func(e wire.Event) { last = e })
	if err != nil {
		t.Fatal(err)
	}
	if last.Verdict != wire.Pass {
		t.Errorf("%s", failed(last.Message))
	}
	return last.Message
}

// failed is what a test binary said of the tests that failed, or its end.
func failed(out string) string {
	const most = 6000
	if i := strings.Index(out, "--- FAIL"); i >= 0 {
		out = out[max(0, i-2000):]
	}
	if len(out) > most {
		out = out[:most] + fmt.Sprintf("\n… (%d bytes more)", len(out)-most)
	}
	return out
}
