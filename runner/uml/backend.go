package uml

import (
	"context"
	"errors"
	"fmt"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// Backend runs labs in User-Mode Linux, as whoever one is.
type Backend struct {
	// Config is how guests are booted. Its Kernel may be empty: then the
	// kernel is looked for by Env.
	Config Config
	// Which of the kernels, kernel.Kind.Choose's word for it: "6.1", "debian",
	// "/path/to/linux.uml". Empty is the one that is taken unasked.
	Which string
	// Env looks up environment variables.
	Env kernel.Env
	// Modules are those behind a feature, or alternatives of them, by which Can tells whether the
	// kernel has it; guest.Modules is meant. Without it, Can takes every
	// feature for there.
	Modules func(topology.Feature) [][]string
}

var (
	_ runner.Backend = (*Backend)(nil)
	_ runner.Shards  = (*Backend)(nil)
)

// maxShards bounds the guests of one run by their memory, 70 to 130 MB each, on
// machines of many CPUs.
const maxShards = 8

// Shards implements runner.Shards: a guest is pinned to one CPU, so there is one
// for each.
func (b *Backend) Shards() int { return min(machine.CPUs(), maxShards) }

// Name implements runner.Backend: "uml", or "uml:6.1" where Which is "6.1".
func (b *Backend) Name() string { return kernel.UML.Word(b.Which) }

// Can implements runner.Backend. Which modules a kernel has is told by its
// folder; whether it boots, only by booting it.
func (b *Backend) Can(_ context.Context, needs []topology.Feature) runner.Answer {
	k, err := b.kernel()
	if err != nil {
		a := runner.Answer{Verdict: runner.No, Why: err.Error()}
		var absent *kernel.NotInstalledError
		switch {
		case errors.As(err, &absent):
			a.Why, a.Fix = absent.Error(), []string{absent.Fix()}
		case errors.Is(err, kernel.ErrNone):
			a.Why, a.Fix = "no guest kernel is installed", []string{"lvslab kernel install"}
		}
		return a
	}
	if b.Modules == nil {
		return runner.Answer{Verdict: runner.Yes, Why: fmt.Sprintf("User-Mode Linux %s is installed", k.Release)}
	}
	known, err := k.ReadModules()
	if err != nil {
		return runner.Answer{Verdict: runner.No, Why: err.Error()}
	}
	return runner.Judge("User-Mode Linux "+k.Release, needs, b.Modules, known.Has)
}

func (b *Backend) kernel() (kernel.Kernel, error) {
	if b.Config.Kernel.Image != "" {
		return b.Config.Kernel, nil
	}
	return kernel.UML.Choose(b.Env, b.Which)
}

// Boot implements runner.Backend.
func (b *Backend) Boot(ctx context.Context) (runner.Session, error) {
	c := b.Config
	var err error
	if c.Kernel, err = b.kernel(); err != nil {
		return nil, err
	}
	s, err := Boot(ctx, c)
	if err != nil {
		return nil, err
	}
	return session{s}, nil
}

type session struct{ *Session }

// Kernel implements runner.Session.
func (s session) Kernel() string { return "Linux " + s.Session.Kernel() + " (User-Mode Linux)" }

// Run implements runner.Session.
func (s session) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	return s.Session.Run(ctx, job, emit)
}

// Up implements runner.Session.
func (s session) Up(ctx context.Context, job wire.Job) (live.Lab, error) {
	lab, err := s.Session.Up(ctx, job)
	if err != nil {
		return nil, err // not a nil client, which is no nil lab
	}
	return lab, nil
}

// Close implements runner.Session.
func (s session) Close() error {
	s.Session.Close()
	return nil
}
