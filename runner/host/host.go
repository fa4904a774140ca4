// Package host is the backend that runs labs in the machine's own kernel.
//
// It is the fastest one, and the choosiest: it is taken only where every feature
// of a lab is there already, since loading a module changes the whole machine
// (see topology/probe). Labs live in network namespaces of their own that no name
// on disk holds, so nothing of them outlives lvslab.
//
// Who may not make network namespaces has them in a user namespace, if the
// machine allows that: this program is started anew there, and runs the labs. To
// IPVS that is not root of the machine, which takes IPv4 and IPIP tunnels alone
// (ipvs.ErrLegacy).
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
	"github.com/lvslab/lvslab/runner/live"
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
	// apart does so in a user namespace, and keeps the answers; nil where this
	// process needs none.
	apart *probe.Known
}

var _ runner.Backend = (*Backend)(nil)

// New is the backend on this machine.
func New() *Backend {
	b := &Backend{features: probe.Features}
	if !privileged() {
		b.apart = &probe.Known{Features: askApart}
	}
	return b
}

// Name implements runner.Backend.
func (b *Backend) Name() string { return Name }

// Can implements runner.Backend by trying each feature, in namespaces that
// vanish and without loading a module. It needs no privilege to say No. It may
// stop at a feature that is missing and that no command brings.
func (b *Backend) Can(ctx context.Context, needs []topology.Feature) runner.Answer {
	want := withNamespaces(needs)
	if b.apart != nil {
		return b.canApart(ctx, want)
	}
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
		part := noIPVS && (strings.HasPrefix(string(ans.Feature), "ip_vs-") || strings.HasPrefix(string(ans.Feature), "net.ipv4.vs."))
		if ans.Feature != probe.NetNS && worst == probe.No && !part {
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
		// Without IPVS there is no more to say of its schedulers and settings.
		told := part || noIPVS && strings.HasPrefix(string(ans.Feature), string(probe.IPVS)+"_")
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
	if b.apart != nil {
		s, err := bootApart(ctx)
		if err != nil {
			return nil, err
		}
		return apart{s}, nil
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	s := &session{
		known:  probe.Known{Features: b.features},
		kernel: fmt.Sprintf("Linux %s (this machine's own)", unix.ByteSliceToString(uts.Release[:])),
		ended:  make(chan struct{}),
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s, nil
}

// session runs jobs until it is closed.
type session struct {
	known  probe.Known
	kernel string
	ctx    context.Context // ends with Close
	stop   context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	running sync.WaitGroup
	closed  bool
	labs    []*engine.Live // those that stay up

	closing  sync.Once
	closeErr error
	ended    chan struct{}
}

// Kernel implements runner.Session.
func (s *session) Kernel() string { return s.kernel }

// Run implements runner.Session.
func (s *session) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return engine.Run(ctx, s.place(), job, emit)
}

// Up implements runner.Session. Other jobs can be run beside the lab.
func (s *session) Up(ctx context.Context, job wire.Job) (live.Lab, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	lab, err := engine.Up(ctx, s.place(), job)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labs = append(s.labs, lab)
	return lab, nil
}

// begin makes a context for work that Close ends and waits for.
func (s *session) begin(ctx context.Context) (_ context.Context, done func(), _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	s.running.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() {
		unhook()
		cancel(nil)
		s.running.Done()
	}, nil
}

// place is this machine's kernel as the engine has it.
func (s *session) place() engine.Host { return engine.Host{Ensure: s.known.Missing, Room: probe.Room} }

// Ended implements runner.Session. This machine's kernel ends for nobody: only
// Close closes it.
func (s *session) Ended() <-chan struct{} { return s.ended }

// Err implements runner.Session.
func (s *session) Err() error {
	select {
	case <-s.ended:
		return ErrClosed
	default:
		return nil
	}
}

// Close implements runner.Session. It ends the jobs that still run, waits for
// them and takes down the labs that are up; nothing of them is left then.
func (s *session) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.stop(ErrClosed)
		s.running.Wait()
		var errs []error
		for _, lab := range s.labs {
			errs = append(errs, lab.Close())
		}
		s.closeErr = errors.Join(errs...)
		close(s.ended)
	})
	return s.closeErr
}
