package runner_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner"
	"github.com/lvslab/lvslab/scenarios"
)

func named(n int) []*scenarios.Lab {
	labs := make([]*scenarios.Lab, n)
	for i := range labs {
		labs[i] = &scenarios.Lab{Name: fmt.Sprintf("lab%d", i), Steps: make([]scenarios.Step, i%7)}
	}
	return labs
}

func namesOf(labs []*scenarios.Lab) string {
	words := make([]string, len(labs))
	for i, l := range labs {
		words[i] = l.Name
	}
	return strings.Join(words, " ")
}

// Whatever the labs, their number and what they take, each is in one part, in
// the order in which it came, and no part has more than the shortest one and its
// own last lab.
func TestSplitProperties(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		labs := named(r.IntN(60))
		parts := 1 + r.IntN(12)
		known := make(runner.Timings)
		for _, l := range labs {
			known[l.Name] = time.Duration(r.Int64N(int64(20 * time.Second)))
		}
		split := runner.Split(labs, parts, known)
		if len(split) != parts {
			t.Fatalf("seed %d: %d parts, wanted %d", seed, len(split), parts)
		}
		times := make(map[string]int)
		load := make([]time.Duration, parts)
		longest := time.Duration(0)
		for i, part := range split {
			last := -1
			for _, l := range part {
				at := slices.Index(labs, l)
				if at <= last {
					t.Errorf("seed %d: part %d is not in the order of the labs: %s", seed, i, namesOf(part))
				}
				last = at
				times[l.Name]++
				load[i] += known[l.Name]
				longest = max(longest, known[l.Name])
			}
		}
		for _, l := range labs {
			if times[l.Name] != 1 {
				t.Errorf("seed %d: %s is in %d parts", seed, l.Name, times[l.Name])
			}
		}
		if slices.Max(load)-slices.Min(load) > longest+time.Duration(len(labs))*time.Microsecond {
			t.Errorf("seed %d: parts of %v, and no lab is longer than %s", seed, load, longest)
		}
		shuffled := slices.Clone(labs)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for i, part := range runner.Split(shuffled, parts, known) {
			slices.SortFunc(part, func(a, b *scenarios.Lab) int { return slices.Index(labs, a) - slices.Index(labs, b) })
			if !slices.Equal(part, split[i]) {
				t.Errorf("seed %d: in another order, part %d is %s, before it was %s", seed, i, namesOf(part), namesOf(split[i]))
			}
		}
	}
}

// The longest lab is alone, whatever was guessed.
func TestSplitByTime(t *testing.T) {
	labs := named(5)
	seconds := func(s ...float64) runner.Timings {
		k := make(runner.Timings)
		for i, v := range s {
			if v > 0 {
				k[labs[i].Name] = time.Duration(v * float64(time.Second))
			}
		}
		return k
	}
	for _, c := range []struct {
		timings []runner.Timings
		want    string
	}{
		{[]runner.Timings{seconds(9, 1, 1, 1, 1)}, "lab0 | lab1 lab2 lab3 lab4"},
		// The later ones win over the earlier.
		{[]runner.Timings{seconds(9, 1, 1, 1, 1), seconds(1, 1, 1, 1, 9)}, "lab4 | lab0 lab1 lab2 lab3"},
		// One that is ten times as fast knows three of them: the others keep
		// their proportion to these.
		{[]runner.Timings{seconds(9, 1, 1, 1, 1), seconds(0, 0.1, 0.1, 0.1)}, "lab0 | lab1 lab2 lab3 lab4"},
		// Of nothing known, nothing happens.
		{[]runner.Timings{seconds(9, 1, 1, 1, 1), {}}, "lab0 | lab1 lab2 lab3 lab4"},
		// Impossible ones stay within bounds; those that are not known are
		// brought to their measure.
		{[]runner.Timings{{"lab0": -1, "lab1": 1 << 62, "lab2": 0}}, "lab1 lab3 | lab0 lab2 lab4"},
	} {
		split := runner.Split(labs, 2, c.timings...)
		if got := namesOf(split[0]) + " | " + namesOf(split[1]); got != c.want {
			t.Errorf("%v: %s, wanted %s", c.timings, got, c.want)
		}
	}
}

// These parts are the same on every machine, today and tomorrow.
func TestSplitIsFixed(t *testing.T) {
	var got []string
	for _, part := range runner.Split(named(9), 3) {
		got = append(got, namesOf(part))
	}
	const want = "lab1 lab6 lab8 | lab0 lab2 lab5 | lab3 lab4 lab7"
	if g := strings.Join(got, " | "); g != want {
		t.Errorf("%s, wanted %s", g, want)
	}
}

func TestReadTimings(t *testing.T) {
	finished := func(lab, verdict string, seconds float64) string {
		return fmt.Sprintf(`{"version":1,"event":"lab_finished","lab":%q,"verdict":%q,"seconds":%g}`, lab, verdict, seconds) + "\n"
	}
	for _, c := range []struct{ data, want, err string }{
		{data: `{"a": 1.5, "b": 0}`, want: "map[a:1.5s b:1µs]"},
		{data: `{"version":1,"event":"run_started"}` + "\n" + finished("a", "pass", 1) + finished("a", "fail", 2) + finished("b", "skip", 9), want: "map[a:1.5s]"},
		{data: finished("a", "pass", 1e300), want: "map[a:24h0m0s]"},
		{data: "", err: "how long no lab took"},
		{data: "{}", err: "how long no lab took"},
		{data: finished("b", "broken", 9), err: "how long no lab took"},
		{data: finished("a", "pass", 1) + "{", err: "line 2: unexpected EOF"},
		{data: `{"version":2,"event":"lab_finished"}`, err: "no event of version 1"},
		{data: "title: A lab\n", err: "line 1: invalid character"},
	} {
		got, err := runner.ReadTimings([]byte(c.data))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "wanted the events") {
				t.Errorf("%q: %v, wanted an error with %q", c.data, err, c.err)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%q: %v, %v, wanted %s", c.data, got, err, c.want)
		}
	}
}
