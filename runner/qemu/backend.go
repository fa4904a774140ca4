package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

// Name is the backend's word of --kernel.
const Name = "qemu"

// InstallProgram is the command that brings QEMU. It needs root.
const InstallProgram = "sudo apt-get install --no-install-recommends " + Package

// Backend runs labs in a PC that QEMU emulates, as whoever one is.
type Backend struct {
	// Config is how guests are booted. Its Kernel may be empty: then the
	// kernel is looked for by Env.
	Config Config
	// Which of the kernels, kernel.Kind.Choose's word for it: "6.1", "debian",
	// "/path/to/vmlinuz". Empty is the one that is taken unasked.
	Which string
	// Env looks up environment variables.
	Env kernel.Env
	// Modules are those behind a feature, or alternatives of them, by which Can tells whether the
	// kernel has it; guest.Modules is meant. Without it, Can takes every
	// feature for there.
	Modules func(topology.Feature) [][]string
}

var _ runner.Backend = (*Backend)(nil)

// Name implements runner.Backend: "qemu", or "qemu:6.1" where Which is "6.1".
func (b *Backend) Name() string { return kernel.QEMU.Word(b.Which) }

// Can implements runner.Backend. Whether QEMU, a kernel and its modules are
// there is told without a boot; whether it boots, only by booting it.
func (b *Backend) Can(_ context.Context, needs []topology.Feature) runner.Answer {
	no := runner.Answer{Verdict: runner.No}
	if runtime.GOARCH != "amd64" {
		no.Why = "its guests are of amd64, and lvslab is of " + runtime.GOARCH
		return no
	}
	var whys []string
	if _, err := b.program(); err != nil {
		whys, no.Fix = append(whys, err.Error()), append(no.Fix, InstallProgram)
	}
	k, err := b.kernel()
	var absent *kernel.NotInstalledError
	switch {
	case errors.As(err, &absent):
		whys, no.Fix = append(whys, absent.Error()), append(no.Fix, absent.Fix())
	case errors.Is(err, kernel.ErrNone):
		whys, no.Fix = append(whys, "no kernel for QEMU is installed"), append(no.Fix, kernel.QEMU.InstallCommand())
	case err != nil:
		whys = append(whys, err.Error())
	}
	if len(whys) > 0 {
		no.Why = strings.Join(whys, "; ")
		return no
	}
	name := "Linux " + k.Release
	if b.Modules == nil {
		return runner.Answer{Verdict: runner.Yes, Why: name + " is installed for QEMU"}
	}
	known, err := k.ReadModules()
	if err != nil {
		no.Why = err.Error()
		return no
	}
	return runner.Judge(name, needs, b.Modules, known.Has)
}

func (b *Backend) program() (string, error) {
	if b.Config.Program != "" {
		return b.Config.Program, nil
	}
	return findProgram()
}

func findProgram() (string, error) {
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed", Program)
	}
	return path, nil
}

func (b *Backend) kernel() (kernel.Kernel, error) {
	if b.Config.Kernel.Image != "" {
		return b.Config.Kernel, nil
	}
	return kernel.QEMU.Choose(b.Env, b.Which)
}

// Boot implements runner.Backend.
func (b *Backend) Boot(ctx context.Context) (runner.Session, error) {
	c := b.Config
	var err error
	if c.Kernel, err = b.kernel(); err != nil {
		return nil, err
	}
	if c, err = c.fromEnvironment(b.Env); err != nil {
		return nil, err
	}
	s, err := Boot(ctx, c)
	if err != nil {
		return nil, err
	}
	return session{s}, nil
}

// SnapshotVariable is the environment's word on snapshots: 0 has none made or
// used.
const SnapshotVariable = "LVSLAB_SNAPSHOT"

// fromEnvironment fills in what the environment says and the caller does not.
func (c Config) fromEnvironment(env kernel.Env) (Config, error) {
	if env == nil {
		return c, nil
	}
	wish, err := ParseKVM(env(KVMVariable))
	if err != nil {
		return c, err
	}
	if c.KVM == KVMProven {
		c.KVM = wish
	}
	switch v := env(SnapshotVariable); v {
	case "", "1":
	case "0":
		c.NoSnapshot = true
	default:
		return c, fmt.Errorf("%s=%.100q: wanted 0 (none are made or used) or unset", SnapshotVariable, v)
	}
	if c.Cache == "" {
		// Without a place for it, there is no cache.
		c.Cache, _ = kernel.Cache(env)
	}
	return c, nil
}

type session struct{ *machine.Session }

// Kernel implements runner.Session.
func (s session) Kernel() string { return "Linux " + s.Session.Kernel() + " (QEMU)" }

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
