package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/report"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
	"github.com/lvslab/lvslab/topology"
)

const (
	// envIndex is set by Kubernetes in each pod of an Indexed Job, and counts
	// from 0 (https://kubernetes.io/docs/concepts/workloads/controllers/job/).
	// How many pods there are, Kubernetes does not say.
	envIndex = "JOB_COMPLETION_INDEX"
	// envShards says it instead of --shard.
	envShards = "LVSLAB_SHARDS"
	// autoShard stands in --shard for the index that Kubernetes has given.
	autoShard = "auto"
)

// mostShards bounds the parts of a run: more is a mistake of typing.
const mostShards = 10_000

// shardFlag is --shard: one of so many parts, from 1. index is 0 where
// Kubernetes is to say it, or where the flag was not given.
type shardFlag struct{ index, of int }

func (s *shardFlag) String() string {
	switch {
	case s.of == 0:
		return ""
	case s.index == 0:
		return fmt.Sprintf("%s/%d", autoShard, s.of)
	}
	return fmt.Sprintf("%d/%d", s.index, s.of)
}

func (s *shardFlag) Type() string { return "shard" }

var errShard = errors.New("wanted PART/PARTS, such as 3/8, or " + autoShard + "/8 in a Kubernetes Indexed Job of 8")

func (s *shardFlag) Set(text string) error {
	part, parts, ok := strings.Cut(text, "/")
	of, err := strconv.Atoi(parts)
	if !ok || err != nil || of < 1 || of > mostShards {
		return errShard
	}
	if part == autoShard {
		*s = shardFlag{0, of}
		return nil
	}
	index, err := strconv.Atoi(part)
	if err != nil {
		return errShard
	}
	if index < 1 || index > of {
		return fmt.Errorf("there is no part %d of %d: the first is 1/%d, the last %d/%d", index, of, of, of, of)
	}
	*s = shardFlag{index, of}
	return nil
}

// resolve asks the environment for what the flag leaves to it. A flag that names
// a part wins; without a flag there is one only where the environment says both
// the index and the number.
func (s shardFlag) resolve(env func(string) string) (*wire.Shard, error) {
	index, shards := env(envIndex), env(envShards)
	switch {
	case s.of == 0 && (index == "" || shards == ""):
		return nil, nil //nolint:nilnil // no part, which is no mistake
	case s.of == 0:
		of, err := strconv.Atoi(shards)
		if err != nil || of < 1 || of > mostShards {
			return nil, fmt.Errorf("%s=%s: wanted the number of completions, from 1 to %d", envShards, shards, mostShards)
		}
		s.of = of
	case s.index > 0:
		return &wire.Shard{Index: s.index, Of: s.of}, nil
	}
	n, err := strconv.Atoi(index)
	switch {
	case index == "":
		return nil, fmt.Errorf("--shard %s: %s is not set, as it is in each pod of a Kubernetes Job with completionMode: Indexed; elsewhere name the part: --shard 1/%d", &s, envIndex, s.of)
	case err != nil || n < 0:
		return nil, fmt.Errorf("%s=%s: wanted a number from 0", envIndex, index)
	case n >= s.of:
		return nil, fmt.Errorf("%s=%s: there are %d parts, so the last index is %d; the job's completions and the number of parts must be the same", envIndex, index, s.of, s.of-1)
	}
	return &wire.Shard{Index: n + 1, Of: s.of}, nil
}

// part is what a run is of a whole.
type part struct {
	// shard is nil where it is all of it.
	shard *wire.Shard
	labs  []*scenarios.Lab
	// all is how many labs the whole has.
	all int
}

// String is a line for the head of a report.
func (p part) String() string {
	text := fmt.Sprintf("shard %d of %d: %d of %s", p.shard.Index, p.shard.Of, len(p.labs), plural(p.all, "lab"))
	if len(p.labs) == 0 {
		return text + ", as there are fewer labs than shards; this shard has nothing to do"
	}
	return text
}

// part chooses the labs of this shard; all of them where there is none.
func (r *runFlags) part(all []*scenarios.Lab) (part, error) {
	shard, err := r.shard.resolve(os.Getenv)
	if err != nil {
		return part{}, usageError{err}
	}
	if shard == nil {
		if r.timings != "" {
			return part{}, usageError{errors.New("--timings is what --shard goes by; without it, all labs are run")}
		}
		return part{labs: all, all: len(all)}, nil
	}
	timings := []runner.Timings{labs.Timings()}
	if r.timings != "" {
		measured, err := readTimings(r.timings)
		if err != nil {
			return part{}, usageError{err}
		}
		timings = append(timings, measured)
	}
	shard.Labs = len(all)
	p := part{shard: shard, all: len(all)}
	p.labs = runner.Split(all, shard.Of, timings...)[shard.Index-1]
	return p, nil
}

// playing are the labs that have all of the roles, as only those are run.
func playing(all []*scenarios.Lab, omit []topology.Role) ([]*scenarios.Lab, error) {
	if len(omit) == 0 {
		return all, nil
	}
	var play []*scenarios.Lab
	for _, l := range all {
		p, err := l.Plan()
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(omit, func(r topology.Role) bool { return !slices.Contains(p.Roles, r) }) {
			play = append(play, l)
		}
	}
	if len(play) == 0 {
		return nil, runner.ErrNothingToRun
	}
	return play, nil
}

// nothing is the report of a shard without a lab, which passes.
func (x *execution) nothing() error {
	sink, err := x.sink()
	if err != nil {
		return err
	}
	emit := x.through(sink.Event)
	for _, kind := range []string{wire.RunStarted, wire.RunFinished} {
		e := wire.Event{Version: wire.Version, Kind: kind, Time: time.Now().UTC()}
		if kind == wire.RunFinished {
			e.Verdict, e.Counts = wire.Pass, &wire.Counts{}
		}
		emit(e)
	}
	x.exit = report.ExitPass
	return sink.Close()
}
