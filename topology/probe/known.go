package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lvslab/lvslab/topology"
)

// Known are the features that were asked about, each once, so that many labs may
// ask for the same. Its methods may be called from several goroutines.
type Known struct {
	// Features finds out about features. It must be given.
	Features func(context.Context, []topology.Feature) []Answer

	mu    sync.Mutex // held while asking: labs that start together ask alike
	known map[topology.Feature]Answer
}

// Ask answers in the order of features. An answer that could not be told is not
// kept: it may be told the next time.
func (k *Known) Ask(ctx context.Context, features []topology.Feature) []Answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ask []topology.Feature
	for _, f := range features {
		if _, ok := k.known[f]; !ok && !slices.Contains(ask, f) {
			ask = append(ask, f)
		}
	}
	unknown := make(map[topology.Feature]Answer)
	if len(ask) > 0 {
		if k.known == nil {
			k.known = make(map[topology.Feature]Answer)
		}
		for _, a := range k.Features(ctx, ask) {
			if a.Verdict == Unknown {
				unknown[a.Feature] = a
			} else {
				k.known[a.Feature] = a
			}
		}
	}
	answers := make([]Answer, len(features))
	for i, f := range features {
		a, ok := k.known[f]
		if !ok {
			a = unknown[f]
		}
		answers[i] = a
	}
	return answers
}

// Missing says which features the kernel lacks. It makes none available: that is
// not ours to do on somebody's machine. A feature of which it cannot be told is
// an error.
func (k *Known) Missing(ctx context.Context, features []topology.Feature) (missing []topology.Feature, err error) {
	var errs []error
	for _, a := range k.Ask(ctx, features) {
		switch a.Verdict {
		case Yes:
		case No:
			missing = append(missing, a.Feature)
		case Unknown:
			why := a.Why
			if a.Fix != "" {
				why += "; try " + a.Fix
			}
			errs = append(errs, fmt.Errorf("it cannot be told whether this kernel has %s: %s", a.Feature, why))
		}
	}
	return missing, errors.Join(errs...)
}
