package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/kernel"
	"github.com/lvslab/lvslab/runner/uml"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
	"github.com/lvslab/lvslab/topology/filter"
)

//go:embed testdata/dr-arptables.sh
var script []byte

// scriptName is the file of a job that holds the script.
const scriptName = "dr-arptables.sh"

// tools are those of the script, with Debian's package.
var tools = map[string]string{
	"ip": "iproute2", "ss": "iproute2", "sysctl": "procps", "arptables-legacy": "arptables", "ipvsadm": "ipvsadm",
	"curl": "curl", "tcpdump": "tcpdump", "busybox": "busybox", "awk": "mawk",
}

// BenchmarkScript compares the lab dr/arptables as lvslab runs it with a shell
// script that does and checks the same with the usual tools, in one guest. The
// ratio is the script's time by lvslab's.
func BenchmarkScript(b *testing.B) {
	const what = "a shell script for dr/arptables, against lvslab"
	b.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			skip(b, what, "no "+tool+": apt-get install "+pkg)
		}
	}
	k, err := kernel.Find(os.Getenv)
	if err != nil {
		skip(b, what, err.Error())
	}
	s, err := uml.Boot(b.Context(), uml.Config{Kernel: k, Silence: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	job := wire.Job{Labs: []string{"dr/arptables"}, Parallel: pairs(10), Files: []wire.File{{Path: scriptName, Name: scriptName, Data: script}}}
	for _, f := range labs.All() {
		if f.Name == job.Labs[0] {
			job.Files = append(job.Files, f)
		}
	}
	var got sample
	err = s.Run(b.Context(), job, func(e wire.Event) {
		var t [2]time.Duration
		if err := json.Unmarshal([]byte(e.Message), &t); err != nil {
			b.Errorf("the guest says %q", e.Message)
			return
		}
		got.ours, got.theirs = append(got.ours, t[0]), append(got.theirs, t[1])
	})
	if err != nil {
		b.Fatal(err)
	}
	swapped := sample{got.theirs, got.ours}
	b.ReportMetric(swapped.ratio(), "x-lvslab")
	b.ReportMetric(float64(median(got.ours).Milliseconds()), "ms-lvslab")
	b.ReportMetric(float64(median(got.theirs).Milliseconds()), "ms-script")
	results.add(what, swapped, swapped.ratio(), ">= 10")
}

// race is the guest's side: it runs the lab and the script in turns, so often as
// the job's Parallel says, and emits each pair's times.
func race(ctx context.Context, job wire.Job, load func(modules ...string) error, emit func(wire.Event)) error {
	var text []byte
	for i, f := range job.Files {
		if f.Name == scriptName {
			text = f.Data
			job.Files = append(job.Files[:i:i], job.Files[i+1:]...)
			break
		}
	}
	const file = "/tmp/" + scriptName
	if err := os.WriteFile(file, text, 0o755); err != nil {
		return err
	}
	times := job.Parallel
	job.Parallel = 1
	picked, err := engine.Labs(job)
	if err != nil {
		return err
	}
	plan, err := picked[0].Plan()
	if err != nil {
		return err
	}
	for _, f := range plan.Needs {
		modules := []string{string(f)}
		if f == filter.Feature {
			modules = filter.LegacyModules()
		}
		if err := load(modules...); err != nil {
			return err
		}
	}
	lvslab := func() error {
		var mu sync.Mutex
		verdict, why := wire.Broken, ""
		err := engine.Run(ctx, engine.Host{Ensure: func(context.Context, []topology.Feature) ([]topology.Feature, error) { return nil, nil }}, job, func(e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == wire.LabFinished {
				verdict, why = e.Verdict, e.Message
			}
		})
		if err == nil && verdict != wire.Pass {
			err = fmt.Errorf("the lab came to %s: %s", verdict, why)
		}
		return err
	}
	byHand := func() error {
		cmd := exec.CommandContext(ctx, "/bin/sh", file)
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("the script: %w: %s", err, out)
		}
		return nil
	}
	for i := range times + 1 { // the first counts for nothing
		order := []func() error{lvslab, byHand}
		var t [2]time.Duration
		for k := range order {
			who := (k + i) % 2
			start := time.Now()
			if err := order[who](); err != nil {
				return err
			}
			t[who] = time.Since(start)
		}
		if i > 0 {
			m, err := json.Marshal(t)
			if err != nil {
				return err
			}
			emit(wire.Event{Kind: wire.Log, Message: string(m)})
		}
	}
	return nil
}
