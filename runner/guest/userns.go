package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/machine"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/probe"
)

// lineFd is the line to the host, in a process that is no kernel's first one
// (machine.Spec).
const lineFd = 3

// isHere reports whether this process is to run labs in the machine's own kernel
// for somebody who is not root: in user, PID and mount namespaces that its
// supervisor has made, with all capabilities there and none outside.
func isHere() bool { return len(os.Args) > 1 && os.Args[1] == wire.HostInitArg }

// bootHere is the life of such a process. It never returns. What it leaves behind
// ends with the PID namespace, whose first process its supervisor is.
func bootHere() {
	// Started by hand by root of a machine, it would change that machine's mounts.
	err := errors.New(wire.HostInitArg + " is for lvslab's own use")
	if len(os.Args) > 2 && machine.Supervised() {
		err = serveHere(os.Args[2])
	}
	if !errors.Is(err, io.EOF) {
		fmt.Fprintf(os.Stderr, "lvslab: %v\n", err)
		os.Exit(2)
	}
	os.Exit(0)
}

// serveHere returns when the host has closed the line.
func serveHere(workDir string) error {
	// The sysctls of a node are written by way of /proc. It is this PID
	// namespace's own, and the supervisor has mounted it read-only; that of the
	// machine cannot be mounted anew.
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_REMOUNT|safe, ""); err != nil {
		return fmt.Errorf("making /proc writable: %w (is it hidden in part, as in most containers?)", err)
	}
	dir, err := unix.Open(workDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the work folder %s: %w", workDir, err)
	}
	if err := ownRoot(); err != nil {
		// Labs whose nodes write files will lack overlays.
		fmt.Fprintf(os.Stderr, "lvslab: making a root to lay overlays on: %v\n", err)
	}
	unix.CloseOnExec(lineFd)
	if err := unix.SetNonblock(lineFd, true); err != nil {
		return fmt.Errorf("the line to lvslab: %w", err)
	}
	k := &here{}
	k.known.Features = probe.Features
	jobs := Jobs{Run: k.run, Up: k.up}
	s, err := newServant(os.NewFile(lineFd, "line"), jobs, &work{fd: dir, modules: -1}, nil)
	if err != nil {
		return err
	}
	return s.obey()
}

// here is the machine's own kernel.
type here struct{ known probe.Known }

func (h *here) host() engine.Host { return engine.Host{Ensure: h.known.Missing, Room: probe.Room} }

func (h *here) run(ctx context.Context, job wire.Job, _ func(...string) error, emit func(wire.Event)) error {
	if len(job.Probe) == 0 {
		return engine.Run(ctx, h.host(), job, emit)
	}
	var want []topology.Feature
	for _, f := range job.Probe {
		want = append(want, topology.Feature(f))
	}
	for _, a := range probe.Features(ctx, want) {
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		emit(wire.Event{Version: wire.Version, Time: time.Now().UTC(), Kind: wire.Log, Message: string(text)})
	}
	return nil
}

func (h *here) up(ctx context.Context, job wire.Job, _ func(...string) error) (live.Lab, error) {
	lab, err := engine.Up(ctx, h.host(), job)
	if err != nil {
		return nil, err
	}
	return lab, nil
}
