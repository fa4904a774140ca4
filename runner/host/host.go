// Package host is the backend that runs labs in the machine's own kernel.
//
// It is the fastest one, and the choosiest: it needs root, and it is taken only
// where every feature of a lab is there already, since loading a module changes
// the whole machine (see topology/probe). Labs live in network namespaces of
// their own that no name on disk holds, so nothing of them outlives lvslab.
package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

// Name is the backend's word of --kernel.
const Name = "host"

// ErrClosed is what a closed session answers.
var ErrClosed = errors.New("the session on this machine's kernel is closed")

// Backend is the machine's own kernel.
type Backend struct {
	// features finds out about features; a test has its own.
	features func(context.Context, []topology.Feature) []probe.Answer
}

var _ runner.Backend = (*Backend)(nil)

// New is the backend on this machine.
func New() *Backend { return &Backend{features: probe.Features} }

// Name implements runner.Backend.
func (b *Backend) Name() string { return Name }

// Can implements runner.Backend by trying each feature, in namespaces that
// vanish and without loading a module. It needs no privilege to say No. It may
// stop at a feature that is missing and that no command brings.
func (b *Backend) Can(ctx context.Context, needs []topology.Feature) runner.Answer {
	want := withNamespaces(needs)
	// To try ARP rules takes longer than all else together.
	slow := slices.Index(want, probe.ARP)
	if slow < 0 {
		return judge(b.features(ctx, want))
	}
	answers := b.features(ctx, slices.Delete(want, slow, slow+1))
	if !slices.ContainsFunc(answers, func(a probe.Answer) bool { return a.Verdict == probe.No && a.Fix == "" }) {
		answers = append(answers, b.features(ctx, []topology.Feature{probe.ARP})...)
	}
	return judge(answers)
}

// withNamespaces puts the feature that every lab needs before all others.
func withNamespaces(needs []topology.Feature) []topology.Feature {
	all := []topology.Feature{probe.NetNS}
	for _, f := range needs {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// judge makes one answer of many: the worst verdict, and every reason for it.
func judge(answers []probe.Answer) runner.Answer {
	a := runner.Answer{Verdict: runner.Yes, Why: "this kernel has all that is needed"}
	worst := probe.Yes
	for _, v := range []probe.Verdict{probe.Unknown, probe.No} {
		if slices.ContainsFunc(answers, func(a probe.Answer) bool { return a.Verdict == v }) {
			worst = v
		}
	}
	switch worst {
	case probe.Yes:
		return a
	case probe.No:
		a.Verdict = runner.No
	case probe.Unknown:
		a.Verdict = runner.Unknown
	}
	noIPVS := slices.ContainsFunc(answers, func(a probe.Answer) bool { return a.Feature == probe.IPVS && a.Verdict == probe.No })
	var whys []string
	for _, ans := range answers {
		if ans.Verdict != worst {
			continue
		}
		why := ans.Why
		if ans.Feature != probe.NetNS && worst == probe.No {
			a.Lacks = append(a.Lacks, string(ans.Feature))
		}
		if ans.Feature == probe.NetNS {
			if worst == probe.No && ans.Fix == "" {
				why += "; run lvslab as root, or take --kernel uml"
				a.Fix = append(a.Fix, "sudo lvslab run --kernel host")
			}
		} else {
			why = string(ans.Feature) + ": " + why
		}
		// Without IPVS there is no more to say of its schedulers.
		told := noIPVS && strings.HasPrefix(string(ans.Feature), string(probe.IPVS)+"_")
		if !told && !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
		if ans.Fix != "" && !slices.Contains(a.Fix, ans.Fix) {
			a.Fix = append(a.Fix, ans.Fix)
		}
	}
	a.Why = strings.Join(whys, "; ")
	// Where something cannot be mended, mending the rest is of no use.
	if slices.ContainsFunc(answers, func(ans probe.Answer) bool {
		return ans.Verdict == probe.No && ans.Fix == "" && ans.Feature != probe.NetNS
	}) {
		a.Fix = nil
	}
	return a
}

// Boot implements runner.Backend. There is nothing to boot: it fails where no
// lab could run, whatever its features.
func (b *Backend) Boot(ctx context.Context) (runner.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if a := b.Can(ctx, nil); a.Verdict != runner.Yes {
		return nil, fmt.Errorf("labs cannot run in this machine's kernel: %s", a.Why)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	s := &session{
		features: b.features,
		kernel:   fmt.Sprintf("Linux %s (this machine's own)", unix.ByteSliceToString(uts.Release[:])),
		known:    make(map[topology.Feature]probe.Answer),
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s, nil
}

// session runs jobs until it is closed.
type session struct {
	features func(context.Context, []topology.Feature) []probe.Answer
	kernel   string
	ctx      context.Context // ends with Close
	stop     context.CancelCauseFunc

	mu      sync.Mutex // held while probing: labs that start together ask alike
	known   map[topology.Feature]probe.Answer
	running sync.WaitGroup
	closed  bool
}

// Kernel implements runner.Session.
func (s *session) Kernel() string { return s.kernel }

// Run implements runner.Session.
func (s *session) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unhook := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	defer unhook()
	return engine.Run(ctx, engine.Host{Ensure: s.ensure, Room: probe.Room}, job, emit)
}

// ensure says which features the kernel lacks. It makes none available: that is
// not ours to do on somebody's machine. A feature of which that cannot be told
// is an error.
func (s *session) ensure(ctx context.Context, features []topology.Feature) (missing []topology.Feature, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ask []topology.Feature
	for _, f := range features {
		if _, ok := s.known[f]; !ok && !slices.Contains(ask, f) {
			ask = append(ask, f)
		}
	}
	// What could not be told once may be told the next time.
	unknown := make(map[topology.Feature]string)
	if len(ask) > 0 {
		for _, a := range s.features(ctx, ask) {
			if a.Verdict == probe.Unknown {
				unknown[a.Feature] = a.Why
				if a.Fix != "" {
					unknown[a.Feature] += "; try " + a.Fix
				}
				continue
			}
			s.known[a.Feature] = a
		}
	}
	var errs []error
	for _, f := range features {
		if why, ok := unknown[f]; ok {
			errs = append(errs, fmt.Errorf("it cannot be told whether this kernel has %s: %s", f, why))
		} else if s.known[f].Verdict == probe.No {
			missing = append(missing, f)
		}
	}
	return missing, errors.Join(errs...)
}

// Close implements runner.Session. It ends the jobs that still run and waits for
// them; nothing of them is left then.
func (s *session) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop(ErrClosed)
	s.running.Wait()
	return nil
}
