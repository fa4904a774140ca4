package engine_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lvslab/lvslab/runner/engine"
	"github.com/lvslab/lvslab/runner/node"
	"github.com/lvslab/lvslab/runner/node/tools"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/topology"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func TestMain(m *testing.M) {
	tools.Enter()
	node.Main()
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "making network namespaces needs root"
	if os.Getenv("LVSLAB_REQUIRE") == "1" {
		t.Fatal(why + ", and LVSLAB_REQUIRE=1 is set")
	}
	t.Skip(why)
}

// anything has all that a lab asks for.
var anything = engine.Host{Ensure: func(context.Context, []topology.Feature) ([]topology.Feature, error) { return nil, nil }}

// events are those of a run of lab files in this kernel.
func events(t *testing.T, host engine.Host, job wire.Job, texts map[string]string) map[string][]wire.Event {
	t.Helper()
	job.Version = wire.Version
	for name, text := range texts {
		job.Files = append(job.Files, wire.File{Path: name + ".yaml", Name: name, Data: []byte(text)})
		job.Labs = append(job.Labs, name)
	}
	var mu sync.Mutex
	got := make(map[string][]wire.Event)
	if err := engine.Run(t.Context(), host, job, func(e wire.Event) {
		mu.Lock()
		defer mu.Unlock()
		got[e.Lab] = append(got[e.Lab], e)
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func last(es []wire.Event) wire.Event {
	if len(es) == 0 {
		return wire.Event{}
	}
	return es[len(es)-1]
}

func TestWalk(t *testing.T) {
	needRoot(t)
	es := events(t, anything, wire.Job{}, map[string]string{"walk": read(t, "walk.yaml")})["walk"]
	for _, e := range es {
		if e.Kind == wire.StepFinished && e.Verdict != wire.Pass {
			t.Errorf("step %d, %s: %s %s", e.Step.Index, e.Step.Name, e.Verdict, e.Step.Error)
			for _, r := range e.Step.Results {
				if r.Verdict != wire.Pass {
					t.Errorf("  %s: wanted %s, seen %s\n%v", r.Pos, r.Wanted, r.Seen, r.Evidence)
				}
			}
		}
	}
	if e := last(es); e.Kind != wire.LabFinished || e.Verdict != wire.Pass {
		t.Errorf("the lab ended with %s %s %s", e.Kind, e.Verdict, e.Message)
	}
}

// What changes from run to run: times, ports, sequence numbers.
var unsteady = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\d+\.\d+ ms`), "N ms"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d+`), "TIME"},
	{regexp.MustCompile(`(10\.77\.0\.250[:.])\d{4,5}\b`), "${1}PORT"},
	{regexp.MustCompile(`\b(seq|ack|win|id) \d+(:\d+)?`), "$1 N"},
	{regexp.MustCompile(`\b(REACHABLE|STALE|DELAY|PROBE)\b`), "RESOLVED"},
	{regexp.MustCompile(`(?m)^((?:TcpExt|IpExt|Ip|Tcp|Icmp)\w*) +[+-]\d+$`), "$1 +N"},
}

// TestRed shows what a learner sees under each kind of expectation when it
// fails: what was wanted, what was seen, and what to look at next.
func TestRed(t *testing.T) {
	needRoot(t)
	es := events(t, anything, wire.Job{}, map[string]string{"red": read(t, "red.yaml")})["red"]
	if e := last(es); e.Verdict != wire.Fail {
		t.Errorf("the lab ended as %s: %s", e.Verdict, e.Message)
	}
	var b strings.Builder
	for _, e := range es {
		if e.Kind != wire.StepFinished {
			continue
		}
		if e.Step.Error != "" {
			t.Error(e.Step.Error)
		}
		for _, r := range e.Step.Results {
			if r.Verdict != wire.Fail {
				t.Errorf("%s: %s passes: seen %s", r.Pos, r.Wanted, r.Seen)
			}
			fmt.Fprintf(&b, "%s: %s\n  wanted: %s\n  seen:   %s\n", r.Pos, r.Check, r.Wanted, r.Seen)
			for _, ev := range r.Evidence {
				// Which packets and counters there are besides depends on the
				// kernel's timing.
				if strings.HasPrefix(ev.Title, "packets at") || strings.HasPrefix(ev.Title, "counters of") {
					fmt.Fprintf(&b, "  %s: …\n", ev.Title)
					continue
				}
				fmt.Fprintf(&b, "  %s:\n", ev.Title)
				for line := range strings.Lines(strings.TrimRight(ev.Text, "\n") + "\n") {
					b.WriteString("    " + line)
				}
			}
		}
	}
	got := b.String()
	for _, u := range unsteady {
		got = u.re.ReplaceAllString(got, u.by)
	}
	const golden = "testdata/red.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, "red.golden"), got); diff != "" {
		t.Errorf("%s\nif that is better, go test -update", diff)
	}
}

