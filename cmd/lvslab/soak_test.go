package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/live"
)

// TestSoak keeps a lab up under the load of exec for as long as LVSLAB_SOAK says
// (make soak: ten minutes), and watches what the keeper and the guest's init
// take: nothing of it grows.
func TestSoak(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("LVSLAB_SOAK"))
	if err != nil {
		t.Skip("LVSLAB_SOAK is not set to a duration")
	}
	env := livingEnv(t)
	must(t, env, "up", "dr/sysctl", "--name", "mine", "--kernel", "uml")
	end := time.Now().Add(long)
	var done atomic.Int64
	var wg sync.WaitGroup
	load := func(args ...string) {
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				cmd := lvslab(t, env, append([]string{"exec"}, args...)...)
				cmd.Stdin = strings.NewReader("some input\n")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("exec %v: %v\n%s", args, err, bytes.TrimSpace(out))
				}
				done.Add(1)
			}
		})
	}
	load("mine", "client", "true")
	load("mine", "client", "--", "curl", "-s", "http://172.25.12.100/")
	load("mine", "web1", "--", "sh", "-c", "cat; ip -br a; sleep 0.2 & exit 0")
	load("-t", "mine", "web2", "--", "ls", "-l", "/etc")
	load("mine", "director", "--", "dd", "if=/dev/zero", "bs=64k", "count=50", "status=none")

	var keepers, labs []live.Gauges
	tick := time.NewTicker(max(long/60, time.Second))
	defer tick.Stop()
	for time.Now().Before(end) && !t.Failed() {
		<-tick.C
		l := psOf(t, env, "mine")
		if l.Health != healthUp {
			t.Errorf("ps: %+v", l)
			break
		}
		keepers, labs = append(keepers, l.Process), append(labs, l.Status.Process)
	}
	wg.Wait()
	t.Logf("%d programs in %s", done.Load(), long)
	for what, all := range map[string][]live.Gauges{"keeper": keepers, "lab": labs} {
		if len(all) < 20 {
			t.Fatalf("only %d looks", len(all))
		}
		// What a start takes has settled by then.
		early, late := all[len(all)/10:len(all)*3/10], all[len(all)*8/10:]
		t.Logf("%s: early %s, late %s", what, gaugeText{middle(early)}, gaugeText{middle(late)})
		for name, of := range gauges() {
			a, b := of(middle(early)), of(middle(late))
			if slack := max(a/4, 8); b > a+slack {
				t.Errorf("%s: %s grew from %d to %d", what, name, a, b)
			}
		}
	}
}

func gauges() map[string]func(live.Gauges) int64 {
	return map[string]func(live.Gauges) int64{
		"goroutines":  func(g live.Gauges) int64 { return int64(g.Goroutines) },
		"descriptors": func(g live.Gauges) int64 { return int64(g.Descriptors) },
		"threads":     func(g live.Gauges) int64 { return int64(g.Threads) },
		"memory":      func(g live.Gauges) int64 { return g.Memory },
	}
}

type gaugeText struct{ live.Gauges }

func (g gaugeText) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d threads, %.1f MB", g.Goroutines, g.Descriptors, g.Threads, float64(g.Memory)/1e6)
}

// middle has the median of each gauge.
func middle(all []live.Gauges) live.Gauges {
	of := func(f func(live.Gauges) int64) int64 {
		var list []int64
		for _, g := range all {
			list = append(list, f(g))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	g := gauges()
	return live.Gauges{Goroutines: int(of(g["goroutines"])), Descriptors: int(of(g["descriptors"])), Threads: int(of(g["threads"])), Memory: of(g["memory"])}
}
