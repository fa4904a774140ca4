package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

// Bounds of the process that runs labs without root. It is up in a fraction of a
// second and shows a sign of life every two.
const (
	bootTimeout = 20 * time.Second
	silence     = 60 * time.Second
)

// bootApart starts this program anew in user, PID and mount namespaces of its
// own, in which it may do with network namespaces what root may. It cannot write
// the machine's files, and nothing of it outlives this process.
func bootApart(ctx context.Context) (*machine.Session, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return machine.Boot(ctx, machine.Spec{
		Kind: "this machine's own kernel, without root", Program: self, Self: self,
		Args: []string{wire.HostInitArg, machine.Work}, Rung: machine.UserNS,
		BootTimeout: bootTimeout, Silence: silence, Explain: func(string) string { return "" },
	})
}

// privileged reports whether this process may make network namespaces as it is.
func privileged() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return os.Geteuid() == 0
	}
	return sets[unix.CAP_SYS_ADMIN/32].Effective&(1<<(unix.CAP_SYS_ADMIN%32)) != 0
}

// Features finds out about features as Can does: where this process may not make
// network namespaces, in a user namespace of its own.
func (b *Backend) Features(ctx context.Context, want []topology.Feature) []probe.Answer {
	if b.apart == nil {
		return b.features(ctx, want)
	}
	return b.apart.Ask(ctx, want)
}

// canApart is Can without root. What IPVS takes of root alone does not keep the
// other labs from being run here.
func (b *Backend) canApart(ctx context.Context, want []topology.Feature) runner.Answer {
	answers := b.Features(ctx, want)
	a := judge(answers)
	a.Partly = a.Verdict == runner.No && answers[0].Verdict == probe.Yes && !slices.Contains(a.Lacks, string(probe.IPVS))
	return a
}

// Rootless says whether labs can run here without root, and if not why not; ok is
// false for who needs not ask, being root.
func (b *Backend) Rootless(ctx context.Context) (a probe.Answer, ok bool) {
	if b.apart == nil {
		return a, false
	}
	return b.Features(ctx, []topology.Feature{probe.NetNS})[0], true
}

// askApart tries features in a user namespace. Where none can be had it says so
// of NetNS, and of the others what can be told without.
func askApart(ctx context.Context, want []topology.Feature) []probe.Answer {
	answers, err := tryApart(ctx, want)
	if err == nil {
		return answers
	}
	answers = probe.Features(ctx, want)
	i := slices.IndexFunc(answers, func(a probe.Answer) bool { return a.Feature == probe.NetNS })
	if i < 0 {
		return answers
	}
	if ctx.Err() != nil {
		answers[i] = probe.Answer{Feature: probe.NetNS, Why: "not tried: " + context.Cause(ctx).Error()}
		return answers
	}
	answers[i].Why += ", and without root there is no user namespace for it: " + deniedWhy(err)
	return answers
}

// deniedWhy is the reason of bootApart's error, a clause.
func deniedWhy(err error) string {
	if denied := (*machine.DeniedError)(nil); errors.As(err, &denied) {
		return denied.Why
	}
	// What the process itself has said is the best that there is to say.
	if ended := (*machine.GuestError)(nil); errors.As(err, &ended) && ended.Console != "" {
		lines := strings.Split(ended.Console, "\n")
		return strings.TrimPrefix(lines[len(lines)-1], "lvslab: ")
	}
	return err.Error()
}

// tryApart has a process in namespaces of its own try the features.
func tryApart(ctx context.Context, want []topology.Feature) ([]probe.Answer, error) {
	s, err := bootApart(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	job := wire.Job{Version: wire.Version}
	for _, f := range want {
		job.Probe = append(job.Probe, string(f))
	}
	var answers []probe.Answer
	var errs []error
	err = s.Run(ctx, job, func(e wire.Event) {
		var a probe.Answer
		errs = append(errs, json.Unmarshal([]byte(e.Message), &a))
		answers = append(answers, a)
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if len(answers) != len(want) {
		return nil, fmt.Errorf("asked about %d features, and was told of %d", len(want), len(answers))
	}
	return answers, nil
}

// apart is a session of the process that runs labs without root.
type apart struct{ *machine.Session }

var _ runner.Session = apart{}

// Kernel implements runner.Session.
func (s apart) Kernel() string {
	return fmt.Sprintf("Linux %s (this machine's own, without root)", s.Session.Kernel())
}

// Up implements runner.Session.
func (s apart) Up(ctx context.Context, job wire.Job) (live.Lab, error) {
	lab, err := s.Session.Up(ctx, job)
	if err != nil {
		return nil, err // not a nil client, which is no nil lab
	}
	return lab, nil
}

// Close implements runner.Session.
func (s apart) Close() error {
	s.Session.Close()
	return nil
}
