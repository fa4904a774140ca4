package report

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
)

// Input is one of several runs that become one: what ReadEvents has returned.
type Input struct {
	// Name is the file's.
	Name   string
	Events []wire.Event
	// Err is an *IncompleteError, or nil.
	Err error
}

// Merge makes one run of several: the events of all, in the order of their shards
// and else of inputs, for any Sink, with one RunFinished at the end. Its time is
// that of the longest run, since shards run at once.
//
// A run that is not whole, and a shard that is not there, make the merged run
// broken, and its message says so; what is known is reported. So does a lab that
// is in none of the shards, as where they were not dealt by the same times. A lab that two
// inputs have of the same kernel is an error, as are shards of different wholes:
// those inputs do not belong together.
func Merge(inputs ...Input) ([]wire.Event, error) {
	m := merging{seen: make(map[string]int)}
	inputs = slices.Clone(inputs)
	for i := range inputs {
		var incomplete *IncompleteError
		if err := inputs[i].Err; err != nil && !errors.As(err, &incomplete) {
			return nil, err
		}
	}
	slices.SortStableFunc(inputs, func(a, b Input) int { return cmp.Compare(shardOf(a).Index, shardOf(b).Index) })
	missing, err := missingShards(inputs)
	if err != nil {
		return nil, err
	}
	for _, in := range inputs {
		if err := m.input(in); err != nil {
			return nil, err
		}
	}
	m.problems = append(m.problems, missing...)
	if len(missing) == 0 {
		m.problems = append(m.problems, lostLabs(inputs)...)
	}
	return m.end(), nil
}

// merging is a merged run on its way.
type merging struct {
	events   []wire.Event
	seen     map[string]int // a lab and its kernel, and the input that has it, from 1
	inputs   []string
	kernels  []string
	counts   wire.Counts
	verdict  wire.Verdict
	seconds  float64
	at       time.Time
	problems []string
}

// input adds a run.
func (m *merging) input(in Input) error {
	m.inputs = append(m.inputs, in.Name)
	var kernel, backend string
	var open []string // labs without a verdict
	worst, said := wire.Pass, wire.Event{Kind: wire.RunFinished}
	for _, e := range in.Events {
		m.at = later(m.at, e.Time)
		switch e.Kind {
		case wire.RunStarted:
			kernel, backend = e.Kernel, e.Backend
			e.Shard = nil // of a part; this is the whole
			if kernel+backend != "" {
				m.kernels = append(m.kernels, kernel+backend)
			} else if e.Message == "" {
				continue // of a shard without labs, which has nothing to say
			}
		case wire.LabStarted:
			if !slices.Contains(open, e.Lab) {
				open = append(open, e.Lab)
			}
		case wire.LabFinished:
			open = slices.DeleteFunc(open, func(n string) bool { return n == e.Lab })
			e.Kernel, e.Backend = cmp.Or(e.Kernel, kernel), cmp.Or(e.Backend, backend)
			if err := m.once(e); err != nil {
				return err
			}
			m.counts.Add(e.Verdict)
			worst = wire.Worst(worst, e.Verdict)
		case wire.RunFinished:
			said = e
			continue
		}
		m.events = append(m.events, e)
	}
	m.seconds = max(m.seconds, said.Seconds)
	if in.Err != nil {
		m.problems = append(m.problems, in.Err.Error())
		worst = wire.Broken
		for _, lab := range open {
			m.counts.Add(wire.Broken)
			m.events = append(m.events, wire.Event{
				Version: wire.Version, Kind: wire.LabFinished, Time: m.at, Lab: lab, Verdict: wire.Broken,
				Kernel: kernel, Backend: backend, Message: noVerdict + " (" + in.Name + ")",
			})
		}
	} else if v := said.Verdict; v != "" && wire.Worst(v, worst) != worst {
		// The run is worse than its labs: it did not come to its end, or the
		// kernels that it compares differ.
		m.problems = append(m.problems, in.Name+": "+cmp.Or(said.Message, wholly(v)))
		worst = v
	} else if shard := shardOf(in); m.none(in) && shard.Of == 0 {
		m.problems = append(m.problems, in.Name+": no lab was run")
		worst = wire.Broken
	}
	m.verdict = wire.Worst(cmp.Or(m.verdict, wire.Pass), worst)
	return nil
}

