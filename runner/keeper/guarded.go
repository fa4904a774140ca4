package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lvslab/lvslab/runner/live"
	"github.com/lvslab/lvslab/runner/wire"
)

// guarded is a lab that says why it is no more, in the place of what a
// connection says that has ended.
type guarded struct {
	lab live.Lab
	k   *keeper
}

var _ live.Lab = guarded{}

// after explains an error by the end of the lab's kernel, if it has ended.
func (g guarded) after(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, live.ErrGone) {
		// The reason comes a moment after the end.
		select {
		case <-g.k.dead:
		case <-g.k.downed:
		case <-time.After(lastWords):
		}
	}
	if why := g.k.Info().Dead; why != "" {
		return fmt.Errorf("the lab is dead: %s\ntake it down: lvslab down %s", why, g.k.folder.name)
	}
	return err
}

func (g guarded) Exec(ctx context.Context, e live.Exec, s live.Streams) (live.Exit, error) {
	exit, err := g.lab.Exec(ctx, e, s)
	return exit, g.after(err)
}

func (g guarded) Status(ctx context.Context) (*live.Status, error) {
	v, err := g.lab.Status(ctx)
	return v, g.after(err)
}

func (g guarded) Inspect(ctx context.Context) (*live.Inspection, error) {
	v, err := g.lab.Inspect(ctx)
	return v, g.after(err)
}

func (g guarded) Logs(ctx context.Context, l live.Logs, w io.Writer) error {
	return g.after(g.lab.Logs(ctx, l, w))
}

func (g guarded) Apply(ctx context.Context, a live.Apply) (*live.Change, error) {
	v, err := g.lab.Apply(ctx, a)
	return v, g.after(err)
}

func (g guarded) Run(ctx context.Context, r live.Run, emit func(wire.Event)) error {
	return g.after(g.lab.Run(ctx, r, emit))
}

func (g guarded) Capture(ctx context.Context, c live.Capture, w io.Writer) error {
	return g.after(g.lab.Capture(ctx, c, w))
}

func (g guarded) Fault(ctx context.Context, f live.Fault) (*live.Change, error) {
	v, err := g.lab.Fault(ctx, f)
	return v, g.after(err)
}

func (g guarded) Heal(ctx context.Context, h live.Heal) (*live.Change, error) {
	v, err := g.lab.Heal(ctx, h)
	return v, g.after(err)
}