const small = `title: small
networks: {lan: 10.77.0.0/24}
nodes:
  a: {links: {eth0: lan 10.77.0.1/24}}
  b: {links: {eth0: lan 10.77.0.2/24}}
steps:
- name: ping
  do: [ping: {from: a, to: b}]
  expect: [result: ok]
`

func TestVerdicts(t *testing.T) {
	needRoot(t)
	lacking := engine.Host{Ensure: func(_ context.Context, needs []topology.Feature) ([]topology.Feature, error) { return needs[:1], nil }}
	broken := engine.Host{Ensure: func(context.Context, []topology.Feature) ([]topology.Feature, error) { return nil, os.ErrPermission }}
	crowded := engine.Host{Ensure: anything.Ensure, Room: func(n int) error { return fmt.Errorf("no room for %d", n) }}
	for name, c := range map[string]struct {
		host    engine.Host
		job     wire.Job
		text    string
		verdict wire.Verdict
		message string
	}{
		"passes":       {anything, wire.Job{}, small, wire.Pass, ""},
		"fails":        {anything, wire.Job{}, strings.Replace(small, "result: ok", "result: timeout", 1), wire.Fail, ""},
		"skipped":      {lacking, wire.Job{}, small, wire.Skip, "this kernel lacks bridge"},
		"not probed":   {broken, wire.Job{}, small, wire.Broken, "permission denied"},
		"crowded":      {crowded, wire.Job{}, small, wire.Broken, "no room for 3"},
		"no such role": {anything, wire.Job{Omit: []string{"tunnel-up"}}, small, wire.Broken, `no op of lab plays the role "tunnel-up"`},
		"no node":      {anything, wire.Job{Omit: []string{"node"}}, small, wire.Broken, "setting the lab up: node a is not there"},
		"no counter":   {anything, wire.Job{}, strings.Replace(small, "result: ok", "counter: {node: a, NoSuch: 1}", 1), wire.Broken, ""},
		"too slow":     {anything, wire.Job{Timeout: 300 * time.Millisecond}, strings.Replace(small, "ping: {from: a, to: b}", "ping: {from: a, to: 10.77.0.9, count: 100}", 1), wire.Broken, ""},
	} {
		t.Run(name, func(t *testing.T) {
			es := events(t, c.host, c.job, map[string]string{"lab": c.text})["lab"]
			e := last(es)
			if e.Kind != wire.LabFinished || e.Verdict != c.verdict || !strings.Contains(e.Message, c.message) {
				t.Errorf("%s %s: %s; want %s: %s", e.Kind, e.Verdict, e.Message, c.verdict, c.message)
			}
			if es[0].Kind != wire.LabStarted || es[0].Version != wire.Version || es[0].Time.IsZero() {
				t.Errorf("it began with %+v", es[0])
			}
			if e.Verdict == wire.Broken && e.Message == "" {
				for _, s := range es {
					if s.Kind == wire.StepFinished && s.Step.Error != "" {
						t.Log(s.Step.Error)
						return
					}
				}
				t.Error("broken without a reason")
			}
		})
	}
}

// Labs with the same names and addresses, at once, do not meet.
func TestAtOnce(t *testing.T) {
	needRoot(t)
	texts := make(map[string]string)
	for i := range 6 {
		texts[fmt.Sprintf("lab%d", i)] = small
	}
	for name, es := range events(t, anything, wire.Job{Parallel: 6}, texts) {
		if e := last(es); e.Verdict != wire.Pass {
			t.Errorf("%s: %s %s", name, e.Verdict, e.Message)
		}
	}
}

func TestJobErrors(t *testing.T) {
	for want, job := range map[string]wire.Job{
		"the job is of version 99, this lvslab is of 1":         {Version: 99},
		"the job asks for lab x, which none of its files holds": {Version: wire.Version, Labs: []string{"x"}},
		"f: is empty; a lab begins with title: and networks:":   {Version: wire.Version, Files: []wire.File{{Path: "f", Name: "f"}}},
	} {
		if err := engine.Run(t.Context(), anything, job, func(wire.Event) {}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
