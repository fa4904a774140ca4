package runner

import (
	"cmp"
	"slices"
	"sync"

	"github.com/lvslab/lvslab/scenarios"
)

// Shards is implemented by a backend of which several kernels can run at once, so
// that a run of many labs is shared out to them.
type Shards interface {
	// Shards is how many kernels run at once unless Options.Kernels says
	// another number; 1 at least.
	Shards() int
}

// labsPerKernel is how many labs make it worth to boot another kernel, which
// takes about as long as one of them, where nobody has asked for it.
const labsPerKernel = 3

// task is one lab, as far as dealing goes.
type task struct {
	lab string
	// weight is what the lab is guessed to cost.
	weight int
	// ipv6 is of a lab that must be among the first in its kernel: once ipv6 is
	// loaded for labs that want it off, it stays off for all.
	ipv6 bool
}

// weigh guesses the CPU time of a lab, in some hundred microseconds of a guest:
// a node's making and end, a step's observations, a connection through the whole
// of it, a process.
func weigh(l *scenarios.Lab) int {
	const node, step, request, process = 60, 30, 12, 250
	w := node * (len(l.Nodes) + len(l.Networks))
	for _, s := range l.Steps {
		w += step
		for _, a := range s.Do {
			switch {
			case a.Request != nil:
				w += request * max(a.Request.Count, 1)
			case a.Run != nil:
				w += process
			}
		}
	}
	return w
}

// deck deals the labs of a run to its kernels: to each at first a hand of most
// labs, then small ones as long as there are any, so that a wrong guess of what
// labs cost is made good at the end. Each hand begins with the heaviest.
type deck struct {
	mu    sync.Mutex
	hands [][]string // the first hand of each kernel
	rest  [][]string // the small ones
}

// firstPart is the share of all weight that is in the first hands, in percent,
// and restPerKernel the number of small hands for each kernel. Of a few labs all
// are in the first hands.
const firstPart, restPerKernel = 75, 2

// newDeck deals tasks to so many kernels, of which it leaves out those that have
// nothing to do.
func newDeck(tasks []task, kernels int) *deck {
	if kernels = min(kernels, len(tasks)); kernels <= 1 {
		d := &deck{hands: [][]string{nil}}
		for _, t := range tasks {
			d.hands[0] = append(d.hands[0], t.lab)
		}
		return d
	}
	total := 0
	for _, t := range tasks {
		total += t.weight
	}
	tasks = slices.Clone(tasks)
	slices.SortStableFunc(tasks, func(a, b task) int {
		return cmp.Or(cmp.Compare(btoi(b.ipv6), btoi(a.ipv6)), cmp.Compare(b.weight, a.weight))
	})
	part := firstPart
	if len(tasks) < kernels*labsPerKernel {
		part = 100
	}
	first, rest := newPiles(kernels), newPiles(kernels*restPerKernel)
	dealt := 0
	for _, t := range tasks {
		switch {
		case t.ipv6:
			// All to one kernel, as long as it is not too much for one: the
			// others are spared an ipv6 in all their namespaces.
			i := 0
			for i < kernels-1 && first.weight[i]+t.weight > total*part/100/kernels {
				i++
			}
			first.put(i, t)
			dealt += t.weight
		case dealt < total*part/100:
			first.put(first.lightest(), t)
			dealt += t.weight
		default:
			rest.put(rest.lightest(), t)
		}
	}
	return &deck{hands: first.full(), rest: rest.full()}
}

// more is another small hand, or nothing.
func (d *deck) more() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rest) == 0 {
		return nil
	}
	hand := d.rest[0]
	d.rest = d.rest[1:]
	return hand
}

// piles are hands while they are dealt.
type piles struct {
	labs   [][]string
	weight []int
}

func newPiles(n int) *piles { return &piles{make([][]string, n), make([]int, n)} }

func (p *piles) put(i int, t task) {
	p.labs[i] = append(p.labs[i], t.lab)
	p.weight[i] += t.weight
}

func (p *piles) lightest() int { return slices.Index(p.weight, slices.Min(p.weight)) }

func (p *piles) full() [][]string {
	return slices.DeleteFunc(p.labs, func(hand []string) bool { return len(hand) == 0 })
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
