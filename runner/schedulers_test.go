package runner_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lvslab/lvslab/labs"
	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/runner/wire"
	"github.com/lvslab/lvslab/scenarios"
)

// schedulerLine is where a lab of chapter schedulers names its scheduler.
var schedulerLine = regexp.MustCompile(`scheduler: [a-z]+`)

// crossed are the labs that are about one scheduler each, every one under each
// of these schedulers: "crossed/LAB/SCHEDULER". The schedulers are those of the
// labs themselves, without twos, which the guest's kernel does not have.
func crossed(t *testing.T) (files []wire.File, schedulers []string) {
	t.Helper()
	var about []wire.File
	for _, f := range labs.Find("schedulers") {
		list, err := scenarios.Load(f.Path, f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		name := path.Base(f.Name)
		for _, e := range list[0].VirtualServices {
			if e.Value.Scheduler != name {
				name = "" // a lab about something else, such as flags
			}
		}
		if name != "" && name != "twos" {
			about = append(about, f)
			schedulers = append(schedulers, name)
		}
	}
	for i, f := range about {
		for _, s := range schedulers {
			name := fmt.Sprintf("crossed/%s/%s", schedulers[i], s)
			data := schedulerLine.ReplaceAll(f.Data, []byte("scheduler: "+s))
			if !strings.Contains(string(data), "scheduler: "+s) {
				t.Fatalf("%s does not say scheduler: %s where the test looks for it", f.Name, schedulers[i])
			}
			files = append(files, wire.File{Path: name + ".yaml", Name: name, Data: data})
		}
	}
	return files, schedulers
}

// TestSchedulersAreToldApart runs the lab of each scheduler under every other
// one, in one guest: it passes under its own and fails under all the rest, so
// that what it expects is what this scheduler alone does.
func TestSchedulersAreToldApart(t *testing.T) {
	if testing.Short() {
		t.Skip("runs 169 labs in a guest")
	}
	b := guestBackend(t)
	files, schedulers := crossed(t)
	for _, want := range []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"} {
		if !slices.Contains(schedulers, want) {
			t.Errorf("chapter schedulers has no lab about %s", want)
		}
	}
	got, why := make(map[string]wire.Verdict), make(map[string]string)
	var mu sync.Mutex
	run := func(files []wire.File) {
		_, err := runner.Run(t.Context(), runner.Options{Files: files, Backends: []runner.Backend{b}}, func(e wire.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e.Kind {
			case wire.StepFinished:
				_, why[e.Lab] = missed(e)
			case wire.LabFinished:
				got[e.Lab] = e.Verdict
				if e.Message != "" {
					why[e.Lab] = e.Message
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(f wire.File) wire.Verdict {
		if words := strings.Split(f.Name, "/"); words[1] != words[2] {
			return wire.Fail
		}
		return wire.Pass
	}
	run(files)
	// So many labs at once take each other's time; one that was late is run
	// again with those alone that were late, too.
	late := slices.DeleteFunc(slices.Clone(files), func(f wire.File) bool { return got[f.Name] == want(f) })
	if len(late) == 0 {
		return
	}
	for _, f := range late {
		t.Logf("to be tried again: %s came to %q: %s", f.Name, got[f.Name], why[f.Name])
	}
	run(late)
	for _, f := range late {
		if got[f.Name] != want(f) {
			t.Errorf("%s (lab/scheduler): %q, want %q: %s", f.Name, got[f.Name], want(f), why[f.Name])
		}
	}
}