// none reports whether a run has no lab.
func (m *merging) none(in Input) bool {
	return !slices.ContainsFunc(in.Events, func(e wire.Event) bool { return e.Kind == wire.LabFinished })
}

// once refuses a lab that another input has of the same kernel. Within one input
// it may come again, as its second try does.
func (m *merging) once(e wire.Event) error {
	key := e.Lab + "\x00" + e.Kernel + "\x00" + e.Backend
	if other := m.seen[key]; other != 0 && other != len(m.inputs) {
		in := ""
		if e.Kernel != "" {
			in = " in " + inline(e.Kernel)
		}
		return fmt.Errorf("%s: lab %s%s is in %s too; merge runs of different labs, or of different kernels", m.inputs[len(m.inputs)-1], inline(e.Lab), in, m.inputs[other-1])
	}
	m.seen[key] = len(m.inputs)
	return nil
}

// end closes the run. Where it had several kernels, each lab's verdict names its
// own, as in a run that had several.
func (m *merging) end() []wire.Event {
	slices.Sort(m.kernels)
	if one := len(slices.Compact(m.kernels)) < 2; one {
		for i := range m.events {
			if m.events[i].Kind == wire.LabFinished {
				m.events[i].Kernel, m.events[i].Backend = "", ""
			}
		}
	}
	if len(m.problems) > 0 && met(m.verdict) {
		m.verdict = wire.Broken
	}
	counts := m.counts
	return append(m.events, wire.Event{
		Version: wire.Version, Kind: wire.RunFinished, Time: m.at, Verdict: cmp.Or(m.verdict, wire.Broken),
		Counts: &counts, Seconds: m.seconds, Message: strings.Join(m.problems, "; "),
	})
}

// shardOf is the part that an input says it is; the zero Shard if it says none.
func shardOf(in Input) wire.Shard {
	for _, e := range in.Events {
		if e.Shard != nil {
			return *e.Shard
		}
	}
	return wire.Shard{}
}

// missingShards tells of parts that are in no input, or in fewer than others are.
func missingShards(inputs []Input) ([]string, error) {
	first := -1
	times := make(map[int]int)
	for i, in := range inputs {
		s := shardOf(in)
		if s.Of == 0 {
			continue
		}
		if s.Index < 1 || s.Index > s.Of || s.Of > mostShards {
			return nil, fmt.Errorf("%s: it says that it is shard %d of %d, which there is not", in.Name, s.Index, s.Of)
		}
		if first < 0 {
			first = i
		} else if of := shardOf(inputs[first]).Of; s.Of != of {
			return nil, fmt.Errorf("%s is shard %d of %d, and %s is one of %d: they are parts of different wholes", in.Name, s.Index, s.Of, inputs[first].Name, of)
		}
		times[s.Index]++
	}
	if first < 0 {
		return nil, nil
	}
	most := 0
	for _, n := range times {
		most = max(most, n)
	}
	of := shardOf(inputs[first]).Of
	var missing []string
	for i := 1; i <= of; i++ {
		switch n := times[i]; {
		case n == 0:
			missing = append(missing, fmt.Sprintf("shard %d of %d is missing", i, of))
		case n < most:
			missing = append(missing, fmt.Sprintf("shard %d of %d is there %d of %d times", i, of, n, most))
		}
	}
	if more := len(missing) - mostMissing; more > 1 {
		missing = append(missing[:mostMissing], fmt.Sprintf("%d more are missing", more))
	}
	return missing, nil
}

// lostLabs tells of labs that are in none of the shards, though all of these are
// there. Runs of one kernel may be of other labs than those of another: what
// belongs together is of as many labs.
func lostLabs(inputs []Input) []string {
	seen := make(map[int]map[string]bool)
	for _, in := range inputs {
		all := shardOf(in).Labs
		if all > 0 && seen[all] == nil {
			seen[all] = make(map[string]bool)
		}
		for _, e := range in.Events {
			if all > 0 && e.Lab != "" {
				seen[all][e.Lab] = true
			}
		}
	}
	var lost []string
	for _, all := range slices.Sorted(maps.Keys(seen)) {
		if n := len(seen[all]); n < all {
			lost = append(lost, fmt.Sprintf("the shards of a run of %d labs hold %d of them: one ended early, or they were not dealt by the same times (--timings)", all, n))
		}
	}
	return lost
}

// mostShards is more than anybody splits a run into, and mostMissing how many of
// them are named one by one.
const mostShards, mostMissing = 100_000, 20

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
