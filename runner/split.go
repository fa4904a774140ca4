package runner

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/lvslab/lvslab/scenarios"
)

// Timings are how long labs took, by their names.
type Timings map[string]time.Duration

// longest bounds what a lab can be said to take; a second less than a
// microsecond counts as one.
const longest = uint64(24 * time.Hour / time.Microsecond)

// Split deals labs to so many parts, of which each is to be run on a machine of
// its own: the longest first, each to the part with least to do until then. Every
// lab is in one part, in the order in which it came; with fewer labs than parts,
// some are empty. The same labs and timings make the same parts on every machine,
// in whatever order the labs come.
//
// What a lab takes, the last of the timings that knows it says. Of labs that none
// knows it is guessed from what they do. As each of the timings may be of another
// machine, what is known from those before it is brought to its measure first, by
// the labs that are in both.
func Split(labs []*scenarios.Lab, parts int, timings ...Timings) [][]*scenarios.Lab {
	cost := costs(labs, timings)
	order := make([]int, len(labs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(cost[b], cost[a]), strings.Compare(labs[a].Name, labs[b].Name))
	})
	split := make([][]int, parts)
	load := make([]uint64, parts)
	for _, lab := range order {
		at := slices.Index(load, slices.Min(load))
		split[at] = append(split[at], lab)
		load[at] += cost[lab]
	}
	dealt := make([][]*scenarios.Lab, parts)
	for i, part := range split {
		slices.Sort(part)
		for _, lab := range part {
			dealt[i] = append(dealt[i], labs[lab])
		}
	}
	return dealt
}

// guessed is the unit of weigh, in microseconds.
const guessed = 100

// costs are what labs take, in microseconds. Whole numbers are the same on every
// kind of machine, which floating-point ones need not be.
func costs(labs []*scenarios.Lab, timings []Timings) []uint64 {
	cost := make([]uint64, len(labs))
	for i, l := range labs {
		cost[i] = min(uint64(max(weigh(l), 1)), longest/guessed) * guessed
	}
	for _, known := range timings {
		var before, after uint64
		for i, l := range labs {
			if d, ok := known[l.Name]; ok {
				before, after = before+cost[i], after+micros(d)
			}
		}
		if before == 0 {
			continue
		}
		for i, l := range labs {
			if d, ok := known[l.Name]; ok {
				cost[i] = micros(d)
			} else {
				cost[i] = scale(cost[i], after, before)
			}
		}
	}
	return cost
}

func micros(d time.Duration) uint64 {
	return min(uint64(max(d, time.Microsecond)/time.Microsecond), longest)
}

// scale is v·num/den, within the bounds of what a lab takes.
func scale(v, num, den uint64) uint64 {
	hi, lo := bits.Mul64(v, num)
	if hi >= den {
		return longest
	}
	q, _ := bits.Div64(hi, lo, den)
	return max(1, min(q, longest))
}
