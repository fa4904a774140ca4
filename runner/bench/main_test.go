// Package bench measures lvslab against the least that the same work can cost.
// It has benchmarks only; `make bench` runs them.
//
// Every figure is a ratio of two things measured side by side: in one run, taken
// in turns, and compared pair by pair, so that what else the machine does falls
// on both. The ratios are metrics of the benchmarks, and one table at the end.
// They are no tests: nothing fails when a machine is slow.
package bench

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lvslab/lvslab/runner/guest"
	"github.com/lvslab/lvslab/runner/node"
)

func TestMain(m *testing.M) {
	node.Main()
	bareLineInit()
	forkLoop()
	guest.Become(guest.Jobs{Run: race, Up: guest.UpLab})
	code := m.Run()
	results.print()
	os.Exit(code)
}

// pairs is how many pairs a benchmark takes: LVSLAB_BENCH_PAIRS, or else usual.
func pairs(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("LVSLAB_BENCH_PAIRS")); err == nil && n > 0 {
		return n
	}
	return usual
}

// sample is how long two things took, pair by pair.
type sample struct{ ours, theirs []time.Duration }

// ratio is the median of the pairs' ratios.
func (s sample) ratio() float64 {
	var r []float64
	for i := range min(len(s.ours), len(s.theirs)) {
		r = append(r, float64(s.ours[i])/float64(s.theirs[i]))
	}
	return median(r)
}

func median[T ~int64 | ~float64](list []T) T {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// inTurns measures pairs, the first of which counts for nothing; who begins
// changes from pair to pair.
func inTurns(b *testing.B, n int, ours, theirs func() (time.Duration, error)) sample {
	b.Helper()
	var s sample
	for i := range n + 1 {
		var o, t time.Duration
		var err error
		if i%2 == 0 {
			if o, err = ours(); err == nil {
				t, err = theirs()
			}
		} else {
			if t, err = theirs(); err == nil {
				o, err = ours()
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		if i > 0 {
			s.ours, s.theirs = append(s.ours, o), append(s.theirs, t)
		}
	}
	return s
}

// table is what the run prints at its end.
type table struct{ rows [][]string }

var results table

// add takes a row: what, lvslab's and the other's time, their ratio, the goal.
func (t *table) add(what string, s sample, ratio float64, goal string) {
	t.rows = append(t.rows, []string{what, ms(median(s.ours)), ms(median(s.theirs)), fmt.Sprintf("%.2f", ratio), goal, strconv.Itoa(len(s.ours))})
}

func (t *table) skip(what, why string) {
	t.rows = append(t.rows, []string{what, "-", "-", "-", "-", "0", why})
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

func (t *table) print() {
	if len(t.rows) == 0 {
		return
	}
	head := []string{"what", "first ms", "second ms", "ratio", "goal", "pairs"}
	width := make([]int, len(head))
	for _, r := range append([][]string{head}, t.rows...) {
		for i := range head {
			width[i] = max(width[i], len(r[i]))
		}
	}
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	fmt.Printf("\nMedians of pairs taken in turns; load average now %s\n", load)
	for _, r := range append([][]string{head}, t.rows...) {
		line := fmt.Sprintf("%-*s", width[0], r[0])
		for i := 1; i < len(head); i++ {
			line += fmt.Sprintf("  %*s", width[i], r[i])
		}
		if len(r) > len(head) {
			line += "  " + r[len(head)]
		}
		fmt.Println(line)
	}
}

// skip leaves a benchmark out and says so in the table.
func skip(b *testing.B, what, why string) {
	b.Helper()
	results.skip(what, why)
	b.Skip(why)
}
