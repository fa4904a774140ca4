package importer

// equal is a weight of one for each server.
func equal(servers []server) []int64 {
	out := make([]int64, len(servers))
	for i := range out {
		out[i] = 1
	}
	return out
}

// reduced are the servers' weights without the divisor that all have in common,
// so that they are the turns of one round.
func reduced(servers []server) []int64 {
	out := make([]int64, len(servers))
	var d int64
	for i, s := range servers {
		out[i] = int64(s.Weight)
		d = gcd(d, out[i])
	}
	for i := range out {
		out[i] /= max(1, d)
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func sum(list []int64) int64 {
	var out int64
	for _, w := range list {
		out += w
	}
	return out
}

// mostSimulated bounds how many turns of a round are gone through; of a longer
// one nothing is expected but that all answers are the servers'.
const mostSimulated = 100_000

// windows are how often each server can be asked by n requests of wrr that begin
// anywhere in its round. wrr counts a threshold down, from the highest weight to 1,
// and asks at each stage all servers whose weight is not below it
// (net/netfilter/ipvs/ip_vs_wrr.c). In what order those of one stage are asked
// is the kernel's list's to say, so that at both ends one more or less is possible.
func windows(weights []int64, n int) []bounds {
	out := make([]bounds, len(weights))
	for i := range out {
		out[i] = bounds{0, n}
	}
	if sum(weights) > mostSimulated {
		return out
	}
	var turns []int
	highest := int64(0)
	for _, w := range weights {
		highest = max(highest, w)
	}
	for stage := highest; stage >= 1; stage-- {
		for i := range weights {
			if weights[i] >= stage {
				turns = append(turns, i)
			}
		}
	}
	count := make([]int, len(weights))
	for k := range n {
		count[turns[k%len(turns)]]++
	}
	for i := range out {
		out[i] = bounds{count[i], count[i]}
	}
	for at := range turns {
		count[turns[at]]--
		count[turns[(at+n)%len(turns)]]++
		for i := range out {
			out[i].least, out[i].most = min(out[i].least, count[i]), max(out[i].most, count[i])
		}
	}
	for i := range out {
		out[i].least, out[i].most = max(0, out[i].least-1), min(n, out[i].most+1)
	}
	return out
}

// greedy are how often each server can be asked by n requests of a scheduler that
// takes the one with the fewest for its weight, when all begin even. Whoever is
// asked has then no more for its weight than any other, so that
//
//	(count-1)/weight <= least <= n/all, and least >= (n-servers)/all
func greedy(weights []int64, n int) []bounds {
	out := make([]bounds, len(weights))
	all, k := sum(weights), int64(len(weights))
	for i, w := range weights {
		out[i].most = int(min(int64(n), int64(n)*w/all+1))
		if rest := int64(n) - k; rest > 0 {
			out[i].least = int((rest*w + all - 1) / all)
		}
	}
	return out
}

// expectedDelay are how often each server is asked by n connections that stay
// open: the least (open + 1) / weight is next, the last added of equal ones, and
// with nq one that is idle before all (ip_vs_sed.c, ip_vs_nq.c). Where the order
// in which they were added is not known, equal ones may have one more or less.
func expectedDelay(weights []int64, n int, idleFirst, ordered bool) []bounds {
	open := make([]int64, len(weights))
	for range n {
		best := -1
		for i := len(weights) - 1; i >= 0; i-- {
			if idleFirst && open[i] == 0 {
				best = i
				break
			}
			if best < 0 || (open[i]+1)*weights[best] < (open[best]+1)*weights[i] {
				best = i
			}
		}
		open[best]++
	}
	out := make([]bounds, len(weights))
	whole := int64(n) == sum(weights)
	for i, c := range open {
		out[i] = bounds{int(c), int(c)}
		if !ordered && !whole {
			out[i] = bounds{int(max(0, c-1)), int(c) + 1}
		}
	}
	return out
}
