package engine

import (
	"context"
	"errors"
)

// errDown ends what still changes a lab, or runs steps in it, when the lab is
// taken down.
var errDown = errors.New("the lab is being taken down")

// turns has those that change a lab wait for one another, for no longer than they
// want to, and ends what they do when the lab is taken down.
type turns struct {
	held chan struct{}
	life context.Context
	end  context.CancelCauseFunc
}

func newTurns() turns {
	t := turns{held: make(chan struct{}, 1)}
	t.life, t.end = context.WithCancelCause(context.Background())
	return t
}

// take waits for a turn. The context that it returns ends with ctx, and with
// errDown when the lab is taken down; done ends the turn.
func (t turns) take(ctx context.Context) (_ context.Context, done func(), _ error) {
	select {
	case t.held <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case <-t.life.Done():
		return nil, nil, errDown
	}
	if t.over() { // both may have been there to be chosen
		<-t.held
		return nil, nil, errDown
	}
	ctx, stop := t.during(ctx)
	return ctx, func() {
		stop()
		<-t.held
	}, nil
}

// during is a context that ends with ctx, and with errDown when the lab is taken
// down. stop lets go of it.
func (t turns) during(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(t.life, func() { cancel(errDown) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// over reports whether the lab is taken down.
func (t turns) over() bool { return t.life.Err() != nil }

// last is the last turn, that of who takes the lab down.
func (t turns) last() (done func()) {
	t.end(errDown)
	t.held <- struct{}{}
	return func() { <-t.held }
}
