package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// mostPictures is under how many failed steps of a lab that keeps going the whole
// picture is shown; more would hide what differs between them. What each check
// shows itself is shown always.
const mostPictures = 5

// steps does a lab's steps in their order, and calls after for each that has been
// done, whatever came of it. One that fails ends them, unless the lab keeps going;
// one that is broken always does. The message says what was left undone for want
// of time.
func (r *labRun) steps(ctx context.Context, steps []scenarios.Step, after func(*scenarios.Step)) (v wire.Verdict, message string) {
	v = wire.Pass
	for i := range steps {
		if v == wire.Fail && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return v, undone(ctx, i, len(steps))
		}
		sv := r.step(ctx, i, len(steps), &steps[i])
		after(&steps[i])
		if sv == wire.Broken && v == wire.Fail && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			// What has failed is known, and took the time that is missing.
			return v, undone(ctx, i, len(steps))
		}
		if v = wire.Worst(v, sv); v != wire.Pass && (v != wire.Fail || !r.lab.KeepGoing) {
			return v, ""
		}
	}
	return v, ""
}

// undone says that the steps from the one with this index on were not done.
func undone(ctx context.Context, from, of int) string {
	what := fmt.Sprintf("step %d was", of)
	if of-from > 1 {
		what = fmt.Sprintf("steps %d to %d were", from+1, of)
	}
	return fmt.Sprintf("%s not done to the end: %v, most of it waiting for what failed; --timeout gives it more", what, context.Cause(ctx))
}
