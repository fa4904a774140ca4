package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/host"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/qemu"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

func (a *app) doctorCmd() *cobra.Command {
	var format *formatFlag
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine can run, what it lacks, and how to mend it",
		Long: `Doctor tries what the shipped labs need: each feature of this machine's own
kernel, in scratch namespaces and without loading a module, and a guest kernel on
every rung of isolation, by booting it. Of QEMU it looks whether it is there, and
what the last guest there told of KVM. It changes nothing.

Exit status: 0 all shipped labs can run here, 1 they cannot.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := diagnose(c.Context())
			if err != nil {
				return err
			}
			if !d.Ready {
				a.exit = 1
			}
			if *format == formatJSON {
				return a.printJSON(d)
			}
			a.printDiagnosis(d)
			return nil
		},
	}
	format = addFormat(c.Flags(), "text or json")
	return c
}

// diagnosis is the document of doctor --format json. Verdicts are "yes", "no"
// and "could not tell".
type diagnosis struct {
	Version int     `json:"version"`
	Machine machine `json:"machine"`
	// Host are the features of this machine's own kernel that shipped labs
	// need.
	Host hostDiagnosis `json:"host"`
	UML  umlDiagnosis  `json:"uml"`
	QEMU qemuDiagnosis `json:"qemu"`
	// Apt says whether kernel install can work.
	Apt     trait   `json:"apt"`
	Folders []trait `json:"folders"`
	// Auto is the backend that --kernel auto takes, or "uml and qemu"; empty
	// for none.
	Auto string `json:"auto,omitempty"`
	// Ready says that all shipped labs can run.
	Ready bool `json:"ready"`
	// Next is the command to type next.
	Next string `json:"next"`
}

type machine struct {
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	User   string `json:"user"`
	UID    int    `json:"uid"`
}

// trait is the answer to one question.
type trait struct {
	Name    string   `json:"name"`
	Verdict string   `json:"verdict"`
	Why     string   `json:"why"`
	Fix     []string `json:"fix,omitempty"`
}

type hostDiagnosis struct {
	Verdict  string   `json:"verdict"`
	Fix      []string `json:"fix,omitempty"`
	Features []trait  `json:"features"`
	// Rootless says whether labs with IPVS can run in this kernel for this
	// user, who is not root; nil for root.
	Rootless *trait `json:"rootless,omitempty"`
}

type umlDiagnosis struct {
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	// Kernel is the guest kernel, "uml 6.1.176 (cache)"; Image its path.
	Kernel string   `json:"kernel,omitempty"`
	Image  string   `json:"image,omitempty"`
	Fix    []string `json:"fix,omitempty"`
	// Rungs are the degrees of isolation, the best first; Taken is the one
	// that guests boot on.
	Rungs []trait `json:"rungs"`
	Taken string  `json:"taken,omitempty"`
	// Lacks are the features that some shipped lab needs and the kernel has
	// not.
	Lacks []string `json:"lacks,omitempty"`
}

type qemuDiagnosis struct {
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	// Kernel is the guest kernel, "qemu 6.1.0-9-amd64 (cache)"; Image its path.
	Kernel string   `json:"kernel,omitempty"`
	Image  string   `json:"image,omitempty"`
	Fix    []string `json:"fix,omitempty"`
	// KVM says whether the machine's processor runs guests itself, as far as that
	// is known without a boot.
	KVM trait `json:"kvm"`
	// Snapshots are the guests that are kept, so that the next ones start quickly.
	Snapshots snapshotDoc `json:"snapshots"`
}

// The words of verdicts.
const (
	yes     = "yes"
	no      = "no"
	unknown = "could not tell"
)

func diagnose(ctx context.Context) (*diagnosis, error) {
	byLab, err := shippedNeeds()
	if err != nil {
		return nil, err
	}
	var needs []topology.Feature
	for _, l := range byLab {
		needs = append(needs, l.Needs...)
	}
	slices.Sort(needs)
	needs = slices.Compact(needs)
	d := &diagnosis{Version: jsonVersion, Machine: thisMachine(), Apt: aptTools(), Folders: folders()}
	d.Host = diagnoseHost(ctx, needs)
	d.UML = diagnoseUML(ctx)
	d.UML.Lacks = (&uml.Backend{Env: os.Getenv, Modules: guest.Modules}).Can(ctx, needs).Lacks
	d.QEMU = diagnoseQEMU(ctx, needs)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if shares, err := runner.Assign(ctx, backends(nil), runner.Auto, byLab); err == nil {
		var names []string
		for _, s := range shares {
			names = append(names, s.Backend.Name())
		}
		d.Auto = strings.Join(names, " and ")
	}
	d.Ready = d.Host.Verdict == yes || d.UML.Verdict == yes
	d.Next = d.next()
	return d, nil
}

// shippedNeeds are the features that each shipped lab needs.
func shippedNeeds() ([]runner.LabNeeds, error) {
	shipped, err := shippedLabs(labs.All())
	if err != nil {
		return nil, err
	}
	var all []runner.LabNeeds
	for _, l := range shipped {
		p, err := l.Plan()
		if err != nil {
			return nil, err
		}
		all = append(all, runner.LabNeeds{Lab: l.Name, Needs: p.AllNeeds()})
	}
	return all, nil
}

func thisMachine() machine {
	m := machine{Arch: runtime.GOARCH, UID: os.Geteuid()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if u, err := user.LookupId(strconv.Itoa(m.UID)); err == nil {
		m.User = u.Username
	}
	return m
}

func diagnoseHost(ctx context.Context, needs []topology.Feature) hostDiagnosis {
	h := hostDiagnosis{Verdict: yes, Features: []trait{}}
	// A program is no matter of the kernel's.
	needs = slices.DeleteFunc(slices.Clone(needs), func(f topology.Feature) bool { return strings.Contains(string(f), ":") })
	b := host.New()
	answers := b.Features(ctx, append([]topology.Feature{probe.NetNS, probe.IPVS}, needs...))
	if _, ok := b.Rootless(ctx); ok {
		h.Rootless = rootless(answers)
	}
	for _, a := range slices.Delete(answers, 1, 2) {
		t := trait{Name: string(a.Feature), Verdict: a.Verdict.String(), Why: a.Why}
		if a.Verdict == probe.Unknown && len(h.Features) > 0 && h.Features[0].Verdict == no {
			t.Why = "not to be tried without a network namespace"
		}
		if a.Fix != "" {
			t.Fix = []string{a.Fix}
			if a.Verdict != probe.Yes && !slices.Contains(h.Fix, a.Fix) {
				h.Fix = append(h.Fix, a.Fix)
			}
		}
		h.Features = append(h.Features, t)
		if a.Verdict == probe.No || a.Verdict == probe.Unknown && h.Verdict == yes {
			h.Verdict = a.Verdict.String()
		}
	}
	// One that nothing mends makes the other commands useless.
	for _, t := range h.Features {
		if t.Verdict == no && len(t.Fix) == 0 {
			h.Fix = nil
		}
	}
	return h
}

// rootless is what the answers, those of NetNS and IPVS first, mean for somebody
// who is not root.
func rootless(answers []probe.Answer) *trait {
	t := &trait{Name: "without root", Verdict: answers[0].Verdict.String(), Why: answers[0].Why}
	if answers[0].Verdict != probe.Yes {
		return t
	}
	t.Verdict, t.Why = answers[1].Verdict.String(), "labs run in a user namespace, where IPVS takes IPv4 and IPIP tunnels alone"
	if answers[1].Verdict == probe.Yes {
		return t
	}
	t.Why = "in a user namespace labs without IPVS can run; " + answers[1].Why
	// One command for all that is missing.
	var modules []string
	for _, a := range answers[1:] {
		list, ok := strings.CutPrefix(a.Fix, "sudo modprobe ")
		if !ok || a.Verdict == probe.Yes || strings.ContainsAny(list, "&;") {
			continue
		}
		for _, m := range strings.Fields(strings.TrimPrefix(list, "-a ")) {
			if !slices.Contains(modules, m) {
				modules = append(modules, m)
			}
		}
	}
	if len(modules) > 0 {
		t.Fix = []string{"sudo modprobe -a " + strings.Join(modules, " ")}
	}
	return t
}

func diagnoseUML(ctx context.Context) umlDiagnosis {
	u := umlDiagnosis{Verdict: no, Rungs: []trait{}}
	k, err := kernel.Find(os.Getenv)
	switch {
	case errors.Is(err, kernel.ErrNone):
		u.Why = "no guest kernel is installed"
		if _, problems := kernel.List(os.Getenv); len(problems) > 0 {
			u.Why = problems[0].Error()
		}
		u.Fix = []string{"lvslab kernel install"}
		return u
	case err != nil:
		u.Why = err.Error()
		u.Fix = []string{"unset LVSLAB_UML LVSLAB_UML_MODULES"}
		return u
	}
	u.Kernel, u.Image = k.String(), k.Image
	if err := kernel.Verify(k); err != nil {
		u.Why = err.Error()
		u.Fix = []string{"lvslab kernel install --force"}
		return u
	}
	found := uml.Probe(ctx, k)
	unsure := false
	for _, r := range found.Rungs {
		t := trait{Name: r.Rung.String(), Verdict: r.Answer.String(), Why: r.Why}
		switch {
		case r.Answer == uml.Yes:
			t.Why += fmt.Sprintf(" (up in %d ms)", r.Boot.Milliseconds())
		case r.Rung == uml.Root && os.Geteuid() != 0:
			t.Why = "needs root"
		}
		unsure = unsure || r.Answer == uml.Unknown
		u.Rungs = append(u.Rungs, t)
	}
	switch {
	case found.Auto != uml.Auto:
		u.Verdict, u.Taken = yes, found.Auto.String()
	case unsure:
		u.Verdict, u.Why = unknown, "no guest has booted"
	default:
		u.Why = "no guest boots here"
	}
	return u
}

// diagnoseQEMU looks for what a boot needs, and boots nothing: that takes
// seconds.
func diagnoseQEMU(ctx context.Context, needs []topology.Feature) qemuDiagnosis {
	b := &qemu.Backend{Env: os.Getenv, Modules: guest.Modules}
	a := b.Can(ctx, needs)
	q := qemuDiagnosis{Verdict: a.Verdict.String(), Why: a.Why, Fix: a.Fix, KVM: aboutKVM(), Snapshots: snapshotsHere()}
	k, err := kernel.QEMU.Find(os.Getenv)
	if err != nil {
		return q
	}
	q.Kernel, q.Image = k.String(), k.Image
	if err := kernel.Verify(k); err != nil {
		q.Verdict, q.Why = no, err.Error()
		q.Fix = []string{kernel.QEMU.InstallCommand() + " --force"}
	}
	return q
}

// aboutKVM tells what is known of it, and boots nothing either.
func aboutKVM() trait {
	t := trait{Name: "KVM", Verdict: no}
	wish, err := qemu.ParseKVM(os.Getenv(qemu.KVMVariable))
	if err != nil {
		t.Why = err.Error()
		t.Fix = []string{"unset " + qemu.KVMVariable}
		return t
	}
	cache, _ := kernel.Cache(os.Getenv) // without one, nothing is remembered
	works, tried, why := qemu.AboutKVM(cache, wish)
	t.Why = why
	switch {
	case works:
		t.Verdict = yes
	case !tried:
		t.Verdict = unknown
	}
	return t
}

// aptTools says whether kernel install finds what it works with.
func aptTools() trait {
	t := trait{Name: "apt", Verdict: yes, Why: "lvslab kernel install can fetch a guest kernel"}
	for _, tool := range []string{"apt-get", "dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Verdict, t.Why = no, "there is no "+tool+" here, which lvslab kernel install needs: set LVSLAB_UML to the path of a linux.uml"
			break
		}
	}
	return t
}

// next is the command to type next.
func (d *diagnosis) next() string {
	switch {
	case d.Ready && (d.Auto == host.Name && d.Host.Verdict != yes):
		return "lvslab run --kernel uml"
	case d.Ready:
		return "lvslab run"
	case len(d.UML.Fix) > 0 && (d.UML.Image != "" || os.Getenv("LVSLAB_UML") != "" || d.Apt.Verdict == yes):
		return d.UML.Fix[0]
	case len(d.Host.Fix) > 0:
		return strings.Join(d.Host.Fix, " && ")
	case d.UML.Image != "" && d.Machine.UID != 0:
		return "sudo lvslab doctor"
	}
	return "LVSLAB_UML=/path/to/linux.uml lvslab doctor"
}
