package runner_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
)

// shardedBackend has several kernels at once. If one dies, it is the first, in its
// first job, after one lab; if one does not boot, it is the second.
type shardedBackend struct {
	fakeBackend
	shards        int
	dies, refuses bool

	mu    sync.Mutex
	boots int
	jobs  []int // labs of each
}

func (b *shardedBackend) Shards() int { return b.shards }

func (b *shardedBackend) Boot(context.Context) (runner.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boots++
	if b.refuses && b.boots == 2 {
		return nil, errors.New("no room now")
	}
	return &shardedSession{fakeSession{&b.fakeBackend}, b, b.dies && b.boots == 1}, nil
}

type shardedSession struct {
	fakeSession
	all  *shardedBackend
	dies bool
}

func (s *shardedSession) Run(ctx context.Context, job wire.Job, emit func(wire.Event)) error {
	s.all.mu.Lock()
	s.all.jobs = append(s.all.jobs, len(job.Labs))
	s.all.mu.Unlock()
	if len(job.Labs) > 1 && len(job.Files) != len(job.Labs) {
		return fmt.Errorf("%d files for %d labs of a file each", len(job.Files), len(job.Labs))
	}
	if !s.dies {
		return s.fakeSession.Run(ctx, job, emit)
	}
	job.Labs = job.Labs[:1]
	_ = s.fakeSession.Run(ctx, job, emit)
	return errors.New("killed")
}

// Many labs are shared out to several kernels, of which one dies and another
// does not boot at once: every lab comes to one verdict.
func TestRunShared(t *testing.T) {
	var files []wire.File
	for i := range 30 {
		name := fmt.Sprintf("lab%d", i)
		files = append(files, wire.File{Path: name + ".yaml", Name: name, Data: []byte(exampleLab)})
	}
	for i, o := range []runner.Options{{}, {}, {Parallel: 2}} {
		b := &shardedBackend{dies: i != 1, refuses: i == 1, fakeBackend: fakeBackend{name: "uml", has: []string{"netns", "veth", "bridge", "overlay", "ip_vs", "ip_vs_rr"}}, shards: 3}
		o.Files, o.Backends = files, []runner.Backend{b}
		finished, started := make(map[string]int), 0
		counts, err := runner.Run(t.Context(), o, func(e wire.Event) {
			switch e.Kind {
			case wire.LabFinished:
				finished[e.Lab]++
			case wire.RunStarted:
				started++
			}
		})
		if err != nil || counts.Pass != len(files) || started != 1 {
			t.Errorf("%v, %+v, %d times run_started", err, counts, started)
		}
		for _, f := range files {
			if finished[f.Name] != 1 {
				t.Errorf("%s has %d verdicts", f.Name, finished[f.Name])
			}
		}
	}
	// More or fewer kernels at once than the backend would have.
	for _, n := range []int{1, 2, 5} {
		b := &shardedBackend{fakeBackend: fakeBackend{name: "uml", has: []string{"netns", "veth", "bridge", "overlay", "ip_vs", "ip_vs_rr"}}, shards: 3}
		o := runner.Options{Files: files, Backends: []runner.Backend{b}, Kernels: n}
		if counts, err := runner.Run(t.Context(), o, func(wire.Event) {}); err != nil || counts.Pass != len(files) || b.boots != n {
			t.Errorf("%d at once: %v, %+v, %d kernels", n, err, counts, b.boots)
		}
	}
	// A few labs, or the first failure to stop at, are for one kernel.
	for _, o := range []runner.Options{{Files: files[:1]}, {Files: files, FailFast: true}} {
		b := &shardedBackend{fakeBackend: fakeBackend{name: "uml", has: []string{"netns", "veth", "bridge", "overlay", "ip_vs", "ip_vs_rr"}}, shards: 3}
		o.Backends = []runner.Backend{b}
		if _, err := runner.Run(t.Context(), o, func(wire.Event) {}); err != nil || len(b.jobs) != 1 {
			t.Errorf("%v, jobs of %v labs", err, b.jobs)
		}
	}
}
