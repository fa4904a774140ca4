package runner

import (
	"fmt"
	"slices"
	"testing"
)

func tasksOf(weights ...int) []task {
	var tasks []task
	for i, w := range weights {
		tasks = append(tasks, task{lab: fmt.Sprintf("lab%d", i), weight: w})
	}
	return tasks
}

// dealt is all that a deck holds, in hands: the first ones, then the small.
func dealt(d *deck) [][]string {
	hands := slices.Clone(d.hands)
	for hand := d.more(); hand != nil; hand = d.more() {
		hands = append(hands, hand)
	}
	return hands
}

func TestDeckSmall(t *testing.T) {
	for labs, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 3, 100: 4} {
		d := newDeck(tasksOf(slices.Repeat([]int{1}, labs)...), 4)
		if len(d.hands) != want && labs != 100 || len(d.hands) > want {
			t.Errorf("%d labs: %d kernels, wanted %d", labs, len(d.hands), want)
		}
	}
	// Alone in one kernel, labs keep their order.
	if d := newDeck(tasksOf(1, 3, 2), 1); !slices.Equal(d.hands[0], []string{"lab0", "lab1", "lab2"}) || d.more() != nil {
		t.Errorf("one kernel: %v", d.hands)
	}
}

func TestDeckDealsAllOnce(t *testing.T) {
	var weights []int
	for i := range 97 {
		weights = append(weights, 50+i*i%977)
	}
	for kernels := 1; kernels <= 8; kernels++ {
		tasks := tasksOf(weights...)
		weight := make(map[string]int)
		for _, k := range tasks {
			weight[k.lab] = k.weight
		}
		d := newDeck(tasks, kernels)
		if len(d.hands) != kernels {
			t.Errorf("%d hands for %d kernels", len(d.hands), kernels)
		}
		var light, heavy int
		for i, hand := range d.hands {
			w := 0
			for _, lab := range hand {
				w += weight[lab]
			}
			if i == 0 || w < light {
				light = w
			}
			heavy = max(heavy, w)
		}
		if heavy-light > slices.Max(weights) {
			t.Errorf("%d kernels: hands of %d to %d", kernels, light, heavy)
		}
		seen := make(map[string]int)
		for _, hand := range dealt(d) {
			for _, lab := range hand {
				seen[lab]++
			}
		}
		for _, k := range tasks {
			if seen[k.lab] != 1 {
				t.Errorf("%d kernels: %s is dealt %d times", kernels, k.lab, seen[k.lab])
			}
		}
	}
}

// Labs of IPv6 are in a kernel's first hand or in none, and in few kernels.
func TestDeckIPv6First(t *testing.T) {
	for _, six := range []int{1, 4, 30, 40} {
		tasks := tasksOf(slices.Repeat([]int{10}, 40)...)
		ipv6 := make(map[string]bool)
		for i := range six {
			tasks[i*7%40].ipv6 = true
			ipv6[tasks[i*7%40].lab] = true
		}
		d := newDeck(tasks, 3)
		first, with := len(d.hands), 0
		for i, hand := range dealt(d) {
			if !slices.ContainsFunc(hand, func(lab string) bool { return ipv6[lab] }) {
				continue
			}
			with++
			if i >= first {
				t.Errorf("%d labs of IPv6: hand %d has some and is no first one: %v", six, i, hand)
			}
		}
		if six <= 10 && with != 1 {
			t.Errorf("%d labs of IPv6 are in %d kernels", six, with)
		}
	}
}
