package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

// rootlessArg makes the test binary do as nobody what the file that follows it
// asks for, an errand, and print what came of it as JSON.
const rootlessArg = "host-test-rootless"

// errand is for a process that is not root.
type errand struct {
	// Probe are features to ask about.
	Probe []topology.Feature
	// Files are labs to run.
	Files []wire.File
	// Hold has it print a line when a lab is up, and wait to be killed.
	Hold bool
}

// outcome is what came of an errand.
type outcome struct {
	Answers []probe.Answer
	Can     runner.Answer
	IPVS    runner.Answer // of a lab of the tutorial
	Kernel  string
	// Labs are the last words about each lab, by its name.
	Labs  map[string]wire.Event
	Steps []wire.Event
	Error string
}

// doErrand is the process.
func doErrand(path string) int {
	var e errand
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	b := New()
	o := outcome{Labs: make(map[string]wire.Event)}
	if e.Hold {
		return hold(ctx, b, e)
	}
	if len(e.Probe) > 0 {
		o.Answers, o.Can, o.IPVS = b.Features(ctx, e.Probe), b.Can(ctx, e.Probe), b.Can(ctx, needs)
	}
	if len(e.Files) > 0 {
		_, err := runner.Run(ctx, runner.Options{Files: e.Files, Backends: []runner.Backend{b}, Kernel: Name}, func(ev wire.Event) {
			switch ev.Kind {
			case wire.RunStarted:
				o.Kernel = ev.Kernel
			case wire.LabFinished:
				o.Labs[ev.Lab] = ev
			case wire.StepFinished:
				if ev.Verdict != wire.Pass {
					o.Steps = append(o.Steps, ev)
				}
			}
		})
		if err != nil {
			o.Error = err.Error()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		return 1
	}
	return 0
}

// hold brings a lab up, runs a program in it and keeps it until the process is
// killed.
func hold(ctx context.Context, b *Backend, e errand) int {
	s, err := b.Boot(ctx)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	lab, err := s.Up(ctx, wire.Job{Version: wire.Version, Files: e.Files, Labs: []string{e.Files[0].Name}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var out bytes.Buffer
	exit, err := lab.Exec(ctx, live.Exec{Node: "one", Args: []string{"sh", "-c", "hostname; ping -c 1 -q 10.0.0.2 >&2"}}, live.Streams{Stdout: &out, Stderr: io.Discard})
	if err != nil || exit.Code != 0 || out.String() != "one\n" {
		fmt.Printf("exec: %v, %+v, %q\n", err, exit, out.String())
		return 1
	}
	fmt.Println("up")
	<-ctx.Done()
	return 0
}

// asNobody makes a process not root.
func asNobody(cmd *exec.Cmd) {
	const nobody = 65534
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// rootlessInGuest runs an errand in the guest.
func rootlessInGuest(ctx context.Context, job wire.Job) (string, error) {
	const path = "/run/errand.json"
	if err := os.WriteFile(path, job.Files[0].Data, 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, guest.Self, rootlessArg, path)
	asNobody(cmd)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	return string(out), nil
}

func errandFile(t *testing.T, e errand) wire.File {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return wire.File{Path: "errand", Name: "errand", Data: data}
}

func shipped(t *testing.T, names ...string) []wire.File {
	t.Helper()
	var files []wire.File
	for _, name := range names {
		path := filepath.Join("..", "..", "labs", name+".yaml")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, wire.File{Path: path, Name: name, Data: data})
	}
	return files
}

// rootlessModules are what root has loaded on the machine that the guest is.
const rootlessModules = "nf_tables veth bridge overlay ip_vs ip_vs_rr ip_vs_wlc ip_vs_wrr ip_vs_sh ip_vs_pe_sip ipip sch_netem " +
	"arp_tables arptable_filter arpt_mangle iptable_filter iptable_nat iptable_mangle xt_conntrack xt_MASQUERADE xt_ipvs nf_conntrack"

// Labs on a real kernel with ip_vs loaded, by nobody: what IPVS's older interface
// can do passes, and what it cannot is lacking and not broken.
func TestGuestRootless(t *testing.T) {
	if raceEnabled {
		t.Skip("a program built with -race cannot run in a guest")
	}
	k, run := bootGuest(t)
	run(nil, lists(t, k), "trap", "lists "+k.Release, "load "+rootlessModules)

	want := map[topology.Feature]probe.Verdict{
		"netns": probe.Yes, "veth": probe.Yes, "bridge": probe.Yes, "sch_netem": probe.Yes, "ipip": probe.Yes, "arp-rules": probe.Yes,
		"overlay": probe.Yes, "ip_vs": probe.Yes, "ip_vs_rr": probe.Yes, "ip_vs_sh": probe.Yes,
		"ip_vs-ipv6": probe.No, "ip_vs-gue": probe.No, "ip_vs-gre": probe.No, "ip_vs-sync": probe.No, "ip_vs_pe_sip": probe.No,
		"net.ipv4.vs.conntrack": probe.No, // on 6.1; later kernels show it
	}
	var e errand
	for f := range want {
		e.Probe = append(e.Probe, f)
	}
	passes := []string{"dr/sysctl", "dr/save-restore", "nat/two-networks", "tun/from-dr"}
	lacks := map[string]string{"ipv6/dr": "ip_vs-ipv6", "fullnat/same-network": "net.ipv4.vs.conntrack"}
	for name := range lacks {
		e.Files = append(e.Files, shipped(t, name)...)
	}
	e.Files = append(e.Files, shipped(t, passes...)...)
	var o outcome
	run(&o, []wire.File{errandFile(t, e)}, "rootless")
	for _, a := range o.Answers {
		t.Logf("%s: %s, %s", a.Feature, a.Verdict, a.Why)
		if a.Verdict != want[a.Feature] {
			t.Errorf("%+v, wanted %s", a, want[a.Feature])
		}
	}
	if o.Can.Verdict != runner.No || !o.Can.Partly || !slices.Contains(o.Can.Lacks, "ip_vs-ipv6") || !strings.Contains(o.Can.Why, "IPv6 only from root") {
		t.Errorf("Can: %+v", o.Can)
	}
	if o.Error != "" || !strings.HasSuffix(o.Kernel, "(this machine's own, without root)") {
		t.Errorf("kernel %q, error %s", o.Kernel, o.Error)
	}
	for _, name := range passes {
		if ev := o.Labs[name]; ev.Verdict != wire.Pass {
			t.Errorf("%s: %s %s", name, ev.Verdict, ev.Message)
		} else {
			t.Logf("%s: %s in %.2f s", name, ev.Verdict, ev.Seconds)
		}
	}
	for name, feature := range lacks {
		if ev := o.Labs[name]; ev.Verdict != wire.Skip || !strings.Contains(ev.Message, "lacks") || !strings.Contains(ev.Message, feature) {
			t.Errorf("%s: %s %s", name, ev.Verdict, ev.Message)
		}
	}
	for _, ev := range o.Steps {
		text, _ := json.MarshalIndent(ev.Step, "", " ")
		t.Logf("%s: %s", ev.Lab, text)
	}
	// Nothing of it made the kernel load anything, but what every program does
	// that asks for an IPv6 socket.
	var said string
	if run(&said, nil, "asked"); strings.ReplaceAll(said, "-q -- net-pf-10\n", "") != "" {
		t.Errorf("the kernel asked for %q", said)
	}

	// Where user namespaces are denied it is said, and what can be told without.
	o = outcome{}
	run(&o, []wire.File{errandFile(t, errand{Probe: []topology.Feature{"netns", "ip_vs"}, Files: e.Files[:1]})}, "deny", "rootless")
	if a := o.Answers[0]; a.Verdict != probe.No || !strings.Contains(a.Why, "needs root") || !strings.Contains(a.Why, "no user namespace for it: no more namespaces") {
		t.Errorf("denied: %+v", a)
	}
	if o.Can.Verdict != runner.No || o.Can.Partly || !slices.Contains(o.Can.Fix, "sudo lvslab run --kernel host") || !strings.Contains(o.Error, "--kernel uml") {
		t.Errorf("denied: %+v, %s", o.Can, o.Error)
	}
}

// lists are what a distribution's package says of a kernel's modules.
func lists(t *testing.T, k kernel.Kernel) []wire.File {
	t.Helper()
	var lists []wire.File
	for _, name := range []string{"modules.builtin", "modules.dep"} {
		data, err := os.ReadFile(filepath.Join(k.Modules, name))
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, wire.File{Name: name, Data: data})
	}
	return lists
}

// selfForNobody is a copy of this program that anybody can start.
func selfForNobody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "lvslab-host-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "host.test")
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return self
}

// nobody runs an errand on this machine.
func nobody(t *testing.T, self string, e errand) *exec.Cmd {
	t.Helper()
	path := filepath.Join(filepath.Dir(self), "errand.json")
	if err := os.WriteFile(path, errandFile(t, e).Data, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, rootlessArg, path)
	asNobody(cmd)
	return cmd
}

// On this machine, whatever it has: a lab without IPVS runs where user
// namespaces are allowed, and where they are not it is said.
func TestRootlessHere(t *testing.T) {
	self := selfForNobody(t)
	const files = `title: files
networks: {lan: 10.0.0.0/24}
nodes:
  one: {links: {eth0: lan 10.0.0.1/24}}
  two: {links: {eth0: lan 10.0.0.2/24}, serve: [http]}
steps:
- name: they hear each other
  do: [ping: {from: one, to: two}]
- name: a node's files are its own
  do: [run: {node: one, command: "echo mine >>/etc/hosts && touch /var/lib/mine /mine && grep mine /etc/hosts && test $(id -u) = 0"}]
  expect: [output: {matches: mine}]
`
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	cmd := nobody(t, self, errand{Probe: []topology.Feature{"netns", "overlay"}, Files: []wire.File{{Path: "files.yaml", Name: "files", Data: []byte(files)}}})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", o.Answers)
	if o.Answers[0].Verdict != probe.Yes {
		if !strings.Contains(o.Answers[0].Why, "user namespace") || !strings.Contains(o.Error, "user namespace") {
			t.Errorf("%+v, %s", o.Answers, o.Error)
		}
		return
	}
	// Root is of no use where the kernel has no IPVS.
	if o.IPVS.Verdict == runner.No && (o.IPVS.Partly || !slices.Contains(o.IPVS.Lacks, "ip_vs") || slices.Contains(o.IPVS.Fix, "sudo lvslab run --kernel host")) {
		t.Errorf("a lab with IPVS: %+v", o.IPVS)
	}
	switch e := o.Labs["files"]; {
	case o.Answers[1].Verdict != probe.Yes && e.Verdict == wire.Skip:
	case e.Verdict != wire.Pass:
		t.Errorf("%+v\n%+v", e, o)
	}
	if after, err := os.ReadFile("/etc/hosts"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the machine's file was changed: %v\n%s", err, after)
	}
}

// Killed in the middle of a lab, it leaves no process.
func TestRootlessKilled(t *testing.T) {
	self := selfForNobody(t)
	cmd := nobody(t, self, errand{Hold: true, Files: []wire.File{{Path: "lab.yaml", Name: "lab", Data: []byte(lab)}}})
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	defer kill()
	line := make([]byte, 300)
	n, _ := stdout.Read(line)
	if said := string(line[:n]); said != "up\n" {
		if strings.Contains(said, "user namespace") {
			t.Skip(said)
		}
		t.Fatal(said)
	}
	if len(processesOf(t, self)) < 3 {
		t.Errorf("its processes are %v", processesOf(t, self))
	}
	kill()
	for end := time.Now().Add(time.Minute); len(processesOf(t, self)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still there: %v", processesOf(t, self))
		}
	}
}

// processesOf are those that run a program.
func processesOf(t *testing.T, program string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(links, func(l string) bool {
		target, err := os.Readlink(l)
		return err != nil || target != program
	})
}
