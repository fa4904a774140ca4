package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lvslab/lvslab/topology"
)

var all = []topology.Feature{
	NetNS, Veth, Bridge, IPVS, "ip_vs_rr", "ip_vs_wlc", "ip_vs_nosuch", "ip_vs_pe_sip", IPIP, Netem, ARP, Overlay, "no_such_module",
}

// answersArg makes the test binary print what it finds, as JSON.
const answersArg = "probe-test-answers"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == answersArg {
		if err := json.NewEncoder(os.Stdout).Encode(Features(context.Background(), all)); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "making network namespaces needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		tb.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
	}
	tb.Skip(why)
}

func byFeature(answers []Answer) map[topology.Feature]Answer {
	m := make(map[topology.Feature]Answer)
	for _, a := range answers {
		m[a.Feature] = a
	}
	return m
}

// host is what probing could have changed of this machine.
func host(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"/proc/modules", "/proc/filesystems", "/proc/self/mountinfo", "/proc/sys/kernel/modprobe", "/proc/net/arp_tables_names"} {
		data, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:\n%s", name, data)
	}
	modules, _ := os.ReadDir("/sys/module")
	for _, m := range modules {
		fmt.Fprintln(&b, "/sys/module/"+m.Name())
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "link", l.Attrs().Name, l.Type(), l.Attrs().Flags, l.Attrs().MTU)
		qdiscs, err := netlink.QdiscList(l)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range qdiscs {
			fmt.Fprintln(&b, "qdisc", q.Type(), q.Attrs())
		}
	}
	families, err := netlink.GenlFamilyList()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		fmt.Fprintln(&b, "family", f.Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, "route", r)
	}
	return b.String()
}

// TestFeaturesHere asks the kernel that the test runs on. What it must have is
// what LVSLAB's own tests need; what it must not is decided by its own lists.
func TestFeaturesHere(t *testing.T) {
	needRoot(t)
	before := host(t)
	answers := Features(t.Context(), all)
	if after := host(t); after != before {
		t.Errorf("probing changed this machine.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	for i, a := range answers {
		t.Logf("%s: %s, %s; %s", a.Feature, a.Verdict, a.Why, a.Fix)
		if a.Feature != all[i] || a.Why == "" {
			t.Errorf("answer %d: %+v", i, a)
		}
		if a.Verdict == Yes && a.Fix != "" {
			t.Errorf("nothing to mend: %+v", a)
		}
	}
	got := byFeature(answers)
	if got[NetNS].Verdict != Yes {
		t.Errorf("netns: %+v", got[NetNS])
	}
	sys := readSystem(root{})
	families, err := netlink.GenlFamilyList()
	if err != nil {
		t.Fatal(err)
	}
	hasIPVS := slices.ContainsFunc(families, func(f *netlink.GenlFamily) bool { return f.Name == "IPVS" })
	if a := got[IPVS]; !hasIPVS {
		if a.Verdict != No || !strings.Contains(a.Why, "ip_vs") {
			t.Errorf("a kernel without IPVS: %+v", a)
		}
		for _, f := range []topology.Feature{"ip_vs_rr", "ip_vs_wlc", "ip_vs_nosuch", "ip_vs_pe_sip"} {
			if got[f].Verdict == Yes {
				t.Errorf("a kernel without IPVS: %+v", got[f])
			}
		}
		if sys.static && (a.Fix != "" || !strings.Contains(a.Why, "without loadable modules")) {
			t.Errorf("a kernel without modules: %+v", a)
		}
	}
	if a := got["ip_vs_nosuch"]; a.Verdict == Yes {
		t.Errorf("nobody has this scheduler: %+v", a)
	}
	if a := got["no_such_module"]; a.Verdict == Yes {
		t.Errorf("nobody has this module: %+v", a)
	}
}

func TestFeaturesStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	for _, a := range Features(ctx, all) {
		if a.Verdict != Unknown || !strings.Contains(a.Why, "enough") || a.Feature == "" {
			t.Errorf("got %+v", a)
		}
	}
	if got := Features(t.Context(), nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// TestFeaturesUnprivileged asks as an ordinary user.
func TestFeaturesUnprivileged(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", answersArg)
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = "/"
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var answers []Answer
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		t.Logf("%s: %s, %s; %s", a.Feature, a.Verdict, a.Why, a.Fix)
		if a.Why == "" {
			t.Errorf("no reason: %+v", a)
		}
	}
	got := byFeature(answers)
	if a := got[NetNS]; a.Verdict != No || !strings.Contains(a.Why, "root") {
		t.Errorf("netns: %+v", a)
	}
	for _, f := range []topology.Feature{Veth, Bridge, Netem, ARP, Overlay, IPIP, IPVS, "ip_vs_rr"} {
		if a := got[f]; a.Verdict == Yes {
			t.Errorf("it cannot be tried: %+v", a)
		}
	}
	if families, err := netlink.GenlFamilyList(); err == nil && !slices.ContainsFunc(families, func(f *netlink.GenlFamily) bool { return f.Name == "IPVS" }) {
		if a := got[IPVS]; a.Verdict != No {
			t.Errorf("that there is no IPVS can be told by anybody: %+v", a)
		}
	}
}

func TestMany(t *testing.T) {
	needRoot(t)
	fds := func() int { e, _ := os.ReadDir("/proc/self/fd"); return len(e) }
	Features(t.Context(), all)
	before := fds()
	for range 20 {
		Features(t.Context(), all)
	}
	if after := fds(); after > before+2 {
		t.Errorf("%d file descriptors before, %d after", before, after)
	}
}

func BenchmarkFeatures(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		Features(b.Context(), all)
	}
}
