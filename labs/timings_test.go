package labs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// names are those of all labs that the shipped files hold.
func names(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, f := range All() {
		labs, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range labs {
			all = append(all, l.Name)
		}
	}
	return all
}

// Every lab has been measured, but those that User-Mode Linux or a machine without
// their program skips, and nothing else has. How long each takes is the machine's,
// and not looked at.
//
// The file is written anew from the events of a run of all labs:
//
//	lvslab run --kernel uml --jobs 1 --json=/tmp/events
//	LVSLAB_TIMINGS=/tmp/events go test ./labs -run Timings
func TestTimings(t *testing.T) {
	all := names(t)
	if events := os.Getenv("LVSLAB_TIMINGS"); events != "" {
		data, err := measured(events, all)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("timings.json", data, 0o644); err != nil {
			t.Fatal(err)
		}
		timings = data
	}
	known := Timings()
	unmeasured := []string{"schedulers/twos", "fullnat/nf-tables", "services/nginx"}
	for _, name := range all {
		if _, ok := known[name]; !ok && !slices.Contains(unmeasured, name) {
			t.Errorf("%s is not in timings.json; CONTRIBUTING.md says how it is written anew", name)
		}
	}
	for name, d := range known {
		if !slices.Contains(all, name) {
			t.Errorf("timings.json has %s, which is no lab", name)
		}
		if d <= 0 || d > time.Minute {
			t.Errorf("timings.json: %s takes %s", name, d)
		}
	}
}

// measured makes the file of the events of a run.
func measured(events string, all []string) ([]byte, error) {
	data, err := os.ReadFile(events)
	if err != nil {
		return nil, err
	}
	seconds := make(map[string]float64)
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e wire.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", events, err)
		}
		if e.Kind == wire.LabFinished && e.Verdict == wire.Pass {
			seconds[e.Lab] = max(0.01, math.Round(e.Seconds*100)/100)
		}
	}
	var out []string
	for _, name := range all {
		if s, ok := seconds[name]; ok {
			out = append(out, fmt.Sprintf("  %q: %g", name, s))
		}
	}
	return []byte("{\n" + strings.Join(out, ",\n") + "\n}\n"), lines.Err()
}
