package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/netns"
	"github.com/lvslab/lvslab/topology/probe"
)

func TestMain(m *testing.M) {
	guest.Main(inGuest)
	if len(os.Args) > 1 && os.Args[1] == probeArg {
		if err := json.NewEncoder(os.Stdout).Encode(probe.Features(context.Background(), every)); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	node.Main()
	if len(os.Args) > 2 && os.Args[1] == rootlessArg {
		os.Exit(doErrand(os.Args[2]))
	}
	os.Exit(m.Run())
}

// probeArg makes the test binary print what it finds, as JSON.
const probeArg = "host-test-probe"

// every feature, most of which User-Mode Linux has.
var every = []topology.Feature{
	"netns", "veth", "bridge", "ip_vs", "ip_vs_rr", "ip_vs_wlc", "ip_vs_mh", "ip_vs_twos", "ip_vs_pe_sip", "ipip", "sch_netem", "arp-rules", "overlay",
	"ip_vs-ipv6", "net.ipv4.vs.conntrack", "other-users",
}

const (
	// fakeModprobe is what the guest's kernel runs to load a module by itself;
	// it writes down what it was asked for.
	fakeModprobe = "/run/modprobe"
	asked        = "/run/asked"
)

// inGuest probes a kernel with modules: the guest's. Each word in Labs is
// something to do.
func inGuest(ctx context.Context, job wire.Job, load func(...string) error, emit func(wire.Event)) error {
	say := func(v any) error {
		text, err := json.Marshal(v)
		emit(wire.Event{Kind: wire.Log, Message: string(text)})
		return err
	}
	for _, word := range job.Labs {
		var err error
		word, arg, _ := strings.Cut(word, " ")
		switch word {
		case "probe":
			err = say(probe.Features(ctx, every))
		case "probe-userns":
			// Root, but only in a user namespace of its own.
			cmd := exec.CommandContext(ctx, "/proc/self/exe", probeArg)
			ids := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
			var out []byte
			if out, err = cmd.Output(); err == nil {
				emit(wire.Event{Kind: wire.Log, Message: string(out)})
			}
		case "load":
			err = load(strings.Fields(arg)...)
		case "trap":
			err = errors.Join(
				os.WriteFile(fakeModprobe, []byte("#!/bin/sh\necho \"$@\" >>"+asked+"\n"), 0o755),
				os.WriteFile("/proc/sys/kernel/modprobe", []byte(fakeModprobe), 0),
			)
		case "lists":
			dir := "/run/booted-system/kernel-modules/lib/modules/" + arg
			err = os.MkdirAll(dir, 0o755)
			for _, f := range job.Files {
				err = errors.Join(err, os.WriteFile(dir+"/"+f.Name, f.Data, 0o644))
			}
		case "deny":
			err = os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
		case "rootless":
			var out string
			if out, err = rootlessInGuest(ctx, job); err == nil {
				emit(wire.Event{Kind: wire.Log, Message: out})
			}
		case "seal":
			err = os.WriteFile("/proc/sys/kernel/modprobe", []byte("\n"), 0)
		case "asked":
			data, readErr := os.ReadFile(asked)
			if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
				return readErr
			}
			err = say(string(data))
		case "blunder":
			// What a probe must not do.
			var n *netns.Namespace
			if n, err = netns.New("blunder"); err != nil {
				return err
			}
			addErr := n.Netlink().LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d"}})
			if err = n.Close(); addErr == nil {
				return errors.New("there is a dummy link")
			}
		case "room":
			var uts unix.Sysinfo_t
			_ = unix.Sysinfo(&uts)
			most := 0
			for n := 1; probe.Room(n) == nil; n++ {
				most = n
			}
			err = say(fmt.Sprintf("%d nodes, %d MB free: %v", most, uts.Freeram>>20, probe.Room(most+1)))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

func bootGuest(t *testing.T) (kernel.Kernel, func(into any, files []wire.File, words ...string)) {
	t.Helper()
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		if os.Getenv("LVSLAB_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s, err := uml.Boot(t.Context(), uml.Config{Kernel: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return k, func(into any, files []wire.File, words ...string) {
		t.Helper()
		err := s.Run(t.Context(), wire.Job{Version: wire.Version, Labs: words, Files: files}, func(e wire.Event) {
			if err := json.Unmarshal([]byte(e.Message), into); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestProbeNeverLoads probes a real kernel that would load modules, and looks
// whether it was made to ask for one.
func TestProbeNeverLoads(t *testing.T) {
	if raceEnabled {
		t.Skip("a program built with -race cannot run in a guest")
	}
	k, run := bootGuest(t)
	how := "probe"
	check := func(what string, verdicts map[topology.Feature]probe.Verdict, otherwise probe.Verdict) {
		t.Helper()
		var answers []probe.Answer
		run(&answers, nil, how)
		if len(answers) != len(every) {
			t.Fatalf("%s: %d answers", what, len(answers))
		}
		for _, a := range answers {
			want, ok := verdicts[a.Feature]
			if !ok {
				want = otherwise
			}
			t.Logf("%s: %s: %s, %s; %s", what, a.Feature, a.Verdict, a.Why, a.Fix)
			if a.Verdict != want {
				t.Errorf("%s: %+v, want %s", what, a, want)
			}
		}
		var said string
		if run(&said, nil, "asked"); said != "" {
			t.Errorf("%s: the kernel asked for %q", what, said)
		}
	}

	run(nil, nil, "trap")
	// As in a container: what is built in is not to be seen. IPVS, and tunl0,
	// are told all the same.
	check("no lists", map[topology.Feature]probe.Verdict{"netns": probe.Yes, "ip_vs": probe.No, "ipip": probe.No, "ip_vs-ipv6": probe.No, "net.ipv4.vs.conntrack": probe.No, "other-users": probe.Yes}, probe.Unknown)

	run(nil, lists(t, k), "lists "+k.Release)
	check("lists, nothing loaded", map[topology.Feature]probe.Verdict{"netns": probe.Yes, "other-users": probe.Yes}, probe.No)

	run(nil, nil, "load veth bridge overlay nf_tables ip_vs ip_vs_rr ip_vs_wlc ip_vs_mh ip_vs_pe_sip ipip sch_netem arp_tables arptable_filter arpt_mangle")
	check("loaded", map[topology.Feature]probe.Verdict{"ip_vs_twos": probe.No}, probe.Yes)

	how = "probe-userns"
	check("user namespace", map[topology.Feature]probe.Verdict{
		"ip_vs_twos": probe.No, "ip_vs_pe_sip": probe.No, "ip_vs-ipv6": probe.No, "net.ipv4.vs.conntrack": probe.No, "other-users": probe.No,
		"overlay": probe.No, // not of a root with mounts that belong to somebody else
	}, probe.Yes)

	// The trap works.
	var said string
	if run(&said, nil, "blunder", "asked"); !strings.Contains(said, "rtnl-link-dummy") {
		t.Errorf("a link of an unknown type asked for %q", said)
	}
}

// TestProbeSealed probes a kernel whose autoloading is turned off, which leaves
// all trials free.
func TestProbeSealed(t *testing.T) {
	if raceEnabled {
		t.Skip("a program built with -race cannot run in a guest")
	}
	_, run := bootGuest(t)
	run(nil, nil, "seal", "load veth overlay ip_vs ip_vs_rr")
	var answers []probe.Answer
	run(&answers, nil, "probe")
	for _, a := range answers {
		t.Logf("%s: %s, %s; %s", a.Feature, a.Verdict, a.Why, a.Fix)
		want := probe.No
		switch a.Feature {
		case "netns", "veth", "ip_vs", "ip_vs_rr", "overlay", "ip_vs-ipv6", "net.ipv4.vs.conntrack", "other-users":
			want = probe.Yes
		}
		if a.Verdict != want {
			t.Errorf("%+v, want %s", a, want)
		}
	}
	var room string
	run(&room, nil, "room")
	t.Log(room)
}
